"""A stored exception is caught by the same `except` on replay and says what it is and what of it was lost."""

from __future__ import annotations

import asyncio
import base64
import copy
import email.message
import io
import json
import pickle
import socket
import sys
import traceback
import urllib.error
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import aiohttp
import numpy as np
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from durable.errors import CorruptRecordError, LostAttributeError, ReplayedError
from durable.values.exceptions import decode_exception, describe, encode_exception
from durable.values.serializers import Serializer

WHERE: Any = {"run": "r1", "step": "fetch:ada"}
PLAIN = Serializer()
TOKEN = "Bearer s3cret-t0ken"


def replay(error: BaseException, *, sensitive: bool = False) -> Any:
    return decode_exception(encode_exception(error, PLAIN, sensitive=sensitive, **WHERE), PLAIN, **WHERE)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def fail_while_failing() -> None:
    try:
        int("first")
    except ValueError:
        raise KeyError("second") from None


class KeywordOnlyError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class UnpassedError(Exception):
    def __init__(self, user: str, tries: int) -> None:
        super().__init__()
        self.user = user
        self.tries = tries

    def __str__(self) -> str:
        return f"{self.user} after {self.tries}"


class WrappingError(Exception):
    """What pickle gives back has a message that was wrapped twice."""

    def __init__(self, text: str) -> None:
        super().__init__(f"wrapped {text}")


class RefusedError(OSError):
    def __init__(self, code: int, *, host: str) -> None:
        super().__init__(code, "refused")
        self.host = host


class SocketError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sock = socket.socket()
        self.port = 80


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class BrokenStrError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class OwnGroupError(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception], label: str) -> Self:
        self = super().__new__(cls, f"group {label}", errors)
        self.label = label
        return self

    label: str


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class FalsyError(Exception):
    def __bool__(self) -> bool:
        return False


class RegisteredError(Exception):
    seen: list[type] = []  # noqa: RUF012 -- one list for all, which is the point

    def __init_subclass__(cls) -> None:
        RegisteredError.seen.append(cls)

    def __init__(self, *, sock: object) -> None:
        super().__init__("registered")
        self.sock = sock


class TestSurvivors:
    @pytest.mark.parametrize(
        "error",
        [
            ValueError("x", 1, None),
            KeyError("k"),
            FileNotFoundError(2, "No such file", "a.txt"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            SyntaxError("bad", ("f.py", 1, 2, "x y", 1, 3)),
            StopIteration(5),
            ImportError("gone", name="mod", path="p"),
            KeyboardInterrupt(),
            SystemExit(3),
            asyncio.CancelledError("why"),
            GeneratorExit(),
            KeywordOnlyError(code=3),
            UnpassedError("ada", 2),
            WrappingError("a"),
            RefusedError(111, host="h"),
            SlottedError(7),
            FrozenError(5),
            FalsyError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_class_args_message_and_attributes(self, error: BaseException) -> None:
        """Whatever its `__init__` asks for, an exception comes back as it was and is caught by its class."""
        back = replay(raised(error))
        with pytest.raises(type(error)) as caught:
            raise back
        assert type(caught.value) is type(error)
        assert back.args == error.args
        assert str(back) == str(error)
        members = (
            "errno",
            "strerror",
            "filename",
            "encoding",
            "start",
            "end",
            "lineno",
            "value",
            "name",
            "code",
            "host",
        )
        for name in (*members, *vars(error)):
            assert getattr(back, name, None) == getattr(error, name, None), name

    def test_the_traceback_is_text(self) -> None:
        """The recorded traceback is an attribute and no note, so that the message stays what it was."""
        back = replay(raised(ValueError("x")))
        assert "test_exceptions.py" in back.__durable_traceback__
        assert back.__durable_traceback__.endswith("ValueError: x\n")
        assert not hasattr(back, "__notes__")

    def test_no_values_of_local_variables(self) -> None:
        """The text holds source lines and never what a variable held."""

        def body(password: str) -> None:
            token = password + "!"
            raise ValueError(len(token))

        with pytest.raises(ValueError, match="8") as caught:
            body("hunter" + str(2))
        assert "hunter2" not in describe(encode_exception(caught.value, PLAIN, **WHERE), PLAIN, **WHERE).traceback

    def test_notes(self) -> None:
        """Notes are kept once, also of an exception that was rebuilt, and more can be added."""
        for error in (ValueError("x"), SocketError("s")):
            error.add_note("first")
            back = replay(error)
            assert back.__notes__ == ["first"]
            back.add_note("second")
            assert back.__notes__ == ["first", "second"]
            if isinstance(error, SocketError):
                error.sock.close()

    def test_causes_and_contexts(self) -> None:
        """The chain of causes and contexts is kept, and whether the context is shown."""
        back = replay(raised(KeyError("top"), cause=raised(KeywordOnlyError(code=1), cause=ValueError("root"))))
        assert isinstance(back.__cause__, KeywordOnlyError)
        assert isinstance(back.__cause__.__cause__, ValueError)
        with pytest.raises(KeyError) as caught:
            fail_while_failing()
        back = replay(caught.value)
        assert isinstance(back.__context__, ValueError)
        assert back.__suppress_context__

    def test_a_chain_that_bites_its_tail(self) -> None:
        """A cause that leads back to the exception ends somewhere."""
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        assert str(replay(one).__cause__) == "two"


class TestRebuilt:
    def test_a_lost_attribute_says_so(self) -> None:
        """What could not be stored is named when it is read, and all else is there."""
        error = SocketError("boom")
        back = replay(error)
        error.sock.close()
        with pytest.raises(SocketError, match="boom"):
            raise back
        assert back.port == 80
        with pytest.raises(LostAttributeError, match=r"'sock' of tests\.unit\.test_exceptions\.SocketError.*socket"):
            _ = back.sock
        with pytest.raises(AttributeError, match="has no attribute 'other'") as caught:
            _ = back.other
        assert not isinstance(caught.value, LostAttributeError)

    def test_it_looks_like_its_class(self) -> None:
        """A rebuilt exception prints as the original did."""
        error = SocketError("boom")
        back = replay(error)
        error.sock.close()
        assert repr(back) == "SocketError('boom')"
        assert traceback.format_exception_only(back) == ["tests.unit.test_exceptions.SocketError: boom\n"]

    def test_it_can_be_pickled_copied_and_stored_again(self) -> None:
        """A replayed exception that leaves an outer step is stored with what is left of it."""
        error = SocketError("boom")
        back = replay(error)
        error.sock.close()
        for again in (replay(back), pickle.loads(pickle.dumps(back)), copy.copy(back)):
            assert isinstance(again, SocketError)
            assert (again.port, str(again)) == (80, "boom")
            with pytest.raises(LostAttributeError):
                _ = again.sock

    def test_arguments_that_cannot_be_stored(self) -> None:
        """An argument that is lost leaves its place to a text; the message stays."""
        with socket.socket() as sock:
            error = ValueError("bad", sock)
            back = replay(error)
            assert str(back) == str(error)
        assert back.args == ("bad", "<socket.socket, not stored>")

    def test_arguments_without_a_truth_value(self) -> None:
        """Arguments whose comparison is no bool do not get in the way."""
        back = replay(ValueError(np.arange(3)))
        assert np.array_equal(back.args[0], np.arange(3))

    def test_a_str_that_fails(self) -> None:
        """An exception whose `__str__` raises is stored nevertheless."""
        assert isinstance(replay(raised(BrokenStrError("x"))), BrokenStrError)

    def test_the_class_hook_is_not_called(self) -> None:
        """Rebuilding does not register a subclass with the user's own registry."""
        with socket.socket() as sock:
            assert isinstance(replay(RegisteredError(sock=sock)), RegisteredError)
        assert RegisteredError.seen == []

    def test_a_class_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without its class, an exception is stood for by one that has its name and message."""
        data = encode_exception(KeywordOnlyError(code=3), PLAIN, **WHERE)
        monkeypatch.delattr(sys.modules[__name__], "KeywordOnlyError")
        back = decode_exception(data, PLAIN, **WHERE)
        assert isinstance(back, ReplayedError)
        assert str(back) == "tests.unit.test_exceptions.KeywordOnlyError: code 3"

    def test_an_attribute_whose_class_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the object cannot be read back, its class still matches and attributes say that they are lost."""
        error = ValueError("x")
        vars(error)["detail"] = KeywordOnlyError(code=1)
        data = encode_exception(error, PLAIN, **WHERE)
        monkeypatch.delattr(sys.modules[__name__], "KeywordOnlyError")
        back: Any = decode_exception(data, PLAIN, **WHERE)
        with pytest.raises(ValueError, match="x"):
            raise back
        with pytest.raises(LostAttributeError):
            _ = back.detail

    def test_a_local_class(self) -> None:
        """An exception of a class that a function defined is still caught by that class's bases."""

        class LocalError(LookupError):
            def __init__(self, *, code: int) -> None:
                super().__init__(code)
                self.code = code

        back = replay(LocalError(code=4))
        assert back.code == 4
        with pytest.raises(LookupError, match="4"):
            raise back

    def test_exceptions_that_hold_each_other(self) -> None:
        """Exceptions that refer to each other are stored in finite time."""
        one, two = KeywordOnlyError(code=1), KeywordOnlyError(code=2)
        one.other, two.other = two, one  # type: ignore[attr-defined]  # anybody may set one
        assert str(replay(one)) == "code 1"


class TestInValues:
    def test_exceptions_in_a_result(self) -> None:
        """A result with exceptions in it, as gather returns them, comes back with their classes."""
        error = SocketError("s")
        value = [1, KeywordOnlyError(code=3), {"e": error}, WrappingError("a"), KeyError("k")]
        back: Any = PLAIN.decode(PLAIN.encode(value, **WHERE), **WHERE)
        error.sock.close()
        assert [type(back[index]) for index in (1, 3, 4)] == [KeywordOnlyError, WrappingError, KeyError]
        assert (back[1].code, str(back[3]), back[2]["e"].port) == (3, "wrapped a", 80)
        with pytest.raises(LostAttributeError):
            _ = back[2]["e"].sock


class TestGroups:
    def test_members_by_the_same_rules(self) -> None:
        """Each member is stored by itself, so `except*` splits a replayed group as it did the original."""
        error = SocketError("s")
        group = ExceptionGroup("g", [KeywordOnlyError(code=1), ExceptionGroup("inner", [error, KeyError("k")])])
        back = replay(raised(group))
        error.sock.close()
        assert str(back) == str(group)
        caught: list[BaseException] = []
        try:
            raise back
        except* KeywordOnlyError as some:
            caught += some.exceptions
        except* (SocketError, KeyError) as some:
            caught += some.exceptions[0].exceptions  # type: ignore[union-attr]  # the inner group
        assert [type(member).__name__ for member in caught] == ["KeywordOnlyError", "SocketError", "KeyError"]
        assert back.exceptions[1].exceptions[1].__durable_traceback__ == "KeyError: 'k'\n"

    def test_a_member_whose_class_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the member whose class is gone is replaced."""
        data = encode_exception(ExceptionGroup("g", [KeywordOnlyError(code=1), KeyError("k")]), PLAIN, **WHERE)
        monkeypatch.delattr(sys.modules[__name__], "KeywordOnlyError")
        back: Any = decode_exception(data, PLAIN, **WHERE)
        assert [type(member) for member in back.exceptions] == [ReplayedError, KeyError]

    def test_a_group_class_of_ones_own(self) -> None:
        """A subclass of ExceptionGroup keeps its class and attributes."""
        back = replay(OwnGroupError([KeyError("k")], "L"))
        assert type(back) is OwnGroupError
        assert (back.label, back.message) == ("L", "group L")

    def test_a_group_of_base_exceptions(self) -> None:
        """Interrupts in a group stay interrupts."""
        back = replay(BaseExceptionGroup("g", [KeyboardInterrupt(), asyncio.CancelledError()]))
        assert [type(member) for member in back.exceptions] == [KeyboardInterrupt, asyncio.CancelledError]


class FakeResponse:
    def __init__(self) -> None:
        self.headers = {"Authorization": TOKEN, "Cookie": TOKEN, "X-Api-Key": TOKEN}
        self.status_code = 500


class HttpStatusError(Exception):
    """As httpx has it: required keywords, a property over a private attribute."""

    def __init__(self, message: str, *, request: FakeResponse, response: FakeResponse) -> None:
        super().__init__(message)
        self._request = request
        self.response = response

    @property
    def request(self) -> FakeResponse:
        return self._request


HttpxResponse: Any = type("Response", (FakeResponse,), {"__module__": "httpx"})


@pytest.fixture
def http_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """`httpx.Response` is a class whose objects pickle."""
    module = ModuleType("httpx")
    module.Response = HttpxResponse  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "httpx", module)


class TestCredentials:
    @pytest.mark.usefixtures("http_library")
    def test_request_headers_are_not_stored(self) -> None:
        """What an HTTP library's exception holds of the request does not reach the store and says so."""
        error = HttpStatusError("500 for url", request=HttpxResponse(), response=HttpxResponse())
        error.args = ("500 for url", HttpxResponse())
        error.extra = [HttpxResponse()]  # type: ignore[attr-defined]  # anybody may set one
        data = encode_exception(raised(error), PLAIN, **WHERE)
        assert not leaks(data)
        back: Any = decode_exception(data, PLAIN, **WHERE)
        assert isinstance(back, HttpStatusError)
        for name in ("request", "response", "extra"):
            with pytest.raises(LostAttributeError, match=f"'{name}'"):
                getattr(back, name)

    def test_requests_of_unknown_libraries(self) -> None:
        """An attribute called request is dropped whatever its library, and a response unless it is plain data."""
        error = HttpStatusError("m", request=FakeResponse(), response=FakeResponse())
        data = encode_exception(error, PLAIN, **WHERE)
        assert not leaks(data)
        plain = ValueError("x")
        plain.response = {"Error": {"Code": "Throttled"}}  # type: ignore[attr-defined]  # as botocore has it
        plain.request = {"headers": {"Authorization": TOKEN}}  # type: ignore[attr-defined]  # no library, the same secret
        assert not leaks(encode_exception(plain, PLAIN, **WHERE))
        assert replay(plain).response == {"Error": {"Code": "Throttled"}}

    def test_aiohttp(self) -> None:
        """aiohttp's error keeps its status and loses the request with its headers."""
        headers = CIMultiDictProxy(CIMultiDict({"Authorization": TOKEN}))
        request = aiohttp.RequestInfo(URL("http://example.org"), "GET", headers, URL("http://example.org"))
        error = aiohttp.ClientResponseError(request, (), status=503, message="busy", headers=headers)
        assert not leaks(encode_exception(error, PLAIN, **WHERE))
        back = replay(error)
        assert isinstance(back, aiohttp.ClientResponseError)
        assert (back.status, str(back)) == (503, str(error))
        with pytest.raises(LostAttributeError, match="request_info"):
            _ = back.request_info

    def test_urllib(self) -> None:
        """urllib's HTTPError, which is a response itself, is caught again with its status."""
        headers = email.message.Message()
        error = urllib.error.HTTPError("http://example.org", 404, "Not Found", headers, io.BytesIO(b"body"))
        back = replay(error)
        with pytest.raises(urllib.error.HTTPError) as caught:
            raise back
        assert (caught.value.code, str(back)) == (404, "HTTP Error 404: Not Found")
        error.close()


def leaks(data: bytes) -> bool:
    """Whether the token can be found in the record, encoded parts included."""
    parts = [data, base64.b85decode(json.loads(data[12:])["object"])]
    return any(TOKEN.encode() in part for part in parts)


class TestSensitive:
    def test_nothing_but_the_type(self) -> None:
        """Of a sensitive step's exception only the type is stored, and `except` still matches."""
        error = raised(KeywordOnlyError(code=42), cause=ValueError("secret-cause"))
        error.add_note("secret-note")
        data = encode_exception(error, PLAIN, sensitive=True, **WHERE)
        assert b"42" not in data[12:]
        assert b"secret" not in data
        back: Any = decode_exception(data, PLAIN, **WHERE)
        with pytest.raises(KeywordOnlyError) as caught:
            raise back
        assert str(caught.value) == "(sensitive)"
        with pytest.raises(LostAttributeError, match="the step is sensitive"):
            _ = back.code
        assert describe(data, PLAIN, **WHERE).message == "(sensitive)"

    @pytest.mark.parametrize(
        "error",
        [
            OSError(2, "secret"),
            UnicodeDecodeError("utf-8", b"s", 0, 1, "secret"),
            SystemExit("secret"),
            KeyboardInterrupt(),
            RefusedError(1, host="secret"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_any_class(self, error: BaseException) -> None:
        """The class matches whatever arguments it is usually made of."""
        with pytest.raises(type(error)):
            raise replay(error, sensitive=True)

    def test_groups(self) -> None:
        """A sensitive group still splits by the classes of its members."""
        back = replay(ExceptionGroup("secret", [KeyError("secret"), KeywordOnlyError(code=1)]), sensitive=True)
        matched, rest = back.split(KeyError)
        assert (len(matched.exceptions), len(rest.exceptions)) == (1, 1)
        assert "secret" not in repr(back)


class TestDescribe:
    def test_what_people_see(self) -> None:
        """Type, message, traceback, notes and members can be shown."""
        error = ExceptionGroup("g", [KeywordOnlyError(code=1)])
        error.add_note("n")
        shown = describe(encode_exception(raised(error), PLAIN, **WHERE), PLAIN, **WHERE)
        assert (shown.type_name, shown.message, shown.notes) == ("ExceptionGroup", "g (1 sub-exception)", ("n",))
        assert shown.members[0].type_name == "tests.unit.test_exceptions.KeywordOnlyError"
        assert "raised" in shown.traceback

    def test_nothing_is_unpickled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Showing an exception works without its class and executes none of its code."""
        data = encode_exception(KeywordOnlyError(code=1), PLAIN, **WHERE)
        monkeypatch.delattr(sys.modules[__name__], "KeywordOnlyError")
        assert describe(data, Serializer(codecs=["json"]), **WHERE).message == "code 1"

    def test_a_value_is_no_exception(self) -> None:
        """The record of a value is not taken for that of an exception, nor the other way round."""
        with pytest.raises(CorruptRecordError, match="holds a value"):
            describe(PLAIN.encode({"a": 1}, **WHERE), PLAIN, **WHERE)
        with pytest.raises(CorruptRecordError, match="'exception'"):
            PLAIN.decode(encode_exception(ValueError(), PLAIN, **WHERE), **WHERE)

    def test_texts_with_lone_surrogates(self) -> None:
        """A message that has no UTF-8 does not keep an exception from being stored."""
        error = ValueError("\udc80")
        assert replay(error).args == error.args
        assert describe(encode_exception(error, PLAIN, **WHERE), PLAIN, **WHERE).message == "\\udc80"


def test_credentials_in_the_source_are_not_stored() -> None:
    """A traceback shows lines of the source, and those may hold keys, by their looks or names; the rest of a line stays."""

    def connect(**_: object) -> None:
        raise ConnectionError("no route")

    try:
        connect(api_key="sk-CANARY4711", more={"X-Password": "CANARY"}, token='CANARY "a"', user="ada lovelace")
    except ConnectionError as error:
        data = encode_exception(error, PLAIN, **WHERE)
    assert b"CANARY" not in data
    text = describe(data, PLAIN, **WHERE).traceback
    assert ('user="ada lovelace"' in text, "test_exceptions.py" in text, 'api_key="(hidden)"' in text) == (True,) * 3, (
        text
    )


def test_damage_is_found() -> None:
    """An exception's record is sealed like any other."""
    keyed = Serializer(keys=[b"key"])
    data = encode_exception(KeywordOnlyError(code=1), keyed, **WHERE)
    with pytest.raises(CorruptRecordError):
        decode_exception(data[:-1] + b"]", keyed, **WHERE)
    with pytest.raises(CorruptRecordError):
        decode_exception(data, keyed, run="r1", step="other")
