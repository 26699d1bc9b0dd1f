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
    error = begin(cls, args)
    restore(error, attributes)
    if lost or message_of(error) != message:
        error = begin(cls, args, lost, message)
        restore(error, attributes)
    return error


def reduction(
    error: BaseException, args: tuple[Any, ...], attributes: dict[str, Any], lost: dict[str, str]
) -> tuple[Any, ...]:
    """What a pickler needs to have the exception rebuilt; attributes come last, so that they may refer back to it."""
    cls, message = recorded_class(error), message_of(error)
    partial = isinstance(rebuild(cls, args, attributes, lost, message), _Partial)
    return begin, (cls, args, *((lost, message) if partial else ())), attributes, None, None, restore


def begin(
    cls: type[BaseException], args: tuple[Any, ...], lost: Mapping[str, str] | None = None, message: str | None = None
) -> BaseException:
    """The exception without its attributes; with a message it shows that one, and knows what is lost."""
    made: Any = cls if message is None else _partial(cls)  # type: ignore[arg-type]  # mypy asks its objects for a hash
    error: BaseException = _built_in(cls, "__new__")(made, *args)
    with suppress(TypeError, ValueError):  # such as UnicodeDecodeError, whose arguments may be anything in a subclass
        _built_in(cls, "__init__")(error, *args)
    BaseException.__setattr__(error, "args", args)  # a frozen dataclass refuses its own way
    if message is not None:
        vars(error).update(__durable_lost__=dict(lost or {}), __durable_message__=message)
    return error


def restore(error: BaseException, attributes: Mapping[str, Any]) -> None:
    """Set the attributes, whatever the class has to say about that."""
    for name, value in attributes.items():
        with suppress(AttributeError, TypeError):  # a member that cannot be written follows from `args`
            BaseException.__setattr__(error, name, value)


def parts_of(
    error: BaseException, can_store: Callable[[object], bool], is_plain: Callable[[object], bool]
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    """Arguments and attributes that can be stored, and the types of those that cannot, by name."""
    lost = dict(vars(error).get("__durable_lost__", {}))
    attributes = {}
    for name, value in attributes_of(error).items():
        if name.startswith(_OWN) or (name == "obj" and isinstance(error, AttributeError)):
            continue  # Python does not pickle the object without the attribute either
        # whatever the library: requests hold the headers that were sent, so credentials, and responses hold requests
        public = name.strip("_")
        if value is None or (public != "request" and (is_plain if public == "response" else can_store)(value)):
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
        return begin, (type(self).__bases__[1], self.args, lost, message), attributes

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        restore(self, attributes)  # type: ignore[arg-type]  # always mixed into an exception


@cache
def _partial(cls: Any) -> Any:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (_Partial, cls), names)  # a metaclass of the user's has its say
