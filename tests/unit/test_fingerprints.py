from __future__ import annotations

import asyncio
import collections
import contextvars
import copy
import dataclasses
import datetime as dt
import decimal
import functools
import io
import logging
import pathlib
import socket
import sqlite3
import threading
import types
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import wrapt

from durable.errors import FingerprintError
from durable.identity.fingerprints import (
    Unencodable,
    cheap_label,
    digest,
    encode,
    encode_argument,
    encode_self,
    register_live_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Opaque:
    """Nothing tells two of them apart."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no way")


OPAQUE = Opaque()


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None: ...


@dataclasses.dataclass
class Record:
    sock: Any = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


def test_shared_parts_count_as_equal_copies() -> None:
    """Whether two equal parts are one object leaves no trace."""
    part = [str(b"aa", "ascii")]
    assert encode([part, part]) == encode([["aa"], ["aa"]])


def test_widely_shared_parts_are_encoded_once() -> None:
    """A value whose parts are shared at forty levels is not unfolded into 2**40 parts."""
    value: list[Any] = ["x" * 5000]
    for _ in range(40):
        value = [value, value]
    assert len(encode(value)) < 5000


def test_recursive_structures_equal_their_copies() -> None:
    """A structure that contains itself has the encoding of its deep copy."""
    node: Any = Holder(name="root", children=[Holder(name="a"), Holder(name="b")], members={1, 2})
    for child in node.children:
        child.parent = node
    node.index = {child.name: child for child in node.children}
    assert encode(node) == encode(copy.deepcopy(node))


def test_depth_of_recursion_is_told_apart() -> None:
    """A list within itself differs from a list that holds such a list."""
    one: list[Any] = []
    one.append(one)
    assert encode(one) != encode([one])
    assert encode([one, one]) == encode([copy.deepcopy(one), one])


def test_dense_net_is_refused() -> None:
    """A net of objects that all refer to each other ends in an error, not in a hang."""
    nodes: list[Any] = [Holder() for _ in range(40)]
    for node in nodes:
        node.others = nodes
    for node in nodes:
        node.mine = list(nodes)
    with pytest.raises(Unencodable, match="net of too many cycles"):
        encode(nodes)


def test_too_deep_nesting_is_refused() -> None:
    """Nesting beyond the interpreter's limit is an error of ours."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Unencodable, match="nested too deeply"):
        encode(value)
    while value:  # unwound by hand: the interpreter would do it recursively
        value = value.pop()


def test_order_of_insertion_leaves_no_trace() -> None:
    """Dicts, sets, attributes and keyword arguments are equal in any order."""
    assert encode({"a": 1, "b": 2}) == encode({"b": 2, "a": 1})
    assert encode(Holder(a=1, b=2)) == encode(Holder(b=2, a=1))
    assert encode(functools.partial(print, a=1, b=2)) == encode(functools.partial(print, b=2, a=1))
    assert encode(collections.Counter("aab")) == encode(collections.Counter("baa"))


def test_every_nan_is_the_same() -> None:
    """NaN equals NaN, whatever its bits, and zeros keep their sign."""
    other = np.array([0xFFF8000000000001], "u8").view("f8")
    assert encode(float("nan")) == encode(-float("nan")) == encode(float(other[0]))
    assert encode(np.array([np.nan])) == encode(other)
    assert encode(0.0) != encode(-0.0)


@pytest.mark.parametrize("kind", ["?", "i4", "f2", "f8", "c16", "g", "S3", "U3", "O", "M8[s]"])
def test_layout_of_an_array_leaves_no_trace(kind: str) -> None:
    """Fortran order, strides and views are encoded as the array that they show."""
    plain = np.arange(24).astype("i8").astype(kind).reshape(2, 3, 4)
    wide = np.repeat(plain, 2, axis=2)
    assert encode(np.asfortranarray(plain)) == encode(plain) == encode(wide[:, :, ::2])
    assert encode(plain.T) != encode(plain)
    assert encode(plain[0, 0, :]) == encode(plain[0, 0, :].copy())


def test_padding_of_a_structure_leaves_no_trace() -> None:
    """The bytes between the fields of an aligned structure do not count."""
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    arrays = [np.frombuffer(filler * kind.itemsize * 2, dtype=kind).copy() for filler in (b"\x01", b"\x02")]
    for item in arrays:
        item["a"], item["b"] = 1, 2.0
    assert encode(arrays[0]) == encode(arrays[1])


def test_blocks_and_chunks_of_a_frame_leave_no_trace() -> None:
    """How a frame was put together is not part of its value."""
    split = pd.DataFrame({"a": [1, 2]})
    split["b"] = [3, 4]
    assert encode(split) == encode(pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    chunks = pl.concat([pl.DataFrame({"a": [1, None]}), pl.DataFrame({"a": [3]})], rechunk=False)
    assert encode(chunks) == encode(pl.DataFrame({"a": [1, None, 3]}))
    assert encode(pl.DataFrame({"a": [1, 2, 3]})[1:]) == encode(pl.DataFrame({"a": [2, 3]}))


def test_tensors_count_by_their_elements() -> None:
    """A tensor is read through its public methods, since its pickle differs in every process."""

    def tensor(*items: float) -> Any:
        kind = type("Tensor", (Opaque,), {"__module__": "torch", "dtype": "torch.float32", "shape": (len(items),)})
        kind.detach = kind.cpu = kind.flatten = lambda self: self  # type: ignore[attr-defined]  # a class made here
        kind.tolist = lambda _: list(items)  # type: ignore[attr-defined]  # a class made here
        return kind()

    assert encode(tensor(1.0)) == encode(tensor(1.0)) != encode(tensor(2.0))


def test_cached_properties_leave_no_trace() -> None:
    """Whether a cached property was asked for is not part of the value."""

    class Lazy:
        def __init__(self) -> None:
            self.a = 1

        @functools.cached_property
        def doubled(self) -> int:
            return self.a * 2

    asked = Lazy()
    assert asked.doubled == 2
    assert encode(asked) == encode(Lazy())


def test_durable_key_stands_for_the_object() -> None:
    """An object that names its key is encoded by it, and by nothing else."""

    class Account:
        def __init__(self, number: int) -> None:
            self.number, self.opaque = number, Opaque()

        def __durable_key__(self) -> int:
            return self.number

    assert encode(Account(1)) == encode(Account(1)) != encode(Account(2))


def live_objects() -> Iterator[tuple[str, Any, Any]]:
    loop = asyncio.new_event_loop()
    left, right = socket.socketpair()
    yield "sqlite3", sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    yield "socket", left, right
    yield "lock", threading.Lock(), threading.Lock()
    yield "rlock", threading.RLock(), threading.RLock()
    yield "condition", threading.Condition(), threading.Condition()
    yield "local", threading.local(), threading.local()
    yield "thread", threading.Thread(), threading.Thread()
    yield "logger", logging.getLogger("a"), logging.getLogger("b")
    with pathlib.Path(__file__).open() as one, pathlib.Path(__file__).open() as other:
        yield "file", one, other
    yield "generator", (x for x in "a"), (x for x in "b")
    yield "queue", asyncio.Queue(), asyncio.Queue()
    yield "semaphore", asyncio.Semaphore(1), asyncio.Semaphore(2)
    yield "loop", loop, loop
    yield "context variable", contextvars.ContextVar("a"), contextvars.ContextVar("b")
    yield "executor", ThreadPoolExecutor(1), ThreadPoolExecutor(2)
    loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_live_objects_count_by_their_type() -> None:
    """Connections, locks, loggers, files, generators and the like have no value but their type."""
    seen = set()
    for name, one, other in live_objects():
        assert encode(one) == encode(other), name
        seen.add(encode(one))
        for end in (one, other):
            if hasattr(end, "close"):
                end.close()
    assert len(seen) >= 13


def test_clients_are_known_by_name() -> None:
    """A client is recognised by the name of its type, subclassed or not, without its library."""
    client = type("Client", (Opaque,), {"__module__": "httpx._client"})
    assert encode(client()) == encode(client())
    assert encode(type("Mine", (client,), {})())


def test_in_memory_files_have_a_value() -> None:
    """BytesIO and StringIO count by content and position."""
    assert encode(io.BytesIO(b"a")) == encode(io.BytesIO(b"a")) != encode(io.BytesIO(b"b"))


def test_users_register_live_types() -> None:
    """A registered type, by class or by name, counts by its type alone, also if it was refused before."""

    class Session(Opaque):
        pass

    class Gateway(Opaque):
        pass

    with pytest.raises(Unencodable):
        encode(Session())
    register_live_type(Session)
    register_live_type(f"{Gateway.__module__}.{Gateway.__qualname__}")
    assert encode(Session()) == encode(Session()) != encode(Gateway())


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Opaque(), ""),
        ({"conn": Record(sock=Opaque())}, "['conn'].sock"),
        ([1, (2, Opaque())], "[1][1]"),
        (Holder(a=Holder(b=[Opaque()])), ".a.b[0]"),
        ({Point(1, 2): Opaque()}, f"[{__name__}.Point]"),
        ({frozenset([Point(Opaque())])}, "{...}{...}.x"),
        (np.array([1, Opaque()], dtype=object), ".items[1]"),
        (lambda x=OPAQUE: x, ".__defaults__[0]"),
        (functools.partial(print, end=Opaque()), ".keywords['end']"),
        (Holder(o=Opaque()).method, ".__self__.o"),
    ],
)
def test_path_to_what_has_no_value(value: object, path: str) -> None:
    """The error leads to the part that cannot be encoded and names its type."""
    with pytest.raises(Unencodable) as caught:
        encode(value)
    assert (caught.value.path, caught.value.culprit) == (path, f"{__name__}.Opaque")


def test_argument_without_a_value_is_refused() -> None:
    """The error names task, parameter, path and the ways out."""
    with pytest.raises(FingerprintError) as caught:
        encode_argument("charge", "order", {"conn": Record(sock=Opaque())})
    for part in ("'charge'", "'order'", "order['conn'].sock", "Opaque", "ignore=('order',)", "key=", "'_order'"):
        assert part in str(caught.value)


def test_underscored_parameter_counts_by_type_if_need_be() -> None:
    """An argument called `_name` counts by its value if it has one, else by its type."""
    assert encode_argument("t", "_p", Opaque()) == encode_argument("t", "_p", Opaque())
    assert encode_argument("t", "_p", Opaque()) != encode_argument("t", "_p", Record(Opaque()))
    assert encode_argument("t", "_p", 1) == encode(1) != encode_argument("t", "_p", 2)


def test_self_counts_by_frozen_value_or_type() -> None:
    """A mutable object whose method is a task counts by its type, a frozen one by its value."""
    assert encode_self(Holder(a=1)) == encode_self(Holder(a=2))
    assert encode_self(Record(1)) == encode_self(Record(2))
    assert encode_self(Point(1)) != encode_self(Point(2))
    assert encode_self(Point(Opaque())) == encode_self(Point(Opaque()))
    assert encode_self(Holder) != encode_self(Record)


def test_wrapped_functions_count_by_name_or_by_what_they_wrap() -> None:
    """A decorated function is the name under which it can be imported, else its function."""

    @wrapt.decorator
    def passing(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    def local(x: int) -> int:
        return x

    assert encode(passing(local)) == encode(passing(local))
    assert encode(passing(local)) != encode(passing(lambda x: -x))
    assert encode(functools.cache(local)) == encode(functools.cache(local))


def test_functions_of_main_count_by_code() -> None:
    """A function of the script or notebook itself is its code, so another body is another value."""
    one, same, other = (types.FunctionType(f.__code__, {}, "f") for f in (lambda x: x, lambda x: x, lambda x: -x))
    for function in (one, same, other):
        function.__module__ = "__main__"
    assert encode(one) == encode(same) != encode(other)


@pytest.mark.parametrize(
    "value",
    [
        "user-17", b"x", 17, 1.5, True, None, Point(1, "a"), uuid.UUID(int=1), decimal.Decimal("1.5"),
        dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), pathlib.Path("a"),
        ("a", 1), ["a", 1], {"a": 1, "b": (1, 2)},
    ],
)  # fmt: skip
def test_labels_of_small_values(value: object) -> None:
    """Small plain values are labelled by value."""
    assert cheap_label(value) == cheap_label(copy.deepcopy(value))
    assert cheap_label(value) != cheap_label(type(value).__name__)
    assert cheap_label(value) not in {
        cheap_label(other) for other in ("user-18", 18, Point(1, "b"), ("a", 2), {"a": 2})
    }


class Hostile:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]  # the worst of classes

    def __len__(self) -> int:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (list(range(9)), list(range(1, 10))),
        ("x" * 257, "y" * 257),
        (10**1000, 10**1000 + 1),
        (np.zeros(3), np.ones(3)),
        (Holder(a=1), Holder(a=2)),
        ([[[[1]]]], [[[[2]]]]),
        ({1, 2}, {1, 3}),
        ([np.zeros(3)], [np.ones(3)]),
    ],
)
def test_labels_of_anything_else(one: object, other: object) -> None:
    """What is large or has an inner life is labelled by its type alone."""
    assert cheap_label(one) == cheap_label(other)
    assert cheap_label(one) != cheap_label(object())


def test_labels_of_hostile_objects() -> None:
    """Nothing that an object does when it is touched keeps it from having a label."""
    assert cheap_label(Hostile()) == cheap_label(Hostile())


def test_digests_are_short() -> None:
    """A digest has sixteen bytes whatever the size of the data."""
    assert len(digest(b"")) == len(digest(b"x" * 100_000)) == 16
