"""`%durable`: what the notebook's run has recorded, and how to begin, end or forget it."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.display import display

from durable.errors import ConfigurationError, NotFoundError
from durable.notebooks.cells import Cell, parse_options
from durable.notebooks.code import awaits
from durable.notebooks.names import given_name
from durable.records import StepFlag, StepStatus
from durable.steps.doubts import did_not_happen, happened
from durable.suggestions import suggestion
from durable.telling.notices import counted, tell

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from IPython.core.interactiveshell import InteractiveShell

    from durable.notebooks.kernels import Kernel
    from durable.records import StepRecord
    from durable.runs.handles import Run

_COMMANDS = ("start", "forget", "resolve", "fresh", "finish")
_USAGE = "%durable, or %durable start NAME | forget TASK [--force] | resolve STEP --happened JSON | fresh | finish"
_CELL = "%%durable"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"%durable: {message}. Usage: {_USAGE}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%durable", add_help=False)
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)
    for command in _COMMANDS:
        commands.add_parser(command, add_help=False)
    commands.choices["start"].add_argument("name")
    commands.choices["forget"].add_argument("task")
    commands.choices["forget"].add_argument("--force", action="store_true")
    commands.choices["resolve"].add_argument("step")
    verdict = commands.choices["resolve"].add_mutually_exclusive_group(required=True)
    verdict.add_argument("--happened", metavar="JSON")
    verdict.add_argument("--did-not-happen", action="store_true")
    return parser


class Magics:
    """The functions behind `%durable` and `%%durable`."""

    def __init__(self, kernel: Kernel, shell: InteractiveShell) -> None:
        self._kernel = kernel
        self._shell = shell

    def line(self, line: str) -> None:
        """Show what the notebook's run has recorded, or: start NAME, forget TASK, resolve STEP, fresh, finish."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ConfigurationError(f"%durable {line}: {error}. Usage: {_USAGE}") from None
        if words and words[0] not in _COMMANDS:
            meant = suggestion(words[0], _COMMANDS)
            raise ConfigurationError(f"%durable has no command {words[0]!r}.{meant} Usage: {_USAGE}")
        given = _parser().parse_args(words)
        match given.command:
            case "start":
                self._tell(self._kernel.start(given_name(given.name)))
            case "forget":
                self._forget(given.task, force=given.force)
            case "resolve":
                self._resolve(given)
            case "fresh":
                self._fresh()
            case "finish":
                run = self._kernel.finish()
                tell(f"run {run.id} has succeeded. Its results stay: for a new run, %durable fresh.")
            case _:
                display(self._kernel.table())

    def cell(self, line: str, cell: str) -> Coroutine[Any, Any, None] | None:
        """Execute a cell once: its variables are stored, and restored as long as its code and inputs are the same.

        %%durable [NAME] [--inputs A B] [--outputs X Y] [--force]
        """
        made = Cell(self._kernel, self._shell, parse_options(line), cell)
        if made.is_async:
            return made.run_async()
        made.run()
        return None

    def await_cell(self, lines: list[str]) -> list[str]:
        """Rewrite a cell whose code awaits, so that IPython awaits the magic."""
        if not lines or not lines[0].startswith(_CELL):
            return lines
        first, _, cell = "".join(lines).partition("\n")
        words = first[len(_CELL) :]
        if words and not words[0].isspace():
            return lines
        call = f"get_ipython().run_cell_magic('durable', {words.strip()!r}, {cell!r})"
        return [f"await {call}\n"] if awaits(self._shell, cell) else lines

    def _tell(self, run: Run) -> None:
        recorded = sum(1 for _ in run.step_records())
        tell(f"this notebook is run {run.id}, {counted(recorded, 'step')} recorded.")

    def _forget(self, task: str, *, force: bool) -> None:
        opened = self._kernel.opened()
        run = self._kernel.run()
        roots = [step for step in run.step_records() if not step.parent and step.status != StepStatus.UNDONE]
        found = [step for step in roots if task in _names(step)]
        if not found:
            known = sorted({_names(step)[0] for step in roots})
            raise NotFoundError(
                f"Run {run.id} has recorded no call of {task!r}.{suggestion(task, known)} Recorded: "
                f"{', '.join(known) or 'nothing'}."
            )
        irreversible = [step for step in found if step.flags & StepFlag.NOT_IDEMPOTENT]
        if irreversible and not force:
            calls = counted(len(irreversible), "call")
            raise ConfigurationError(
                f"Nothing was forgotten: of {task!r} {calls} must not be repeated (idempotent=False), and "
                f"would happen a second time when the cells run again, under new idempotency keys. If that is meant: "
                f"%durable forget {shlex.quote(task)} --force"
            )
        opened.set_aside(found)
        tell(f"forgot {counted(len(found), 'call')} of {task!r}; the next call is executed.")

    def _resolve(self, given: argparse.Namespace) -> None:
        outcome: Any = did_not_happen
        if not given.did_not_happen:
            try:
                outcome = happened(json.loads(given.happened))
            except ValueError as error:
                raise ConfigurationError(
                    f"%durable resolve: --happened {given.happened!r} is not JSON: {error}. Nothing was resolved."
                ) from None
        run = self._kernel.run()
        self._kernel.release()
        run.resolve(given.step, outcome)
        tell(f"step {given.step} is resolved. Run the cell again to go on.")

    def _fresh(self) -> None:
        before = self._kernel.run()
        steps = before.step_records()
        paid = [step for step in steps if step.flags & StepFlag.NOT_IDEMPOTENT and step.status != StepStatus.UNDONE]
        run = self._kernel.fresh()
        names = f"{', '.join(sorted({_names(step)[0] for step in paid}))} ({counted(len(paid), 'call')})"
        again = f" What is not idempotent happens again when its cell runs: {names}." if paid else ""
        tell(f"this notebook goes on as run {run.id}; nothing is recorded in it yet.{again}")


def _names(step: StepRecord) -> tuple[str, ...]:
    """Give the names that a user may call a step by: the task's short one, its full one, and the step's key."""
    full = step.task.partition("@")[0]
    return step.label.partition(":")[0], full, full.rpartition(".")[2], step.key
