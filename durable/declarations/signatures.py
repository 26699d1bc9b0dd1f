"""Bind call arguments to parameters, as Python itself would, at the cost of one plain call.

`inspect.Signature.bind` takes twenty times as long as the call that it describes, and every replayed step pays it.
So a function with the same signature is generated once; calling it raises the very `TypeError` that the task would.
"""

from __future__ import annotations

import inspect
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import blake2b

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """Parameters of a function in their order, without the `self` of a method where `bound` says so.

    `positional` is how many there are if each can be given without its name: so many arguments are bound as they come.
    """

    def __init__(self, function: Callable[..., object], *, bound: bool) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        if bound and parameters and parameters[0].kind not in _VARIADIC:
            parameters = parameters[1:]
        are_positional = all(parameter.kind in _POSITIONAL for parameter in parameters)
        self.positional = len(parameters) if are_positional else None
        self.names = tuple(parameter.name for parameter in parameters)
        self.defaults = {p.name: _default(p) for p in parameters if _default(p) is not inspect.Parameter.empty}
        self.bind = _binder(getattr(function, "__name__", "task"), tuple(parameters))

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Give every parameter's value by its name, defaults included."""
        return dict(zip(self.names, self.bind(*args, **kwargs), strict=True))


class Binding(NamedTuple):
    """How a call's arguments count: each parameter's name, its frame (None: it is ignored) and how its default encodes.

    An argument equal to its default is left out of the content, so a new parameter with a default changes nothing.
    `content` is the digest of what all calls say, which each goes on with a copy of.
    """

    signature: Signature
    parameters: tuple[tuple[str, bytes | None, bytes | None], ...]
    content: blake2b

    @classmethod
    def of(cls, signature: Signature, ignored: tuple[str, ...], label_prefix: bytes) -> Binding:
        """Say how arguments count in the calls of a task."""
        from durable.identity.step_keys import content_hash  # noqa: PLC0415 -- slow to import, needed at the first call

        frames = (None if name in ignored else b"%d:%b=" % (len(name), name.encode()) for name in signature.names)
        defaults = (_default_encoding(signature, name) for name in signature.names)
        parameters = tuple(zip(signature.names, frames, defaults, strict=True))
        return cls(signature, parameters, content_hash(label_prefix))


def _default_encoding(signature: Signature, name: str) -> bytes | None:
    from durable.identity.encoding import Unencodable, encode  # noqa: PLC0415 -- see above

    try:
        return encode(signature.defaults[name]) if name in signature.defaults else None
    except Unencodable:
        return None


def _default(parameter: inspect.Parameter) -> object:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return ()
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return {}
    return parameter.default


def _binder(name: str, parameters: tuple[inspect.Parameter, ...]) -> Callable[..., tuple[Any, ...]]:
    plain = [
        parameter.replace(
            name=f"_{position}" if iskeyword(parameter.name) else parameter.name,  # as builtins may have
            annotation=inspect.Parameter.empty,
            default=_Reference(position) if parameter.default is not inspect.Parameter.empty else parameter.default,
        )
        for position, parameter in enumerate(parameters)
    ]
    header = str(inspect.Signature(plain))
    values = "".join(f"{parameter.name}," for parameter in plain)
    namespace: dict[str, Any] = {f"_d{position}": parameter.default for position, parameter in enumerate(parameters)}
    exec(f"def _bind{header}: return ({values})", namespace)  # noqa: S102 -- built from identifiers alone
    binder: Callable[..., tuple[Any, ...]] = namespace["_bind"]
    binder.__name__ = binder.__qualname__ = name
    return binder


class _Reference:
    """A default value in generated source: the name that the value has in its namespace."""

    def __init__(self, position: int) -> None:
        self._name = f"_d{position}"

    def __repr__(self) -> str:
        return self._name
