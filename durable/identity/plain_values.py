"""Standard-library and model objects become plain values that hold all that tells two of them apart, and nothing else.

A name is the top-level package and the qualified name, as in `live_types`; what a reduction returns is encoded in turn.
Keys of a dict are attribute names: they lead a reader of an error message to the part that has no value.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from durable.identity.source_code import function_digest
from durable.identity.type_names import importable_name

if TYPE_CHECKING:
    from collections.abc import Callable


_IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset, enum.Enum)


class _Unset(enum.Enum):
    UNSET = "a field without a value"


def _clock(value: Any) -> tuple[Any, ...]:
    return (value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo)


def _pydantic(value: Any) -> dict[str, Any]:
    fields = {name: getattr(value, name, _Unset.UNSET) for name in type(value).__pydantic_fields__}
    return {"private": value.__pydantic_private__ or {}, "extra": value.__pydantic_extra__ or {}, **_named(fields)}


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    # a dot keeps a field called "extra" apart from the extras themselves
    return {f".{name}": value for name, value in fields.items()}


def _function(value: Any) -> Any:
    name = importable_name(value)
    if name is not None:
        return name
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    return {
        "__code__": function_digest(value) or value.__code__,
        "__defaults__": value.__defaults__,
        "__kwdefaults__": value.__kwdefaults__,
        "__closure__": {variable: _content(cell) for variable, cell in cells},
    }


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return _Unset.UNSET


def _code(value: Any) -> tuple[Any, ...]:
    return (value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars, value.co_flags)


def _wrapper(value: Any) -> Any:
    return importable_name(value) or value.__wrapped__


def _bound_builtin(value: Any) -> tuple[Any, str]:
    owner = value.__self__
    if owner is None or type(owner).__name__ == "module":
        return (None, f"{value.__module__}.{value.__qualname__}")
    return (owner, value.__name__)


PLAIN_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "datetime:datetime": lambda value: (value.year, value.month, value.day, *_clock(value)),
    "datetime:date": lambda value: (value.year, value.month, value.day),
    "datetime:time": _clock,
    "datetime:timedelta": lambda value: (value.days, value.seconds, value.microseconds),
    "datetime:timezone": lambda value: (value.utcoffset(None), value.tzname(None)),
    "zoneinfo:ZoneInfo": lambda value: value.key,
    "decimal:Decimal": str,
    "fractions:Fraction": lambda value: (value.numerator, value.denominator),
    "uuid:UUID": lambda value: value.bytes,
    "pathlib:PurePath": str,
    "pathlib:PurePosixPath": str,
    "pathlib:PureWindowsPath": str,
    "pathlib:PosixPath": str,
    "pathlib:WindowsPath": str,
    "re:Pattern": lambda value: (value.pattern, value.flags),
    "builtins:range": lambda value: (value.start, value.stop, value.step),
    "builtins:slice": lambda value: (value.start, value.stop, value.step),
    "builtins:mappingproxy": dict,
    "builtins:dict_keys": set,
    "builtins:dict_values": list,
    "builtins:dict_items": dict,
    "collections:OrderedDict": lambda value: list(value.items()),
    "collections:defaultdict": lambda value: {"default_factory": value.default_factory, "items": dict(value)},
    "collections:deque": lambda value: {"maxlen": value.maxlen, "items": list(value)},
    "functools:partial": lambda value: {"func": value.func, "args": value.args, "keywords": value.keywords},
    "builtins:function": _function,
    "builtins:code": _code,
    "functools:_lru_cache_wrapper": _wrapper,
    "_wrappers:ObjectProxy": _wrapper,
    "wrapt:ObjectProxy": _wrapper,
    "wrapt:BaseObjectProxy": _wrapper,
    "builtins:method": lambda value: {"__func__": value.__func__, "__self__": value.__self__},
    "builtins:builtin_function_or_method": _bound_builtin,
    "builtins:method-wrapper": lambda value: (value.__self__, value.__name__),
    "builtins:wrapper_descriptor": lambda value: (value.__objclass__, value.__name__),
    "builtins:method_descriptor": lambda value: (value.__objclass__, value.__name__),
    "builtins:classmethod_descriptor": lambda value: (value.__objclass__, value.__name__),
    "builtins:staticmethod": lambda value: value.__func__,
    "builtins:classmethod": lambda value: value.__func__,
    "builtins:module": lambda value: value.__name__,
    "_io:BytesIO": lambda value: (value.getvalue(), value.tell()),
    "_io:StringIO": lambda value: (value.getvalue(), value.tell()),
    "pydantic:BaseModel": _pydantic,
}


def reduce_dataclass(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name, _Unset.UNSET) for field in dataclasses.fields(value)}


def reduce_attrs(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name, _Unset.UNSET) for field in type(value).__attrs_attrs__}


def is_frozen(kind: type) -> bool:
    """Whether instances of a type promise never to change."""
    if issubclass(kind, _IMMUTABLE):
        return True
    if "__dataclass_params__" in vars(kind):
        return bool(vars(kind)["__dataclass_params__"].frozen)
    settings = getattr(kind, "model_config", None)
    if isinstance(settings, dict) and hasattr(kind, "__pydantic_fields__"):
        return bool(settings.get("frozen"))
    return hasattr(kind, "__attrs_attrs__") and getattr(kind.__setattr__, "__name__", "") == "_frozen_setattrs"
