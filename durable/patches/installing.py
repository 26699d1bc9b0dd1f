"""Patches are put on a module when it is imported, or at once if it is; each function is patched once.

Whatever a program names is checked before anything of it is executed.
"""

from __future__ import annotations

import inspect
import json
import sys
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

import wrapt

from durable.declarations import registry
from durable.declarations.definitions import task_options
from durable.declarations.wrappers import Task
from durable.errors import ConfigurationError
from durable.patches.action_steps import register
from durable.patches.patched_calls import patched_function, shared_failure
from durable.patches.patched_tasks import PatchedTask
from durable.patches.presets import find_preset
from durable.patches.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from durable.patches.presets import Patch, Preset

_guard = RLock()
_presets: set[str] = set()
_targets: dict[Target, dict[str, Any]] = {}


def patch(*names: str, **options: Any) -> None:
    """Make the calls of libraries and functions steps, wherever they are called inside a run.

    `names` are presets ("requests", "smtplib") or targets ("module:function", "module:Class.method"); a target may take the
    options of `@task`. What is not imported yet is patched when it is. Outside a run a patched function is what it was.

    Raises `ConfigurationError` for presets and targets that are not there, and `DefinitionError` for wrong options.
    """
    targets = {name: options for name in names if ":" in name}
    presets = [name for name in names if name not in targets]
    if options and presets:
        raise ConfigurationError(
            f"patch({presets[0]!r}, ...): options belong to targets, and {presets[0]!r} is a preset."
        )
    install(targets, presets)


def install(targets: Mapping[str, Mapping[str, Any]], presets: Sequence[str]) -> None:
    """Patch functions, named as in `patch` and with the options of each, and the libraries of presets.

    Raises as `patch` does, before anything is patched.
    """
    with _guard:
        chosen = [find_preset(name) for name in presets]
        wanted = {Target.parse(text): task_options(dict(options)) for text, options in targets.items()}
        for target in wanted:
            target.check()
        for preset in chosen:
            _check(preset)
        for target, options in wanted.items():
            _make_task(target, options)
        registry.patched.update({text: _as_json(options) for text, options in targets.items()})
        for preset in chosen:
            registry.patched[preset.name] = {}
            if preset.name not in _presets:
                _presets.add(preset.name)
                install_preset(preset)


def _as_json(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give options as they can be recorded with runs, None for those that JSON does not hold."""
    try:
        read: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError):
        return None
    return read if read == options else None


def _check(preset: Preset) -> None:
    for text in (*(patch.target for patch in preset.patches), *preset.targets):
        try:
            Target.parse(text).check()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"Preset {preset.name!r} cannot be used here. {error} Is the library installed, in a release that the "
                f"preset knows?"
            ) from error


def install_preset(preset: Preset) -> None:
    """Patch what a preset names."""
    register(preset.tasks)
    for text, options in preset.targets.items():
        _make_task(Target.parse(text), task_options(dict(options)))
    for each in preset.patches:
        _when_imported(Target.parse(each.target), partial(_wrap_call, each))
    for text in preset.methods:
        _when_imported(Target.parse(text), _wrap_method)


def _when_imported(target: Target, make: Callable[[Target, Any], Any]) -> None:
    """Replace a function, now or when its module is imported, by what is made of it."""

    def replace(module: ModuleType) -> None:
        holder, name, found = target.find(module)
        made = make(target, found)
        setattr(holder, name, made)
        if not inspect.isclass(holder):
            _replace_imported(found, made)

    wrapt.register_post_import_hook(replace, target.module)


def _replace_imported(original: object, made: object) -> None:
    """Put the patched function where modules have imported it by name."""
    for module in list(sys.modules.values()):
        space = getattr(module, "__dict__", None)
        if isinstance(space, dict):
            for name in [name for name, value in list(space.items()) if value is original]:
                space[name] = made


def _make_task(target: Target, options: dict[str, Any]) -> None:
    known = _targets.get(target)
    if known is not None:
        if known != options:
            raise ConfigurationError(f"Target {target} is a task already, with other options. Name it once.")
        return
    _targets[target] = options
    _when_imported(target, partial(_wrap_task, options))


def _wrap_task(options: dict[str, Any], target: Target, found: Any) -> Any:
    if isinstance(found, Task):
        raise ConfigurationError(f"Target {target} is a @task already: put its options there.")
    return PatchedTask.made(found, options)


def _wrap_call(each: Patch, target: Target, found: Any) -> Any:
    return patched_function(each.describe, found, is_method=len(target.path) > 1)


def _wrap_method(_: Target, found: Any) -> Any:
    return wrapt.FunctionWrapper(found, shared_failure)
