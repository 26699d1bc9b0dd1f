"""Values, and beside each a near miss of it; as a program it prints the digests of both, to compare processes."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import json
import operator
import pathlib
import re
import sys
import threading
import types
import uuid
import zoneinfo
from typing import Any, NamedTuple, Self

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pydantic

from durable.identity.encoding import digest, encode

Entry = tuple[str, Any, Any]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Order:
    number: int
    tags: set[str] = dataclasses.field(default_factory=set)
    parent: Any = None


@dataclasses.dataclass
class Invoice:
    number: int
    tags: set[str] = dataclasses.field(default_factory=set)
    parent: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@attrs.define
class Customer:
    name: str
    labels: frozenset[str]


class Model(pydantic.BaseModel):
    name: str
    tags: set[str] = set()


class Extra(pydantic.BaseModel, extra="allow"):
    name: str


class Pair(NamedTuple):
    a: int
    b: int


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)

    def method(self) -> Plain:
        return self


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


class Keyed:
    def __init__(self, key: str, connection: object) -> None:
        self.key, self.connection = key, connection

    def __durable_key__(self) -> str:
        return self.key


class Text(str):
    __slots__ = ()


class Money(decimal.Decimal):
    def __new__(cls, amount: str, currency: str) -> Self:
        money = super().__new__(cls, amount)
        money.currency = currency
        return money

    currency: str


def named(a: int, b: int = 2) -> int:
    return a + b


def other_named(a: int, b: int = 2) -> int:
    return a - b


def adder(n: Any) -> Any:
    return lambda x: x + n


def recursive_list(*tail: Any) -> list[Any]:
    items: list[Any] = [1, 2, *tail]
    items.append(items)
    return items


def recursive_object(name: str) -> Order:
    parent = Order(1, {"p", "q"})
    parent.parent = [Order(2, {name}, parent), Order(3, parent=parent)]
    return parent


def recursive_function(n: int) -> Any:
    def count(k: int) -> int:
        return n if k == 0 else count(k - 1)

    return count


def array(dtype: str, last: Any = 2) -> Any:
    return np.array([0, 1, last], dtype=dtype)


def plain_entries() -> list[Entry]:
    names = [f"name-{i}" for i in range(50)]
    utc, berlin = dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin")
    at = dt.datetime(2026, 11, 21, 3, 4, 5, 6)  # noqa: DTZ001 -- a naive time is one of the cases
    return [
        ("int and float", 1, 1.0),
        ("int and bool", 1, True),
        ("int and str", 1, "1"),
        ("tuple and list", (1,), [1]),
        ("zeros", 0.0, -0.0),
        ("nan and inf", float("nan"), float("inf")),
        ("big ints", 10**5000, 10**5000 + 1),
        ("negative", 5, -5),
        ("none and false", None, False),
        ("ellipsis", ..., NotImplemented),
        ("complex", 1 + 2j, 1 - 2j),
        ("str and bytes", "ab", b"ab"),
        ("bytes and bytearray", b"ab", bytearray(b"ab")),
        ("memoryview", memoryview(b"abcd"), memoryview(b"abce")),
        ("memoryview and bytes", memoryview(b"abcd"), b"abcd"),
        ("surrogates", "\ud800", "\ud801"),
        ("long text", "x" * 10_000, "x" * 9_999 + "y"),
        ("where elements end", ["ab", "c"], ["a", "bc"]),
        ("where lists end", [[1], 2], [[1, 2]]),
        ("empty ones", [], ()),
        ("empty in empty", [[]], [[], []]),
        ("set", set(names), set(names[1:])),
        ("set and frozenset", set(names), frozenset(names)),
        ("frozensets in a set", {frozenset(names), frozenset("ab")}, {frozenset(names), frozenset("ac")}),
        ("mixed set", {1, "1", None, (2, "x")}, {1, "1", None, (2, "y")}),
        ("dict", {n: i for i, n in enumerate(names)}, {n: i + 1 for i, n in enumerate(names)}),
        ("nested dict", {"a": {"b": {"c", "d"}}, "e": [{"f": 1}]}, {"a": {"b": {"c", "d"}}, "e": [{"f": 2}]}),
        ("dict with other keys", {1: "a"}, {"1": "a"}),
        ("long list", list(range(5_000)), [*range(4_999), 0]),
        ("OrderedDict", collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
        ("OrderedDict and dict", collections.OrderedDict(a=1), {"a": 1}),
        ("defaultdict", collections.defaultdict(list, a=[1]), collections.defaultdict(set, a=[1])),
        ("Counter", collections.Counter(names), collections.Counter(names[1:])),
        ("deque", collections.deque([1, 2], maxlen=3), collections.deque([1, 2], maxlen=4)),
        ("mappingproxy", types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2})),
        ("dict views", {"a": 1, "b": 2}.keys(), {"a": 1, "c": 2}.keys()),
        ("dict values", {"a": 1}.values(), {"a": 2}.values()),
        ("SimpleNamespace", types.SimpleNamespace(a=1, b={1, 2}), types.SimpleNamespace(a=1, b={1, 3})),
        ("range", range(0, 10, 2), range(0, 10, 3)),
        ("slice", slice(1, 2), slice(1, 3)),
        ("datetime", at, at.replace(microsecond=7)),
        ("naive and aware", at, at.replace(tzinfo=utc)),
        ("zones", at.replace(tzinfo=utc), at.replace(tzinfo=berlin)),
        ("fold", at.replace(tzinfo=berlin), at.replace(tzinfo=berlin, fold=1)),
        ("date and datetime", dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)),  # noqa: DTZ001 -- as above
        ("time", dt.time(1, 2), dt.time(1, 3)),
        ("timedelta", dt.timedelta(days=1), dt.timedelta(days=1, microseconds=1)),
        ("timezone", dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=2))),
        ("Decimal", decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        ("subclass of Decimal", Money("1", "EUR"), Money("1", "USD")),
        ("Fraction", fractions.Fraction(1, 3), fractions.Fraction(1, 4)),
        ("UUID", uuid.UUID(int=1), uuid.UUID(int=2)),
        ("path", pathlib.Path("a/b"), pathlib.Path("a/c")),
        ("path and str", pathlib.Path("a/b"), "a/b"),
        ("pure path", pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")),
        ("pattern", re.compile("a+"), re.compile("a+", re.IGNORECASE)),
        ("enum", Colour.RED, Colour.BLUE),
        ("flag", Access.READ | Access.WRITE, Access.READ),
        ("IntEnum and int", Level.LOW, 1),
        ("StrEnum and str", Word.YES, "yes"),
        ("dataclass", Order(1, set(names)), Order(1, set(names[1:]))),
        ("dataclasses of two names", Order(1), Invoice(1)),
        ("slotted dataclass", Point(1.0, 2.0), Point(2.0, 1.0)),
        ("attrs", Customer("a", frozenset(names)), Customer("b", frozenset(names))),
        ("namedtuple", Pair(1, 2), Pair(2, 1)),
        ("namedtuple and tuple", Pair(1, 2), (1, 2)),
        ("plain object", Plain(a=1, b=set(names)), Plain(a=2, b=set(names))),
        ("slots", Slotted(1, {2}), Slotted(1, {3})),
        ("durable key", Keyed("a", threading.Lock()), Keyed("b", threading.Lock())),
        ("subclass of str", Text("a"), "a"),
        ("exception", ValueError("a", {1, 2}), ValueError("a", {1, 3})),
        ("exceptions of two types", ValueError("a"), TypeError("a")),
        ("type", Order, Invoice),
        ("builtin type", int, float),
        ("generic alias", list[int], list[str]),
        ("union", int | str, int | None),
        ("module", json, re),
        ("importable function", json.dumps, json.loads),
        ("builtin", len, max),
        ("method of a builtin type", str.upper, str.lower),
        ("bound builtin", [1].append, [2].append),
        ("bound method", Plain(a=1).method, Plain(a=2).method),
        ("classmethod", dict.fromkeys, int.from_bytes),
        ("function", named, other_named),
        ("lambda", lambda x: x + 1, lambda x: x + 2),
        ("lambda with default", lambda x=1: x, lambda x=2: x),
        ("closure", adder(1), adder(2)),
        ("closure over a set", adder(set(names)), adder(set(names[1:]))),
        ("partial", functools.partial(named, 1, b=2), functools.partial(named, 1, b=3)),
        ("partial of a lambda", functools.partial(lambda x: x, 1), functools.partial(lambda x: -x, 1)),
        ("operator", operator.itemgetter(1), operator.itemgetter(2)),
        ("recursive list", recursive_list(), recursive_list(3)),
        ("recursive object", recursive_object("a"), recursive_object("b")),
        ("recursive function", recursive_function(1), recursive_function(2)),
        ("live objects of two types", threading.Lock(), threading.Event()),
        ("live object within", {"lock": threading.Lock(), "n": 1}, {"lock": threading.Lock(), "n": 2}),
        ("loop-bound", asyncio.Queue(), asyncio.Event()),
    ]


def numpy_entries() -> list[Entry]:
    record = np.dtype([("a", "i4"), ("b", "f8"), ("c", "O")], align=True)
    kinds = ["?", "i1", "u2", "i4", "i8", ">i4", "f2", "f4", "f8", "g", "c8", "c16", "G", "S5", "U5", "O", "T"]
    times = [("times", "M8[s]", "M8[ms]"), ("spans", "m8[s]", "m8[D]")]
    return [
        *((f"array {kind}", array(kind), array(kind, last=0)) for kind in kinds),
        *((f"array of {name}", array("i8").view(one), array("i8").view(other)) for name, one, other in times),
        ("structured array", np.array([(1, 2.0, "x")], record), np.array([(1, 2.0, "y")], record)),
        ("void array", np.array([b"ab"], "V2"), np.array([b"ac"], "V2")),
        ("nested structure", np.zeros(2, [("p", [("x", "i4", (2,))])]), np.zeros(2, [("q", [("x", "i4", (2,))])])),
        ("dtypes", np.zeros(3, "i4"), np.zeros(3, "u4")),
        ("shapes", np.zeros((2, 3)), np.zeros((3, 2))),
        ("nothing in two shapes", np.zeros((0, 3)), np.zeros((3, 0))),
        ("scalar and number", np.float64(1.0), 1.0),
        ("scalars", np.int32(1), np.int64(1)),
        ("scalar and array", np.int64(1), np.array(1)),
        ("datetime64", np.datetime64("2026-01-01", "s"), np.datetime64("2026-01-01", "ms")),
        ("masked array", np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[True, False])),
        ("dtype", np.dtype("i4"), np.dtype("i8")),
        ("objects in an array", np.array([{"a": {1, 2}}, None]), np.array([{"a": {1, 3}}, None])),
        ("generator", np.random.default_rng(1), np.random.default_rng(2)),
        ("ufunc", np.sin, np.cos),
    ]


def frame_entries() -> list[Entry]:
    words = ["b", "a", None]
    days = pd.date_range("2026-01-01", periods=3, tz="UTC")
    columns = {"i": [1, 2, 3], "f": [1.0, None, 3.0], "s": ["x", None, "z"], "t": list(days)}
    polar = {
        "i": [1, None, 3],
        "f": [1.0, float("nan"), None],
        "s": words,
        "l": [[1], [], None],
        "d": [dt.date(2026, 1, 1), None, dt.date(2026, 1, 2)],
    }
    return [
        ("pydantic", Model(name="a", tags={"x", "y"}), Model(name="a", tags={"x", "z"})),
        (
            "pydantic extra",
            Extra.model_validate({"name": "a", "more": 1}),
            Extra.model_validate({"name": "a", "more": 2}),
        ),
        ("DataFrame", pd.DataFrame(columns), pd.DataFrame({**columns, "i": [1, 2, 4]})),
        ("DataFrame column names", pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        ("DataFrame dtypes", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, dtype="int32")),
        ("DataFrame index", pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[1, 0])),
        ("DataFrame column order", pd.DataFrame({"a": [1], "b": [1]}), pd.DataFrame({"b": [1], "a": [1]})),
        ("Series", pd.Series([1, 2], name="a"), pd.Series([1, 2], name="b")),
        ("Series of words", pd.Series(words), pd.Series(["b", "a", "c"])),
        ("Series of objects", pd.Series([{1, 2}, "x"]), pd.Series([{1, 3}, "x"])),
        ("Int64", pd.array([1, None, 3], dtype="Int64"), pd.array([1, 0, 3], dtype="Int64")),
        ("boolean", pd.array([True, None], dtype="boolean"), pd.array([True, False], dtype="boolean")),
        ("string", pd.array(words, dtype="string"), pd.array(["b", "a", ""], dtype="string")),
        ("Categorical", pd.Categorical(["a", "b"]), pd.Categorical(["a", "b"], categories=["a", "b", "c"])),
        ("ordered", pd.Categorical(["a"], ordered=True), pd.Categorical(["a"], ordered=False)),
        ("CategoricalIndex", pd.CategoricalIndex(["a", "b"]), pd.CategoricalIndex(["b", "a"])),
        ("zones of a Series", pd.Series(days), pd.Series(days.tz_convert("Europe/Berlin"))),
        ("Index", pd.Index([1, 2]), pd.Index([1, 3])),
        ("RangeIndex", pd.RangeIndex(3), pd.RangeIndex(4)),
        ("MultiIndex", pd.MultiIndex.from_product([[1, 2], ["a"]]), pd.MultiIndex.from_product([[1, 3], ["a"]])),
        ("DatetimeIndex", days, days + pd.Timedelta(1, "s")),
        ("PeriodIndex", pd.period_range("2026", periods=2, freq="M"), pd.period_range("2026", periods=2, freq="D")),
        ("IntervalIndex", pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left")),
        ("sparse", pd.Series([0, 0, 1], dtype="Sparse[int]"), pd.Series([0, 1, 0], dtype="Sparse[int]")),
        ("Timestamp", pd.Timestamp(1, unit="ns"), pd.Timestamp(2, unit="ns")),
        ("Timedelta", pd.Timedelta(1, "ns"), pd.Timedelta(2, "ns")),
        ("NaT and NA", pd.NaT, pd.NA),
        ("Period", pd.Period("2026-01", "M"), pd.Period("2026-02", "M")),
        ("Interval", pd.Interval(0, 1), pd.Interval(0, 2)),
        ("offset", pd.offsets.MonthEnd(1), pd.offsets.MonthEnd(2)),
        ("dtype of pandas", pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"])),
        ("polars", pl.DataFrame(polar), pl.DataFrame({**polar, "i": [1, 2, 3]})),
        ("polars schema", pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}, schema={"a": pl.Int32})),
        ("polars Series", pl.Series("a", [1, 2]), pl.Series("b", [1, 2])),
        ("polars nulls", pl.Series([1, None]), pl.Series([1, 0])),
        ("polars booleans", pl.Series([True, None]), pl.Series([True, False])),
        ("polars lists", pl.Series([[1], [2, 3]]), pl.Series([[1, 2], [3]])),
        ("polars structs", pl.Series([{"a": 1}]), pl.Series([{"a": 2}])),
        ("polars objects", pl.Series([{1, 2}], dtype=pl.Object), pl.Series([{1, 3}], dtype=pl.Object)),
        ("polars categories", pl.Series(["a", "b"], dtype=pl.Categorical), pl.Series(["a", "b"])),
        ("polars Enum", pl.Series(["a"], dtype=pl.Enum(["a"])), pl.Series(["a"], dtype=pl.Enum(["a", "b"]))),
        ("polars times", pl.Series([1]).cast(pl.Datetime("us")), pl.Series([1]).cast(pl.Datetime("ms"))),
        ("polars dtype", pl.Int32(), pl.Int64()),
        ("LazyFrame", pl.LazyFrame({"a": [1]}).select("a"), pl.LazyFrame({"a": [2]}).select("a")),
        ("expression", pl.col("a") + 1, pl.col("a") + 2),
    ]


def entries() -> list[Entry]:
    return [*plain_entries(), *numpy_entries(), *frame_entries()]


def digests() -> dict[str, tuple[str, str]]:
    return {name: (digest(encode(a)).hex(), digest(encode(b)).hex()) for name, a, b in entries()}


if __name__ == "__main__":
    json.dump(digests(), sys.stdout)
