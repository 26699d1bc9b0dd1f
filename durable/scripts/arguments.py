"""Inputs that were written as text or JSON become values of the types that a function asks for, or the call is refused.

All that is wrong is said at once, by name, before anything is executed.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.errors import ConfigurationError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: float,
    complex: complex,
    Decimal: Decimal,
    Path: Path,
    UUID: UUID,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: lambda text: timedelta(seconds=float(text)),
}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NONE = {"null", "none", ""}
_UNIONS = (typing.Union, types.UnionType)
_CONTAINERS = {list: list, set: set, frozenset: frozenset, tuple: tuple}


class _WrongTypeError(Exception):
    """A value does not have the type that was asked for."""


def converted(function: Callable[..., Any], texts: dict[str, str], values: dict[str, Any]) -> dict[str, Any]:
    """Give the keyword arguments that `--arg` texts and JSON values mean to a function.

    Raises `ConfigurationError` naming all inputs that are unknown, missing, given twice or of another type.
    """
    parameters = inspect.signature(function).parameters
    hints = _hints(function)
    others = next((name for name, each in parameters.items() if each.kind == each.VAR_KEYWORD), "")
    problems = [f"{name} is given by --arg and by --json" for name in texts if name in values]
    problems += _misnamed(parameters, {**texts, **values})
    arguments: dict[str, Any] = {}
    for given, convert in ((texts, from_text), (values, from_json)):
        for name, value in given.items():
            hint = hints.get(name if name in parameters else others, Any)
            try:
                arguments[name] = convert(hint, value)
            except (_WrongTypeError, ValueError, TypeError, ArithmeticError):
                problems.append(f"{name} has to be {_shown(hint)}, not {value!r}")
    if problems:
        wanted = ", ".join(map(str, parameters.values())) or "nothing"
        raise ConfigurationError(f"{function.__qualname__} was not executed: {'; '.join(problems)}. It takes {wanted}.")
    return arguments


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that only type checkers see: the inputs are taken as they are
        return {}


def _misnamed(parameters: types.MappingProxyType[str, inspect.Parameter], given: dict[str, Any]) -> list[str]:
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    problems = []
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        unknown = (name for name in given if name not in named)
        problems = [f"{name} is unknown{suggestion(name, named, ' (did you mean {}?)')}" for name in unknown]
    required = (name for name, parameter in named.items() if parameter.default is parameter.empty)
    return problems + [f"{name} is missing" for name in required if name not in given]


def from_text(hint: Any, text: str) -> Any:
    """Read a text as a value of a type."""
    hint = _plain(hint)
    if hint in (Any, str, object):
        return text
    if hint is bool:
        if text.lower() not in _BOOLEANS:
            raise _WrongTypeError
        return _BOOLEANS[text.lower()]
    if hint is None or hint is type(None):
        if text.lower() not in _NONE:
            raise _WrongTypeError
        return None
    if hint in _FROM_TEXT:
        return _FROM_TEXT[hint](text)
    if typing.get_origin(hint) in _UNIONS:
        return _first(sorted(typing.get_args(hint), key=lambda each: each is str), text, from_text)
    if typing.get_origin(hint) is typing.Literal:
        return _named({str(choice): choice for choice in typing.get_args(hint)}, text)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _named({**{str(each.value): each for each in hint}, **{each.name: each for each in hint}}, text)
    return from_json(hint, json.loads(text))


def from_json(hint: Any, value: Any) -> Any:
    """Take a value of JSON as one of a type."""
    hint = _plain(hint)
    origin = typing.get_origin(hint) or hint
    if hint in (Any, object) or (hint is None and value is None):
        return value
    if origin in _UNIONS:
        return _first(typing.get_args(hint), value, from_json)
    if origin is typing.Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return _chosen(hint, value)
    if isinstance(value, list | dict):
        return _from_collection(hint, value)
    if hint is float and type(value) is int:
        return float(value)
    if hint in _FROM_TEXT and hint not in (int, float) and type(value) in (str, int, float):
        return _FROM_TEXT[hint](str(value))
    if isinstance(hint, type) and isinstance(value, hint) and (type(value) is not bool or hint is bool):
        return value
    if not isinstance(origin, type) or isinstance(hint, typing.TypeVar):
        return value
    raise _WrongTypeError


def _from_collection(hint: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _CONTAINERS and isinstance(value, list):
        return _CONTAINERS[origin](map(from_json, _items(origin, inner, value), value))
    if origin is dict and isinstance(value, dict):
        _, of_value = inner or (str, Any)
        return {name: from_json(of_value, each) for name, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return hint(**converted(hint, {}, value))
    if hint in _FROM_TEXT or hint in (str, bool, None, type(None)):
        raise _WrongTypeError
    return value


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _items(origin: Any, inner: tuple[Any, ...], value: list[Any]) -> list[Any]:
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        if len(inner) != len(value):
            raise _WrongTypeError
        return list(inner)
    return [inner[0] if inner else Any] * len(value)


def _first(hints: Any, value: Any, convert: Callable[[Any, Any], Any]) -> Any:
    for hint in hints:
        try:
            return convert(hint, value)
        except (_WrongTypeError, ConfigurationError, ValueError, TypeError, ArithmeticError):
            continue
    raise _WrongTypeError


def _named(choices: dict[str, Any], text: str) -> Any:
    if text not in choices:
        raise _WrongTypeError
    return choices[text]


def _chosen(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        for choice in typing.get_args(hint):
            if type(choice) is type(value) and choice == value:
                return choice
        raise _WrongTypeError
    for member in hint:
        if value in (member.name, member.value):
            return member
    raise _WrongTypeError


def _shown(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        if issubclass(hint, Enum):
            return f"one of {', '.join(each.name for each in hint)}"
        return hint.__name__
    return str(hint).replace("typing.", "")
