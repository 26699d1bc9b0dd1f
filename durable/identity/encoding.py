"""Equal values give equal bytes in every process, and values that a body could tell apart give different bytes.

An encoding is self-delimiting: a tag for the type, then lengths, then parts. Dicts and sets are sorted by the encodings
of their elements, shared parts count as equal copies, and a part that contains itself is a step back by so many levels.
Whatever is longer than a page is replaced by its digest: encodings stay small and shared parts cost their size once.

Decisions that equality leaves open: `-0.0` is not `0.0`, every NaN is the same NaN, `Decimal("1.0")` is not
`Decimal("1.00")`, two times in different zones differ though they are the same instant, dicts are equal in any order
and `OrderedDict`s are not.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from durable.identity.array_values import ARRAY_REDUCTIONS
from durable.identity.live_types import LIVE_TYPES
from durable.identity.plain_values import PLAIN_REDUCTIONS, reduce_attrs, reduce_dataclass
from durable.identity.scalar_values import (
    PAGE,
    SCALARS,
    digest,
    encode_complex,
    encode_float,
    encode_integer,
    encode_text,
    paged,
    sized,
)
from durable.identity.type_names import name_of, short_name_of, slots_of

if TYPE_CHECKING:
    import enum

__all__ = ["SCALARS", "Unencodable", "digest", "encode", "encode_type", "register_live_type"]

_MOST_KNOWN_TYPES: Final = 4096
_MOST_RETURNS: Final = 1000


class Unencodable(Exception):  # noqa: N818 -- internal: users see the FingerprintError that is made of it
    """`path` leads from the encoded value to its part that has no value; `culprit` says what that part is."""

    def __init__(self, path: str, culprit: str) -> None:
        super().__init__(path, culprit)
        self.path = path
        self.culprit = culprit

    def prepend(self, step: str) -> None:
        self.path = step + self.path


def encode(value: object) -> bytes:
    """Canonical, self-delimiting bytes of a value; `Unencodable` if a part of it has none."""
    kind = type(value)
    scalar = SCALARS.get(kind)
    if scalar is not None:
        return scalar(value)
    try:
        container = _CONTAINERS.get(kind)
        if container is not None:
            encoded = container(value, None)
        else:
            encoded = (_known_types.get(kind) or _learn(kind))(value, Walk(value))
    except RecursionError:
        raise Unencodable("", f"{name_of(kind)} that is nested too deeply") from None
    return encoded if len(encoded) <= PAGE else paged(encoded)


def register_live_type(type_or_qualified_name: type | str) -> None:
    """Let instances of this type and its subclasses count by their type alone: they have no value of their own.

    A name is `"package.module.Class"` and needs no import.
    """
    name = type_or_qualified_name
    _NAMED[name if isinstance(name, str) else name_of(name)] = _live
    _forget_types()


class Walk:
    """The way from the root of a value to the part that is being encoded."""

    # Most walks need none of these, so they are made when they are needed.
    _lowest = sys.maxsize  # the outermost level that the parts encoded since point back to
    _finished: dict[int, tuple[object, bytes]] | None = None
    _returns: dict[int, tuple[object, int]] | None = None

    def __init__(self, root: object) -> None:
        self._depths = {id(root): 0}

    def encode(self, value: object) -> bytes:
        kind = type(value)
        scalar = SCALARS.get(kind)
        if scalar is not None:
            return scalar(value)
        identity = id(value)
        depths = self._depths
        depth = len(depths)
        if identity in depths:
            level = depths[identity]
            self._lowest = min(self._lowest, level)
            return b"^%d;" % (depth - level)
        if self._finished and identity in self._finished:
            return self._finished[identity][1]
        encoder = _known_types.get(kind) or _learn(kind)
        around, self._lowest = self._lowest, sys.maxsize
        depths[identity] = depth
        try:
            encoded = encoder(value, self)
        finally:
            del depths[identity]
        if len(encoded) > PAGE:
            encoded = paged(encoded)
            if self._lowest >= depth:
                self._finish(value, encoded)
        if self._lowest >= depth:
            self._lowest = around
        else:
            self._count_return(value)
            self._lowest = min(self._lowest, around)
        return encoded

    def _finish(self, value: object, encoded: bytes) -> None:
        if self._finished is None:
            self._finished = {}
        self._finished[id(value)] = (value, encoded)

    def _count_return(self, value: object) -> None:
        # A part of a cycle is encoded once for each way to it; a dense graph has more of them than anyone can wait for.
        if self._returns is None:
            self._returns = {}
        _, count = self._returns.get(id(value), (value, 0))
        if count > _MOST_RETURNS:
            raise Unencodable("", f"{name_of(type(value))} in a net of too many cycles")
        self._returns[id(value)] = (value, count + 1)


_Encoder = Callable[[Any, Walk], bytes]


def _items(values: Collection[Any], walk: Walk | None, step: str = "[{}]") -> list[bytes]:
    parts: list[bytes] = []
    for value in values:
        scalar = SCALARS.get(type(value))
        if scalar is not None:
            parts.append(scalar(value))
            continue
        walk = walk or Walk(values)
        try:
            parts.append(walk.encode(value))
        except Unencodable as error:
            error.prepend(step.format(len(parts)))
            raise
    return parts


def _list(value: Collection[Any], walk: Walk | None) -> bytes:
    parts = _items(value, walk)
    return b"l%d:" % len(parts) + b"".join(parts)


def _tuple(value: Collection[Any], walk: Walk | None) -> bytes:
    parts = _items(value, walk)
    return b"t%d:" % len(parts) + b"".join(parts)


_MEMBER: Final = "{{...}}"  # a set has no places


def _set(value: Collection[Any], walk: Walk | None) -> bytes:
    parts = sorted(_items(value, walk, _MEMBER))
    return b"e%d:" % len(parts) + b"".join(parts)


def _frozenset(value: Collection[Any], walk: Walk | None) -> bytes:
    parts = sorted(_items(value, walk, _MEMBER))
    return b"z%d:" % len(parts) + b"".join(parts)


def _dict(value: dict[Any, Any], walk: Walk | None) -> bytes:
    parts: list[bytes] = []
    for key, item in value.items():
        key_scalar, scalar = SCALARS.get(type(key)), SCALARS.get(type(item))
        if key_scalar is None or scalar is None:
            return _pairs(value.items(), walk or Walk(value), _subscript)
        parts.append(key_scalar(key) + scalar(item))
    parts.sort()
    return b"d%d:" % len(parts) + b"".join(parts)


def _pairs(items: Iterable[tuple[Any, Any]], walk: Walk, step: Callable[[Any], str]) -> bytes:
    parts: list[bytes] = []
    for key, item in items:
        try:
            parts.append(walk.encode(key) + walk.encode(item))
        except Unencodable as error:
            error.prepend(step(key))
            raise
    parts.sort()
    return b"d%d:" % len(parts) + b"".join(parts)


_CONTAINERS: Final[dict[type, Callable[[Any, Walk | None], bytes]]] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
}


def _subscript(key: object) -> str:
    return f"[{key!r:.80}]" if type(key) in SCALARS else f"[{name_of(type(key))}]"


def _attribute(name: object) -> str:
    return f".{name}".replace("..", ".")


def _fields(fields: dict[Any, Any], walk: Walk) -> bytes:
    return _pairs(fields.items(), walk, _attribute)


def _memoryview(value: memoryview, _: Walk) -> bytes:
    shape = repr((value.format, value.shape)).encode()
    data = value.cast("B") if value.c_contiguous and value.nbytes else value.tobytes()
    return sized(b"m", shape) + sized(b"b", data)


def encode_type(kind: type) -> bytes:
    return b"L" + encode_text(name_of(kind))


def _live(value: object, _: Walk) -> bytes:
    return encode_type(type(value))


def _type(value: type, _: Walk) -> bytes:
    return b"C" + encode_text(name_of(value))


def _enum(value: enum.Enum, walk: Walk) -> bytes:
    try:
        content = walk.encode(value._value_)
    except Unencodable:  # then the name has to do
        content = b"N"
    return b"M" + encode_text(name_of(type(value))) + encode_text(str(value._name_)) + content


def _keyed(value: Any, walk: Walk) -> bytes:
    return b"K" + encode_text(name_of(type(value))) + walk.encode(_asked(value, value.__durable_key__))


def _asked(value: object, question: Callable[[], Any]) -> Any:
    """What the user's or a library's code says about a value; when it fails, the value cannot be encoded."""
    try:
        return question()
    except Exception as error:
        raise Unencodable("", name_of(type(value))) from error


def _reducing(reduction: Callable[[Any], Any], tag: bytes, own: Callable[[Any], Any] | None = None) -> _Encoder:
    def encoder(value: Any, walk: Walk) -> bytes:
        reduced = _asked(value, lambda: reduction(value))
        encoded = _fields(reduced, walk) if type(reduced) is dict else walk.encode(reduced)
        return tag + encoded if own is None else tag + encoded + _state(own(value), walk)

    return encoder


def _object_of(kind: type) -> _Encoder:
    # What a property cached is derived from the rest, and may or may not have been asked for yet.
    derived = {name for base in kind.__mro__ for name, item in vars(base).items() if type(item) is cached_property}

    def encoder(value: Any, walk: Walk) -> bytes:
        reduced = _asked(value, lambda: _reduce(value))
        if isinstance(reduced, str):
            return b"G" + encode_text(f"{getattr(value, '__module__', kind.__module__)}.{reduced}")
        maker, arguments, state, items, pairs = reduced
        if derived and type(state) is dict:
            state = {name: item for name, item in state.items() if name not in derived}
        try:
            made = _list((maker, *arguments), walk)
        except Unencodable as error:
            error.prepend(".__reduce__()")
            raise
        return b"O%b%b%b%b" % (made, _state(state, walk), _list(items, walk), _pairs(pairs, walk, _subscript))

    return encoder


def _reduce(value: Any) -> Any:
    registered = copyreg.dispatch_table.get(type(value))
    reduced: Any = registered(value) if registered is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    maker, arguments, *rest = reduced
    state, items, pairs = (*rest, None, None, None)[:3]
    return maker, tuple(arguments), state, list(items or ()), list(pairs or ())


def _state(state: Any, walk: Walk) -> bytes:
    match state:
        case (dict() | None as attributes, dict() as slots):
            return _fields({**(attributes or {}), **slots}, walk)
        case dict():
            return _fields(state, walk)
    return walk.encode(state)


_BASES: Final[dict[type, Callable[[Any, Walk], bytes]]] = {
    int: lambda value, _: encode_integer(int.__int__(value)),
    float: lambda value, _: encode_float(float.__float__(value)),
    complex: lambda value, _: encode_complex(value),
    str: lambda value, _: encode_text(str.__str__(value)),
    bytes: lambda value, _: sized(b"b", memoryview(value)),
    bytearray: lambda value, _: sized(b"B", memoryview(value)),
    tuple: lambda value, walk: _tuple([*tuple.__iter__(value)], walk),
    list: lambda value, walk: _list([*list.__iter__(value)], walk),
    set: lambda value, walk: _set([*set.__iter__(value)], walk),
    frozenset: lambda value, walk: _frozenset([*frozenset.__iter__(value)], walk),
    dict: lambda value, walk: _pairs(dict.items(value), walk, _subscript),
}


def _subclass_of(base: type, kind: type) -> _Encoder:
    tag, encode_base = b"S" + encode_text(name_of(kind)), _BASES[base]

    def encoder(value: Any, walk: Walk) -> bytes:
        state = _asked(value, value.__getstate__)
        return tag + encode_base(value, walk) + _state(state, walk)

    return encoder


_NAMED: Final[dict[str, _Encoder]] = dict.fromkeys(LIVE_TYPES, _live) | {
    "builtins:type": _type,
    "builtins:memoryview": _memoryview,
    "enum:Enum": _enum,
}
_REDUCTIONS: Final = PLAIN_REDUCTIONS | ARRAY_REDUCTIONS
_WHOLE: Final = {"pandas", "polars", "pydantic", "wrapt", "_wrappers"}  # their reductions cover what subclasses add

_BUILTINS: Final[dict[type, _Encoder]] = {**_CONTAINERS, type: _type}
_known_types: Final[dict[type, _Encoder]] = dict(_BUILTINS)


def _learn(kind: type) -> _Encoder:
    if len(_known_types) > _MOST_KNOWN_TYPES:  # a program that makes classes as it goes must be able to free them
        _forget_types()
    encoder = _known_types[kind] = _choose(kind)
    return encoder


def _forget_types() -> None:
    _known_types.clear()
    _known_types.update(_BUILTINS)


def _choose(kind: type) -> _Encoder:
    if hasattr(kind, "__durable_key__"):
        return _keyed
    for base in kind.__mro__[:-1]:
        for name in (name_of(base), short_name_of(base)):
            if name in _NAMED:
                return _NAMED[name]
            if name in _REDUCTIONS:
                return _reduced_as(name, base, kind)
    for base in kind.__mro__:
        if base in _BASES:
            return _subclass_of(base, kind)
    for mark, reduction in (("__dataclass_fields__", reduce_dataclass), ("__attrs_attrs__", reduce_attrs)):
        if hasattr(kind, mark):
            return _reducing(reduction, b"D" + encode_text(name_of(kind)))
    return _object_of(kind)


def _reduced_as(name: str, base: type, kind: type) -> _Encoder:
    if base is kind:
        return _reducing(_REDUCTIONS[name], b"R" + encode_text(name))
    tag = b"r" + encode_text(name) + encode_text(name_of(kind))
    if name.partition(":")[0] in _WHOLE:
        return _reducing(_REDUCTIONS[name], tag)
    own_slots = [slot for above in kind.__mro__[: kind.__mro__.index(base)] for slot in slots_of(above)]

    def own(value: Any) -> dict[str, Any]:
        slots = {slot: getattr(value, slot) for slot in own_slots if hasattr(value, slot)}
        return {**getattr(value, "__dict__", {}), **slots}

    return _reducing(_REDUCTIONS[name], tag, own)
