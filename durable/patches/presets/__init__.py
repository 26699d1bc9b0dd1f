"""A preset is looked up by its name: those of this package first, then the entry points of the group `durable.presets`."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from durable.errors import ConfigurationError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GROUP = "durable.presets"
_OWN = {
    "aiohttp": "aiohttp_session",
    "anthropic": "anthropic_client",
    "httpx": "httpx_client",
    "openai": "openai_client",
    "requests": "requests_session",
    "smtplib": "smtp",
    "stripe": "stripe_client",
    "subprocess": "processes",
    "urllib.request": "urllib_opener",
}


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patched function: `target` is "module:function" or "module:Class.method".

    `describe(function, instance, args, kwargs)` gives the `Action` that a call is, None for one that is no step; `function`
    is bound to `instance`. It may be a coroutine function if the target is one.
    """

    target: str
    describe: Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How the calls of a library become steps.

    `patches` are its functions whose calls are described as actions, `tasks` the names of the tasks of these actions.
    `targets` are functions that simply become tasks, with their options. `methods` are functions that raise what a result
    stands for (`raise_for_status`): what they raise counts as raised by the step that gave their object.
    """

    name: str
    patches: tuple[Patch, ...] = ()
    tasks: tuple[str, ...] = ()
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    methods: tuple[str, ...] = ()


def find_preset(name: str) -> Preset:
    """Give the preset of this name; raises `ConfigurationError` for an unknown one and one that cannot be loaded."""
    if name in _OWN:
        found: Preset = import_module(f"{__name__}.{_OWN[name]}").PRESET
        return found
    others = _entry_points()
    if name in others:
        return _load(others[name])
    known = sorted({*_OWN, *others})
    meant = suggestion(str(name), known)
    raise ConfigurationError(f"There is no preset {name!r}.{meant} Known: {', '.join(known)}.")


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> Preset:
    try:
        found = entry.load()
    except Exception as error:
        raise ConfigurationError(
            f"Preset {entry.name!r} cannot be loaded from {entry.value!r}: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(found, Preset):
        raise ConfigurationError(
            f"Preset {entry.name!r}: {entry.value!r} is of type {type(found).__name__}, not a durable.patches.Preset."
        )
    return found
