"""What a closure, a lambda, a partial or an object that can be called does follows from its code and from what it holds.

Only small plain values and functions count by value: lists and objects change while a program runs, and so do variables
that the function itself writes.
"""

from __future__ import annotations

import dis
import functools
from hashlib import blake2b
from types import FunctionType
from typing import TYPE_CHECKING, Any

from durable.identity.fingerprints import cheap_label
from durable.identity.source_code import function_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DEPTH = 4
_SIZE = 16


def behaviour_digest(function: Callable[..., Any]) -> bytes:
    """Digest the code of a function without a name of its own, and what it holds."""
    return blake2b(_behaviour(function, _DEPTH), digest_size=_SIZE).digest()


def _behaviour(function: Any, depth: int) -> bytes:
    function = _below_wrappers(function)
    if isinstance(function, functools.partial):
        held = [("", function.func), *enumerate(function.args), *sorted(function.keywords.items())]
        return _framed([b"partial", *_labels(held, depth)])
    if not isinstance(function, FunctionType):
        return _framed([cheap_label(function), *_labels(sorted(getattr(function, "__dict__", {}).items()), depth)])
    code = function.__code__
    written = {found.argval for found in dis.get_instructions(code) if found.opname == "STORE_DEREF"}
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    held = [(name, _content(cell)) for name, cell in cells if name not in written]
    return _framed([function_digest(function) or code.co_code, *_labels(held, depth)])


def _labels(held: Iterable[tuple[object, Any]], depth: int) -> Iterable[bytes]:
    for name, value in held:
        yield str(name).encode(errors="backslashreplace")
        yield _label(value, depth - 1)


def _label(value: Any, depth: int) -> bytes:
    name = getattr(value, "__qualname__", None)
    if not callable(value) or isinstance(value, type):
        return cheap_label(value)
    if isinstance(name, str) and "<" not in name:
        return f"{getattr(value, '__module__', '')}.{name}".encode(errors="backslashreplace")
    return _behaviour(value, depth) if depth else b"..."


def _below_wrappers(function: Any) -> Any:
    seen: set[int] = set()
    while hasattr(function, "__wrapped__") and id(function) not in seen:
        seen.add(id(function))
        function = function.__wrapped__
    return function


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _framed(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
