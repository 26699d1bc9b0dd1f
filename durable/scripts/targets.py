"""What is to be a task is named once, `mod:func` or `mod:Class.method`, whatever way it was asked for.

A target is the program's own if its first part means the program: `__main__`, the script's file or its module name.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.configuration import project_table
from durable.declarations.definitions import TASK_OPTIONS
from durable.errors import ConfigurationError, DefinitionError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from durable.scripts.programs import Program

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_IN_DECORATORS_ONLY = {"no_effect_on", "reconcile", "retry", "undo", "cost"}  # TOML has no functions and classes
_OPTIONS = sorted(TASK_OPTIONS - _IN_DECORATORS_ONLY)
_CLOSE = " (did you mean {!r}?)"
_Options = dict[str, Any]


class ProjectSettings(NamedTuple):
    """What `[tool.durable]` says about programs."""

    path: str
    rerun: bool
    patches: tuple[str, ...]
    tasks: dict[str, _Options]

    @classmethod
    def load(cls) -> Self:
        """Read them as they hold in the current folder; raises `ConfigurationError` for what cannot be meant."""
        path, table = project_table(Path.cwd())
        after, patches, tasks = table.get("after_success", "return"), table.get("patch", []), table.get("tasks", {})
        where = f"{path}: [tool.durable]"
        if after not in ("return", "rerun"):
            raise ConfigurationError(f"{where} after_success is 'return' or 'rerun', not {after!r}.")
        if not isinstance(patches, list) or not all(isinstance(each, str) for each in patches):
            raise ConfigurationError(f"{where} patch is a list of presets, not {patches!r}.")
        if not isinstance(tasks, dict):
            raise ConfigurationError(f"{where[:-1]}.tasks] is a table of targets and their options, not {tasks!r}.")
        for target, options in tasks.items():
            _check_options(f"{where[:-1]}.tasks]", target, options)
        return cls(path, after == "rerun", tuple(patches), tasks)


def _check_options(where: str, target: str, options: object) -> None:
    if not isinstance(options, dict):
        raise ConfigurationError(
            f"{where} {target!r} takes a table of options such as {{idempotent = false}}, not {options!r}."
        )
    for option in options:
        if option not in _OPTIONS:
            close = suggestion(option, _OPTIONS, _CLOSE)
            raise DefinitionError(
                f"{where} {target!r} has no option {option!r}{close}. Known here: {', '.join(_OPTIONS)}; others only in @task."
            )


@dataclass
class Targets:
    """Options by target: `own` functions of the program by qualified name, `foreign` ones by `mod:func`."""

    own: dict[str, _Options] = field(default_factory=dict)
    foreign: dict[str, _Options] = field(default_factory=dict)

    @classmethod
    def sort(cls, given: Iterable[str], settings: ProjectSettings, program: Program | None) -> Self:
        """Tell the program's own targets from those in other modules; raises `ConfigurationError` for malformed ones."""
        targets = cls()
        for target, options in settings.tasks.items():
            if not _is_of_another_script(target, program):
                targets._add(target, program, options)
        for target in given:
            targets._add(target, program)
        return targets

    def lacking(self, recorded: Iterable[str], program: Program) -> list[str]:
        """List the targets of an earlier command that are plain functions now."""
        before = Targets()
        for target in recorded:
            before._add(target, program)
        gone = [name for name in before.own if name not in self.own]
        if gone:
            from durable.scripts.own_tasks import names_of  # noqa: PLC0415 -- brings what decorators need

            plain = names_of(program.tree()).undecorated
            gone = [name for name in gone if name in plain]
        return gone + [target for target in before.foreign if target not in self.foreign]

    def _add(self, target: str, program: Program | None, options: _Options | None = None) -> None:
        head, colon, name = target.rpartition(":")
        if not re.fullmatch(_DOTTED, name):
            raise ConfigurationError(f"Target {target!r} names no function: write mod:func or mod:Class.method.")
        if program is not None and (not colon or _means(head, program)):
            self.own.setdefault(name, {}).update(options or {})
        elif head.endswith(".py") or not re.fullmatch(_DOTTED, head):
            other = "the script that is executed" if head.endswith(".py") else "a module"
            raise ConfigurationError(f"Target {target!r}: {head!r} is not {other}. Write mod:func or mod:Class.method.")
        else:
            self.foreign.setdefault(target, {}).update(options or {})


def _means(head: str, program: Program) -> bool:
    if head in ("__main__", program.module) or (program.spec is not None and head == program.spec.name):
        return True
    if head.endswith(".py"):
        return head == os.path.basename(program.path) or _is_same_file(head, program.path)
    script = os.path.join(sys.path[0], *head.split(".")) + ".py"
    return _is_same_file(script, program.path)


def _is_same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.samefile(one, other)


def _is_of_another_script(target: str, program: Program | None) -> bool:
    head = target.rpartition(":")[0]
    if program is None:
        return head.endswith(".py") or head in ("", "__main__")
    return head.endswith(".py") and not _means(head, program)


def unknown_target(name: str, program: Program, known: list[str], imported: Mapping[str, str]) -> ConfigurationError:
    """Make the error for a name that the program does not bind to a function."""
    close = suggestion(name, known, _CLOSE) or (f"; it has: {', '.join(sorted(known)[:10])}" if known else "")
    module, _, function = name.rpartition(".")
    there = f"{imported[module]}.{function}" if module in imported else f"{module}:{function}"
    hint = f" For a function of another module write {there}." if module else ""
    return ConfigurationError(
        f"Target {name!r}: {program.path} defines or imports no such function{close}. Nothing was executed.{hint}"
    )
