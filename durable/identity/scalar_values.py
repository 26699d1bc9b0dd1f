"""Values without parts as self-delimiting bytes: a tag, a length where it varies, and the value or its digest."""

from __future__ import annotations

import hashlib
import struct
from types import EllipsisType, NotImplementedType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


PAGE: Final = 4096  # bytes from which a digest stands for an encoding
_NAN: Final = float("nan")
_pack_float = struct.Struct(">cd").pack


def digest(data: bytes) -> bytes:
    """16 bytes that stand for the data."""
    return hashlib.blake2b(data, digest_size=16).digest()


def paged(data: bytes) -> bytes:
    """Let a digest stand for a long encoding."""
    return b"#" + digest(data)


def sized(tag: bytes, data: Any) -> bytes:
    """Frame bytes by a tag and their length."""
    size = len(data)
    if size > PAGE:
        return b"".join((tag, b"%d#" % size, digest(data)))
    return b"".join((tag, b"%d:" % size, data))


def encode_text(value: str) -> bytes:
    """Text, which may hold lone surrogates."""
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > PAGE:
        return sized(b"s", data)
    return b"s%d:" % len(data) + data


def encode_integer(value: int) -> bytes:
    """Any integer."""
    return b"i%x;" % value  # decimal digits are limited in number


def encode_float(value: float) -> bytes:
    """A float; every NaN is the same."""
    return _pack_float(b"f", value if value == value else _NAN)  # noqa: PLR0124 -- only NaN differs from itself


def encode_complex(value: complex) -> bytes:
    """Two floats."""
    return b"c" + encode_float(value.real) + encode_float(value.imag)


SCALARS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: encode_text,
    int: encode_integer,
    float: encode_float,
    bool: lambda value: b"T" if value else b"F",
    type(None): lambda _: b"N",
    bytes: lambda value: sized(b"b", value),
    bytearray: lambda value: sized(b"B", value),
    complex: encode_complex,
    EllipsisType: lambda _: b"E",
    NotImplementedType: lambda _: b"I",
}
