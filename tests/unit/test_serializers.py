"""What is stored comes back as it was, and what is not exactly that is refused."""

from __future__ import annotations

import enum
import math
import os
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Self
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from durable.errors import ConfigurationError, CorruptRecordError
from durable.values.serializers import Serializer, Unserializable, describe_unserializable

WHERE = {"run": "r1", "step": "fetch:ada"}
PLAIN = Serializer()
KEYED = Serializer(keys=[b"current-key", b"previous-key"])


def round_trip(value: object, serializer: Serializer = PLAIN) -> Any:
    return serializer.decode(serializer.encode(value, **WHERE), **WHERE)


def codec_of(value: object) -> str:
    return {"j": "json", "p": "pickle", "d": "dill"}[chr(PLAIN.encode(value, **WHERE)[2])]


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@dataclass
class Order:
    id: int
    lines: list[str] = field(default_factory=list)
    total: Decimal = Decimal("1.10")


class Connection:
    def __init__(self) -> None:
        self.sock = socket.socket()


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner


class NeedsTwo(tuple):  # type: ignore[type-arg]  # only its __new__ matters
    """Pickles, but cannot be unpickled."""

    __slots__ = ()

    def __new__(cls, a: int, b: int) -> Self:
        return super().__new__(cls, (a, b))

    def __reduce__(self) -> tuple[Any, ...]:
        return NeedsTwo, (1,)


class TestWhichCodec:
    @pytest.mark.parametrize(
        "value",
        [None, True, False, 0, -1, 2**70, 1.5, -0.0, "", "é\n\"'\x00\u2028", [], {}, [1, [2, {"a": None}]], {"a": [1]}],
    )
    def test_json_for_what_it_holds_without_loss(self, value: object) -> None:
        """Plain values are stored as JSON and come back equal and of the same types."""
        assert codec_of(value) == "json"
        assert repr(round_trip(value)) == repr(value)

    @pytest.mark.parametrize(
        "value",
        [
            (1, 2),
            [(1,)],
            {1: "a"},
            {None: 1},
            {"a": {True: 1}},
            Level.LOW,
            [Level.LOW],
            Text("a"),
            {Text("a"): 1},
            OrderedDict(a=1),
            math.nan,
            [math.inf],
            b"a",
            {1, 2},
            1j,
            "\ud800",
            ["\udfff"],
            10**5000,
            [0.5] * 5000,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_pickle_for_the_rest(self, value: Any) -> None:
        """What JSON would change is pickled and comes back equal and of the same types."""
        back = round_trip(value)
        assert codec_of(value) == "pickle"
        assert type(back) is type(value)
        assert repr(back) == repr(value) if isinstance(value, float) else back == value
        if isinstance(value, dict):
            assert [type(key) for key in back] == [type(key) for key in value]

    def test_nan_stays_nan(self) -> None:
        """NaN comes back as NaN."""
        assert math.isnan(round_trip(math.nan))

    def test_negative_zero_keeps_its_sign(self) -> None:
        """-0.0 comes back with its sign."""
        assert math.copysign(1, round_trip(-0.0)) == -1

    def test_one_list_in_two_places_stays_one(self) -> None:
        """Parts that were one object are one object again."""
        row = [0]
        back = round_trip([row, row])
        assert back[0] is back[1]

    def test_a_list_that_contains_itself(self) -> None:
        """Recursive structures come back recursive."""
        loop: list[Any] = []
        loop.append(loop)
        back = round_trip({"loop": loop})["loop"]
        assert back[0] is back

    def test_json_is_readable_in_the_bytes(self) -> None:
        """Whoever looks into the database can read plain values."""
        data = PLAIN.encode({"name": "Zoë", "n": 1}, **WHERE)
        assert data.decode().endswith('{"name":"Zoë","n":1}')

    @pytest.mark.parametrize(
        "value",
        [
            Order(1, ["a"]),
            datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            date(2024, 2, 29),
            timedelta(days=1, microseconds=1),
            Decimal("1.10"),
            UUID(int=5),
            PurePosixPath("a/b"),
            b"\x00\xff",
            Color.RED,
            Level.LOW,
            np.float64(1.5),
            Order,
            os.path.join,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_common_values(self, value: object) -> None:
        """Values of the standard library, dataclasses, enums and numpy scalars come back equal."""
        back = round_trip(value)
        assert type(back) is type(value)
        assert back == value

    def test_an_enum_member_is_the_member(self) -> None:
        """An enum member is compared with `is`, so it comes back as itself."""
        assert round_trip([Color.RED])[0] is Color.RED

    def test_arrays_and_frames(self) -> None:
        """Arrays and data frames come back with their dtypes and contents."""
        array = np.arange(12, dtype="float32").reshape(3, 4)
        back = round_trip(array)
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2024-01-01", "2024-01-02"])})
        pd.testing.assert_frame_equal(round_trip(frame), frame)


class TestCode:
    def test_a_lambda_with_a_closure(self) -> None:
        """A lambda comes back with what it closed over."""
        base = 40
        assert codec_of(lambda n: n + base) == "dill"
        assert round_trip(lambda n: n + base)(2) == 42

    def test_an_object_of_a_local_class(self) -> None:
        """An object of a class that a function defined comes back with its class."""

        @dataclass
        class Point:
            x: int

            def double(self) -> int:
                return 2 * self.x

        back = round_trip({"p": Point(4)})["p"]
        assert (back.x, back.double(), type(back).__name__) == (4, 8, "Point")

    def test_an_open_file_is_refused(self, tmp_path: Path) -> None:
        """Reading a record must not open files, which would cut one off that was open for writing."""
        with (tmp_path / "f").open("w") as file:
            with pytest.raises(Unserializable) as caught:
                PLAIN.encode({"log": file}, **WHERE)
            with pytest.raises(Unserializable):
                PLAIN.encode([file, lambda: 1], **WHERE)
        assert caught.value.path == "['log']"


class TestOtherProcess:
    SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from dataclasses import dataclass
from enum import Enum
from durable.values.serializers import Serializer
class Color(Enum):
    RED = 1
@dataclass(frozen=True)
class Point:
    x: int
    color: Color = Color.RED
value = {{"set": {{"a", "b", Point(1)}}, "point": Point(2), "call": lambda: Point(3), "class": Point}}
plain = {{"points": [Point(2)]}}
where = dict(run="r1", step="s")
if sys.argv[1] == "write":
    for name, item in (("value", value), ("plain", plain)):
        open(name, "wb").write(Serializer().encode(item, **where))
else:
    back = Serializer().decode(open("value", "rb").read(), **where)
    assert back["set"] == value["set"] and back["point"] == Point(2) and back["class"] is Point
    assert back["call"]() == Point(3) and type(back["call"]()) is Point
    assert back["point"].color is Color.RED
    assert Serializer().decode(open("plain", "rb").read(), **where) == plain
"""

    def run(self, where: Path, seed: str, action: str) -> None:
        script = where / "script.py"
        script.write_text(self.SCRIPT.format(root=str(Path(__file__).parents[2])))
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, script, action], cwd=where, env=environment, check=True, timeout=60)

    def test_another_execution_of_the_script_reads_it(self, tmp_path: Path) -> None:
        """Values of a script's own classes are of the classes of the script that runs, whatever its hash seed."""
        self.run(tmp_path, "1", "write")
        self.run(tmp_path, "2", "read")

    def test_another_program_is_told_why_it_cannot(self, tmp_path: Path) -> None:
        """A program that lacks the script's classes gets an error that names the class."""
        self.run(tmp_path, "1", "write")
        with pytest.raises(CorruptRecordError, match=r"Point.*found in that script only"):
            PLAIN.decode((tmp_path / "plain").read_bytes(), run="r1", step="s")


class TestUnserializable:
    @pytest.mark.parametrize(
        ("make", "path", "culprit"),
        [
            (lambda sock: {"conn": sock}, "['conn']", "socket.socket"),
            (lambda sock: [1, (2, {"a": sock})], "[1][1]['a']", "socket.socket"),
            (lambda sock: Slotted({"b": sock}), ".inner['b']", "socket.socket"),
            (lambda sock: {"conn": Connection()}, "['conn'].sock", "socket.socket"),
            (lambda sock: sock, "", "socket.socket"),
            (lambda sock: [lambda: sock], "[0] variable 'sock'", "socket.socket"),
            (lambda sock: {"gen": (i for i in [1])}, "['gen']", "generator"),
        ],
    )
    def test_the_path_leads_to_the_culprit(self, make: Any, path: str, culprit: str) -> None:
        """The error says which part of the value cannot be stored, of which type it is, and why."""
        with socket.socket() as sock:
            value = make(sock)
            assert describe_unserializable(value) == (path, culprit)
            with pytest.raises(Unserializable) as caught:
                PLAIN.encode(value, **WHERE)
            close(value)
        assert (caught.value.path, caught.value.culprit) == (path, culprit)
        assert "cannot pickle" in caught.value.reason

    def test_what_cannot_be_read_back_is_refused(self) -> None:
        """A value that pickles but does not unpickle is refused while it is still at hand."""
        with pytest.raises(Unserializable) as caught:
            PLAIN.encode({"pair": NeedsTwo(1, 2)}, **WHERE)
        assert caught.value.path == "['pair']"
        assert "missing 1 required positional argument" in caught.value.reason

    def test_too_deep(self) -> None:
        """A structure that is nested beyond the stack is refused, not a crash."""
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(Unserializable, match="nested too deeply"):
            PLAIN.encode(deep, **WHERE)

    def test_deep_enough_for_json_is_read_at_the_bottom_of_a_stack(self) -> None:
        """What could be written can be read where the stack is nearly used up."""
        deep: list[Any] = []
        for _ in range(400):
            deep = [deep]
        data = PLAIN.encode(deep, **WHERE)

        def descend(left: int) -> object:
            return descend(left - 1) if left else PLAIN.decode(data, **WHERE)

        assert repr(descend(500)) == repr(deep)

    def test_only_accepted_codecs_are_written(self) -> None:
        """A serializer does not write what it would refuse to read."""
        with pytest.raises(Unserializable, match="no accepted codec"):
            Serializer(codecs=["json"]).encode({"a": (1,)}, **WHERE)


def close(value: Any) -> None:
    if isinstance(value, dict) and isinstance(value.get("conn"), Connection):
        value["conn"].sock.close()


def library_class(module: str, name: str) -> Any:
    return type(name, (), {"__module__": module})


class TestCredentials:
    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("requests.models", "Response"),
            ("requests.models", "PreparedRequest"),
            ("httpx", "Response"),
            ("httpx._models", "Request"),
            ("aiohttp.client_reqrep", "ClientResponse"),
            ("urllib.request", "Request"),
        ],
    )
    def test_requests_and_responses_are_refused(self, module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Objects that carry request headers are not stored, also not inside of others or as a subclass."""
        parent = ModuleType(module)
        cls = library_class(module, name)
        setattr(parent, name, cls)
        monkeypatch.setitem(sys.modules, module, parent)
        response = cls()
        response.headers = {"Authorization": "Bearer s3cret"}
        for value, path in ((response, ""), ({"r": [response]}, "['r'][0]"), (type("Own", (cls,), {})(), "")):
            with pytest.raises(Unserializable, match="headers hold credentials") as caught:
                PLAIN.encode(value, **WHERE)
            assert caught.value.path == path

    def test_also_beside_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lambda in the same value does not get a response stored."""
        cls = library_class("httpx", "Response")
        module = ModuleType("httpx")
        module.Response = cls  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "httpx", module)
        with pytest.raises(Unserializable, match="headers hold credentials"):
            PLAIN.encode([lambda: 1, cls()], **WHERE)


class TestEnvelope:
    @pytest.mark.parametrize("serializer", [PLAIN, KEYED], ids=["checksum", "hmac"])
    @pytest.mark.parametrize("value", [{"a": [1, "b"]}, (1, b"x")], ids=["json", "pickle"])
    def test_every_flipped_bit_is_found(self, serializer: Serializer, value: object) -> None:
        """No bit of an envelope can change unnoticed."""
        data = serializer.encode(value, **WHERE)
        for index in range(len(data)):
            for bit in range(8):
                damaged = bytearray(data)
                damaged[index] ^= 1 << bit
                with pytest.raises(CorruptRecordError, match=r"fetch:ada.*r1"):
                    serializer.decode(bytes(damaged), **WHERE)

    @pytest.mark.parametrize("serializer", [PLAIN, KEYED], ids=["checksum", "hmac"])
    def test_every_other_length_is_found(self, serializer: Serializer) -> None:
        """A truncated or extended envelope is refused."""
        data = serializer.encode({"a": 1}, **WHERE)
        for damaged in [data[:length] for length in range(len(data))] + [data + b" "]:
            with pytest.raises(CorruptRecordError):
                serializer.decode(damaged, **WHERE)

    @pytest.mark.parametrize("serializer", [PLAIN, KEYED], ids=["checksum", "hmac"])
    @pytest.mark.parametrize(
        "where", [("r2", "fetch:ada"), ("r1", "fetch:bob"), ("r1f", "etch:ada"), ("", "r1fetch:ada")]
    )
    def test_a_record_of_another_step_is_found(self, serializer: Serializer, where: tuple[str, str]) -> None:
        """A record that was moved to another run or step is refused."""
        data = serializer.encode(1, **WHERE)
        with pytest.raises(CorruptRecordError, match="another step"):
            serializer.decode(data, run=where[0], step=where[1])

    def test_nothing_is_decoded_under_a_wrong_key(self, tmp_path: Path) -> None:
        """A record that somebody without the key wrote does not get its code executed."""
        bomb = Bomb(str(tmp_path / "exploded"))
        for forger in (PLAIN, Serializer(keys=[b"guessed"])):
            data = forger.encode(bomb, **WHERE)
            Path(bomb.path).unlink(missing_ok=True)  # it was read back when it was written
            with pytest.raises(CorruptRecordError):
                KEYED.decode(data, **WHERE)
            assert not Path(bomb.path).exists()

    def test_keys_can_be_rotated(self) -> None:
        """The first key seals and all keys verify."""
        old = Serializer(keys=[b"previous-key"]).encode(5, **WHERE)
        assert KEYED.decode(old, **WHERE) == 5
        assert Serializer(keys=[b"current-key"]).decode(KEYED.encode(6, **WHERE), **WHERE) == 6

    def test_without_keys_a_sealed_record_names_the_setting(self) -> None:
        """A reader without the key is told that there is one."""
        with pytest.raises(CorruptRecordError, match="DURABLE_SECRET_KEY"):
            PLAIN.decode(KEYED.encode(1, **WHERE), **WHERE)

    def test_a_codec_that_is_not_accepted_is_not_decoded(self, tmp_path: Path) -> None:
        """The reader decides which codecs it decodes, not the row."""
        bomb = Bomb(str(tmp_path / "exploded"))
        data = PLAIN.encode(bomb, **WHERE)
        Path(bomb.path).unlink(missing_ok=True)
        with pytest.raises(CorruptRecordError, match="codec 'pickle', which this reader does not accept"):
            Serializer(codecs=["json"]).decode(data, **WHERE)
        assert not Path(bomb.path).exists()

    def test_a_newer_format_is_named(self) -> None:
        """A record of a later release is refused as such."""
        data = PLAIN.encode(1, **WHERE)
        with pytest.raises(CorruptRecordError, match="newer than this release"):
            PLAIN.decode(b"D2" + data[2:], **WHERE)

    @pytest.mark.parametrize("options", [{"keys": [b""]}, {"codecs": ["yaml"]}])
    def test_wrong_settings(self, options: dict[str, Any]) -> None:
        """An empty key and an unknown codec are refused at once."""
        with pytest.raises(ConfigurationError):
            Serializer(**options)


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()


class TestMovedCode:
    def test_a_class_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A class that was renamed is named in the error, with the way out."""
        data = PLAIN.encode(Order(1), **WHERE)
        monkeypatch.delattr(sys.modules[__name__], "Order")
        with pytest.raises(CorruptRecordError, match=r"attribute 'Order'.*alias"):
            PLAIN.decode(data, **WHERE)

    def test_a_module_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A module that was moved is named in the error."""
        module = ModuleType("vanishing")
        cls = library_class("vanishing", "Thing")
        module.Thing = cls  # type: ignore[attr-defined]  # a module made here
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "vanishing", module)
            data = PLAIN.encode(cls(), **WHERE)
        with pytest.raises(CorruptRecordError, match="No module named 'vanishing'"):
            PLAIN.decode(data, **WHERE)


def test_threads_share_a_serializer() -> None:
    """One serializer serves many threads at once."""
    failures: list[object] = []

    def work(number: int) -> None:
        for index in range(200):
            value = {"n": number, "order": Order(index, [str(number)])}
            if round_trip(value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_importing_does_not_import_dill() -> None:
    """dill is imported only when a value needs it."""
    code = (
        "import sys; from durable.values.serializers import Serializer; Serializer().encode((1, 2), run='r', step='s'); "
        "assert 'dill' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
