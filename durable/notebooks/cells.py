"""`%%durable`: a cell whose variables are stored, and restored without executing it while its code and inputs are the same.

A cell is a step of the notebook's run, known by its code and by the values of the variables that it reads. The tasks that
it calls are steps of their own, which an edit of the cell does not lose.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from hashlib import blake2b
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from durable.declarations.definitions import TaskDefinition
from durable.errors import ConfigurationError, FingerprintError
from durable.identity.calls import Call
from durable.identity.fingerprints import encode_argument
from durable.notebooks.code import CellCode
from durable.notebooks.variables import code_digest, definitions, find_variables
from durable.options import ABSENT
from durable.runs import sessions
from durable.telling.notices import age, tell
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    import ast

    from IPython.core.interactiveshell import InteractiveShell

    from durable.notebooks.kernels import Kernel
    from durable.notebooks.open_runs import OpenRun
    from durable.records import StepRecord


@dataclass(frozen=True, slots=True)
class Options:
    """What stands behind `%%durable`; None for what is found in the cell's code."""

    name: str | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    force: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        usage = "%%durable [NAME] [--inputs A B] [--outputs X Y] [--force]"
        raise ConfigurationError(f"%%durable: {message}. Nothing was executed. Usage: {usage}")


def parse_options(line: str) -> Options:
    """Read what stands behind `%%durable`; raises `ConfigurationError`."""
    parser = _Parser(prog="%%durable", add_help=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--inputs", nargs="*")
    parser.add_argument("--outputs", nargs="*")
    parser.add_argument("--force", action="store_true")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigurationError(f"%%durable {line}: {error}. Nothing was executed.") from None
    given = parser.parse_args(words)
    for name in (*(given.inputs or ()), *(given.outputs or ())):
        if not name.isidentifier():
            raise ConfigurationError(f"%%durable: {name!r} is not the name of a variable. Nothing was executed.")
    inputs, outputs = (None if names is None else tuple(names) for names in (given.inputs, given.outputs))
    return Options(given.name, inputs, outputs, given.force)


class _CellTask(TaskDefinition):
    """A cell as a task; its code is one of its arguments."""

    @property
    def _is_checked_for_changes(self) -> bool:
        return False


class _CannotBeStored(Exception):  # noqa: N818 -- internal: it ends the step, and the user reads a line
    """The cell was executed, but these variables cannot be stored."""


class Cell:
    """A `%%durable` cell that is to be executed once more."""

    def __init__(self, kernel: Kernel, shell: InteractiveShell, options: Options, text: str) -> None:
        self._kernel = kernel
        self._namespace: dict[str, Any] = shell.user_ns
        self._hidden: dict[str, Any] = shell.user_ns_hidden
        self._options = options
        self._title = f"cell.{options.name}" if options.name else "cell"
        self._code = CellCode(shell, text)
        self._found = find_variables(self._code.tree)
        self._refuse_foreign_outputs()
        self._inputs = {name: self._digest(name) for name in self._read()}
        self._recorded: StepRecord | None = None
        self._undefined: list[ast.stmt] = []

    @property
    def is_async(self) -> bool:
        """Whether it has to be awaited."""
        return self._code.is_async

    def run(self) -> None:
        """Execute the cell, or restore its variables."""
        opened, call = self._prepare()
        try:
            while not self._put(opened.call(call, self._execute, is_cell=True)):
                self._set_aside(opened)
        except _CannotBeStored as problem:
            tell(str(problem))

    async def run_async(self) -> None:
        """Do what `run` does, for a cell that awaits."""
        opened, call = self._prepare()
        try:
            while not self._put(await opened.call_async(call, self._execute_async, is_cell=True)):
                self._set_aside(opened)
        except _CannotBeStored as problem:
            tell(str(problem))

    def _prepare(self) -> tuple[OpenRun, Call]:
        opened = self._kernel.for_calls()
        opened.check()
        task = _CellTask(function=_cell_async if self.is_async else _cell, name=self._title)
        call = Call(task, None, (code_digest(self._code.tree), self._inputs), {})
        self._recorded = opened.recorded(call)
        if self._options.force:
            self._set_aside(opened)
        elif self._recorded is not None:
            self._undefined = self._code.define(definitions(self._code.tree))  # what is stored may be of these classes
        return opened, call

    def _set_aside(self, opened: OpenRun) -> None:
        if self._recorded is not None:
            opened.set_aside([self._recorded])
            self._recorded = None

    def _execute(self, *_: Any) -> dict[str, Any]:
        self._recorded = None
        self._code.execute()
        return self._result()

    async def _execute_async(self, *_: Any) -> dict[str, Any]:
        self._recorded = None
        await self._code.execute_async()
        return self._result()

    def _result(self) -> dict[str, Any]:
        """Give what is stored: the variables, and the names of the imports, functions and classes that belong to them."""
        values = {name: self._namespace[name] for name in self._written()}
        serializer = sessions.current().serializer
        if not serializer.can_encode(values):
            raise _CannotBeStored(self._describe_unstored(values))
        return {"values": values, "defined": [name for name in self._found.defined if name in self._namespace]}

    def _put(self, result: dict[str, Any]) -> bool:
        """Put restored variables into the notebook; false if a definition that they came with is missing."""
        if self._recorded is None:
            return True
        self._namespace.update(result["values"])
        self._code.define(self._undefined)  # defaults and decorators may need the variables
        if any(name not in self._namespace for name in result["defined"]):
            return False
        when = age(sessions.clock() - (self._recorded.ended_at or self._recorded.started_at))
        names = ", ".join(result["values"]) or "no variables"
        tell(f"{self._title} of {when} was restored and not executed: {names}. To execute it: %%durable --force")
        return True

    def _read(self) -> list[str]:
        given = self._options.inputs
        if given is None:
            return sorted(name for name in self._found.read if self._counts(name))
        for name in given:
            if name not in self._namespace:
                raise ConfigurationError(
                    f"%%durable --inputs {name}: there is no variable {name!r}. The cell was not executed."
                )
        return sorted(given)

    def _refuse_foreign_outputs(self) -> None:
        known = {*self._found.assigned, *self._found.read, *self._namespace}
        for name in self._options.outputs or ():
            if name not in known:
                raise ConfigurationError(
                    f"%%durable --outputs {name}: the cell does not assign {name!r}. It was not executed."
                )

    def _counts(self, name: str) -> bool:
        """Whether a name is a variable of the notebook: no builtin, no module, nothing of IPython's own."""
        value = self._namespace.get(name, ABSENT)
        if value is ABSENT or value is self._hidden.get(name, ABSENT):
            return False
        return not isinstance(value, ModuleType) and name not in _IPYTHONS

    def _digest(self, name: str) -> str:
        try:
            data = encode_argument(self._title, name, self._namespace.get(name))
        except FingerprintError as error:
            raise FingerprintError(
                f"The cell was not executed: it reads {name!r}, which has no value to recognise it by. Name the variables that "
                f"count with: %%durable --inputs NAME ... ({error})"
            ) from None
        return blake2b(data, digest_size=16).hexdigest()

    def _written(self) -> list[str]:
        given = self._options.outputs
        if given is None:
            return [name for name in self._found.assigned if name in self._namespace] + self._changed()
        for name in given:
            if name not in self._namespace:
                raise _CannotBeStored(
                    f"{self._title} was executed, but it did not assign {name!r}, which --outputs names. It will be executed "
                    f"again after a restart."
                )
        if left := [name for name in self._changed() if name not in given]:
            tell(
                f"{self._title} changed {', '.join(left)} in place, which --outputs does not name: when the cell is restored, "
                f"that change is missing."
            )
        return list(given)

    def _changed(self) -> list[str]:
        """Name the inputs that the cell changed in place, which have to be stored like those that it assigned."""
        return [
            name
            for name, digest in self._inputs.items()
            if name not in self._found.assigned and name in self._namespace and self._digest(name) != digest
        ]

    def _describe_unstored(self, values: dict[str, Any]) -> str:
        serializer = sessions.current().serializer
        problems = []
        for name, value in values.items():
            try:
                serializer.encode(value, run="", step="")
            except Unserializable as problem:
                problems.append(f"{name}{problem.path} is a {problem.culprit} ({problem.reason})")
        return (
            f"{self._title} was executed, but its variables cannot be stored: {'; '.join(problems)}. It will be executed again "
            f"after a restart. Make what cannot be stored in a cell of its own, or name what is to be stored with: %%durable "
            f"--outputs NAME ..."
        )


_IPYTHONS = frozenset({"_", "__", "___", "_i", "_ii", "_iii", "In", "Out"})


def _cell(code: str, inputs: dict[str, str]) -> None: ...


async def _cell_async(code: str, inputs: dict[str, str]) -> None: ...
