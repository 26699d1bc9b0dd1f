"""What identifies an argument depends on its value alone, and what has no value is refused before the body runs."""

from __future__ import annotations

import enum
from typing import Any, Final

from durable.errors import FingerprintError
from durable.identity.encoding import (
    SCALARS,
    Unencodable,
    digest,
    encode,
    encode_type,
    register_live_type,
)
from durable.identity.plain_values import is_frozen, reduce_dataclass
from durable.identity.type_names import name_of, short_name_of

__all__ = ["Unencodable", "cheap_label", "digest", "encode", "encode_argument", "encode_self", "register_live_type"]

_LABEL_SIZE: Final = 256
_LABEL_ITEMS: Final = 8
_LABEL_DEPTH: Final = 2
_LABELLED: Final = {
    "datetime:date",
    "datetime:datetime",
    "decimal:Decimal",
    "uuid:UUID",
    "pathlib:PosixPath",
    "pathlib:WindowsPath",
}


_FUTURE = "durable.concurrency.futures.TaskFuture"


def encode_argument(task: str, parameter: str, value: object) -> bytes:
    """`encode`, with the error that a user sees; a parameter called `_name` counts by its type if need be."""
    try:
        return encode(value)
    except Unencodable as error:
        if parameter.startswith("_"):
            return encode_type(type(value))
        if error.culprit == _FUTURE:
            raise FingerprintError(
                f"Task {task!r} was not executed: {parameter}{error.path} is the future of a submitted task, and stands for "
                f"its result only as an argument of submit(...), also inside lists, tuples, sets and dicts. Pass "
                f"future.result(), or submit this call too."
            ) from None
        raise FingerprintError(
            f"Task {task!r} was not executed: its argument {parameter!r} could not be recognised when the run is "
            f"resumed, because {parameter}{error.path} is a {error.culprit}, which has no value. Leave the parameter "
            f"out with ignore={(parameter,)!r}, name the call with key=, rename the parameter to '_{parameter}' so "
            f"that it counts by its type alone, or give the class a __durable_key__() or to register_live_type()."
        ) from error.__cause__


def encode_self(value: object) -> bytes:
    """The `self` of a method that is a task: its key or frozen value, else its type, since it may change."""
    kind = type(value)
    if hasattr(kind, "__durable_key__"):
        return encode_argument(name_of(kind), "self", value)
    if isinstance(value, type) or is_frozen(kind):
        try:
            return encode(value)
        except Unencodable:
            pass
    return encode_type(kind)


def cheap_label(value: object) -> bytes:
    """A name for a value that is quick to make: small plain values by value, everything else by type; never fails."""
    try:
        return _label(value, _LABEL_DEPTH)
    except Exception:
        return encode_type(type(value))


def _label(value: Any, depth: int) -> bytes:
    kind = type(value)
    if kind in SCALARS:
        return encode(value) if _size(value) <= _LABEL_SIZE else encode_type(kind)
    items = _label_items(value, kind)
    if items is None:
        plain = issubclass(kind, enum.Enum) or short_name_of(kind) in _LABELLED
        return encode(value) if plain else encode_type(kind)
    if not depth or len(items) > _LABEL_ITEMS:
        return encode_type(kind)
    if isinstance(items, dict):
        parts = sorted(_label(key, depth - 1) + _label(item, depth - 1) for key, item in items.items())
    else:
        parts = [_label(item, depth - 1) for item in items]
    return b"".join((encode_type(kind), b"%d:" % len(parts), *parts))


def _size(scalar: Any) -> int:
    if isinstance(scalar, int):
        return scalar.bit_length()
    return len(scalar) if isinstance(scalar, str | bytes | bytearray) else 0


def _label_items(value: Any, kind: type) -> list[Any] | tuple[Any, ...] | dict[Any, Any] | None:
    if kind is list or kind is tuple or kind is dict:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    if hasattr(kind, "__dataclass_fields__") and is_frozen(kind):
        return reduce_dataclass(value)
    return None
