"""A rebuilt exception is of the recorded class and shows the recorded message; what was not stored says so when read.

It is made without the `__init__` of its class, which may ask for arguments that nobody kept.
"""

from __future__ import annotations

import types
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from durable.errors import LostAttributeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EVERYTHING", "attributes_of", "message_of", "parts_of", "rebuild", "recorded_class", "type_name"]

_OWN = "__durable_"  # begins the names of attributes that are ours
EVERYTHING = "*"  # lost: all attributes, whatever their names


def rebuild(
    cls: type[BaseException],
    args: tuple[Any, ...],
    attributes: Mapping[str, Any],
    lost: Mapping[str, str],
    message: str,
) -> BaseException:
    """An exception that `except cls` catches; `lost` maps names of missing attributes to what they were."""
    error = _bare(cls, args, attributes)
    if lost or message_of(error) != message:
        error = _bare(_partial(cls), args, attributes)  # type: ignore[arg-type] # mypy asks instances for a hash
        vars(error).update(__durable_lost__=dict(lost), __durable_message__=message)
    return error


def parts_of(
    error: BaseException, can_store: Callable[[object], bool], is_plain: Callable[[object], bool]
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    """Arguments and attributes that can be stored, and the types of those that cannot, by name."""
    lost = dict(vars(error).get("__durable_lost__", {}))
    attributes = {}
    for name, value in attributes_of(error).items():
        if name.startswith(_OWN) or (name == "obj" and isinstance(error, AttributeError)):
            continue  # Python does not pickle the object without the attribute either
        # whatever the library, these hold the headers that were sent, and so the credentials
        suspect = name.strip("_") in {"request", "response"}
        if (is_plain if suspect else can_store)(value):
            attributes[name] = value
        else:
            lost[name] = type_name(type(value))
    if isinstance(error, BaseExceptionGroup) or can_store(error.args):
        return error.args, attributes, lost
    args = tuple(arg if can_store(arg) else f"<{type_name(type(arg))}, not stored>" for arg in error.args)
    return args, attributes, lost | {"args": "tuple"}


def attributes_of(value: object) -> dict[str, Any]:
    """What the object keeps in its `__dict__`, in `__slots__` and in the members of built-in exceptions."""
    members = (
        name
        for base in type(value).__mro__
        if "__slots__" in vars(base) or issubclass(base, BaseException)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType) and not name.startswith("__")
    )
    found = {name: getattr(value, name, None) for name in members}
    return {name: item for name, item in found.items() if item is not None} | dict(getattr(value, "__dict__", {}))


def recorded_class(error: BaseException) -> type[BaseException]:
    """The class that the exception was recorded with, also if it was rebuilt."""
    cls = type(error)
    return cls.__bases__[1] if issubclass(cls, _Partial) else cls


def message_of(error: BaseException) -> str:
    """`str(error)`, also if the class's own `__str__` fails."""
    try:
        return str(error)
    except Exception as failure:
        return f"<its __str__ failed: {type(failure).__name__}>"


def type_name(kind: type) -> str:
    """Qualified name of a class, without the module for built-in ones."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _bare(cls: type[BaseException], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> BaseException:
    error: BaseException = _built_in(cls, "__new__")(cls, *args)
    with suppress(TypeError, ValueError):  # such as UnicodeDecodeError, whose arguments may be anything in a subclass
        _built_in(cls, "__init__")(error, *args)
    error.args = args
    for name, value in attributes.items():
        with suppress(AttributeError, TypeError):  # a member that cannot be written follows from `args`
            BaseException.__setattr__(error, name, value)
    return error


def _built_in(cls: type[BaseException], name: str) -> Callable[..., Any]:
    found = (vars(base).get(name) for base in cls.__mro__)
    return next(item for item in found if isinstance(item, types.BuiltinFunctionType | types.WrapperDescriptorType))


class _Partial:
    __slots__ = ()
    __durable_lost__: dict[str, str]
    __durable_message__: str

    def __init_subclass__(cls) -> None:
        """Keep the hook of the exception's class from registering a subclass that is none of the user's."""

    def __getattr__(self, name: str) -> Any:
        cls = type(self).__bases__[1]
        lost = vars(self).get("__durable_lost__", {})
        # a property of the class that is there may have asked for what is lost
        if name in lost or (lost and hasattr(cls, name)) or (EVERYTHING in lost and not name.startswith("__")):
            detail = lost.get(name) or lost.get(EVERYTHING) or "it depends on another one"
            raise LostAttributeError(
                f"attribute {name!r} of {type_name(cls)} was not stored with the exception ({detail}). "
                "Read it in the body of the step, or return what you need of it."
            )
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __str__(self) -> str:
        return self.__durable_message__

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = {name: value for name, value in vars(self).items() if not name.startswith(_OWN)}
        lost, message = self.__durable_lost__, self.__durable_message__
        return rebuild, (type(self).__bases__[1], self.args, attributes, lost, message)


@cache
def _partial(cls: Any) -> Any:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (_Partial, cls), names)  # a metaclass of the user's has its say
