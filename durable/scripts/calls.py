"""The invocation is the run: the same program with the same arguments asks for the same run."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.configuration import find_store
from durable.declarations import naming
from durable.declarations.definitions import WorkflowDefinition
from durable.errors import ConfigurationError, DurableError, InputsChangedError
from durable.identity.run_calls import RunCall, implicit_id, stored_inputs
from durable.runs import sessions
from durable.steps.failures import is_interruption
from durable.telling import notices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Self

    from durable.options import OnDrift
    from durable.records import RunRecord
    from durable.runs.sessions import Session
    from durable.scripts.programs import Program
    from durable.scripts.targets import Targets


class Invocation(NamedTuple):
    """What a command asks for: a program by its path, or by its name if it is a module, and how it is to be run."""

    program: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    tasks: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    run_id: str | None = None
    fresh: bool | None = None
    on_drift: OnDrift | None = None
    retry_failed: bool | None = None
    budget: Decimal | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the workflow that were chosen for this time."""
        names = ("run_id", "fresh", "on_drift", "retry_failed", "budget")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def recorded(cls, session: Session, run: RunRecord, **options: Any) -> Self | None:
        """Give the invocation that a run was begun with, in its folder; None for a run that is no program."""
        script = json.loads(run.entry).get("script")
        if script is None or run.inputs is None:
            return None
        (arguments,), _ = stored_inputs(session, run)
        if not os.path.isdir(script["folder"]):
            raise ConfigurationError(
                f"Run {run.id} was started in {script['folder']}, which is gone. Start its program from where it is now."
            )
        if location := sessions.location():  # the store that was asked for stays the one, wherever the program is
            sessions.configure(location)
        os.chdir(script["folder"])
        return cls(
            script["program"],
            tuple(arguments),
            is_module=script["is_module"],
            tasks=tuple(script["tasks"]),
            patches=tuple(script["patches"]),
            **options,
        )


def _program(arguments: tuple[str, ...]) -> None:
    """Stand for a program among the functions whose calls are runs."""


class ProgramCall(RunCall):
    """The run that an invocation of a program asks for."""

    def __init__(
        self, invocation: Invocation, program: Program, targets: Targets, presets: Sequence[str], *, rerun: bool
    ) -> None:
        self._invocation = invocation
        self._program = program
        self._targets = targets
        self._presets = presets
        title = program.module or naming.script_title(program.path, sessions.current().anchor)
        workflow = WorkflowDefinition(
            function=_program, name=title, after_success="rerun" if rerun else "return", is_block=True
        )
        super().__init__(workflow.with_options(**invocation.options), None, (invocation.arguments,), {})
        self.inputs = self._store_inputs()
        self._run_id = self.lineage

    def _identify(self) -> str:
        return self.workflow.exact_run_id or implicit_id(self._program.stem, self._call.content)

    def entry(self) -> str:
        """Say, as JSON, how to execute the program again; its arguments are the inputs."""
        script = {
            "program": self._program.module or self._program.path,
            "is_module": self._invocation.is_module,
            "folder": os.getcwd(),
            "tasks": [*self._targets.own, *self._targets.foreign],
            "patches": self._presets,
        }
        return json.dumps({**json.loads(super().entry()), "path": self._program.path, "script": script})

    def check_inputs(self, run: RunRecord) -> None:
        """Refuse, besides other arguments, to execute as plain functions what was recorded as tasks."""
        super().check_inputs(run)
        begun = json.loads(run.entry).get("script", {})
        lacking = dict.fromkeys(self._targets.lacking(begun.get("tasks", ()), self._program), "--task")
        refuse_lacking(
            run, lacking | {name: "--patch" for name in begun.get("patches", ()) if name not in self._presets}
        )

    def new_run(self, run_id: str, now: float) -> RunRecord:
        """Make the record of a new run that this process owns."""
        self._run_id = run_id
        if (other := self._store_beside()) is not None:
            notices.tell_other_store(run_id, sessions.location(), other)
        return super().new_run(run_id, now)

    def was_interrupted(self, exit_: SystemExit) -> bool:
        """Whether a program exits because a step was interrupted: by Ctrl-C, or an exit that a signal asked for."""
        return is_interruption(exit_, self._run_id)

    def tell_ended(self, how: str) -> None:
        """Tell people that the program did not come to its end."""
        notices.tell_ended(self._run_id, how)

    def tell_resumed(self, run: RunRecord, steps: int, now: float) -> None:
        """Tell people that the program is executed again with what is recorded."""
        self._run_id = run.id
        notices.tell_program(run, steps, now, moved=self._begun_elsewhere(run))

    def _store_beside(self) -> str | None:
        """Give the store that a command in the program's own folder would take, if there is one and it is not this one."""
        if sessions.source() in sessions.NAMED_SOURCES:
            return None
        with contextlib.suppress(DurableError):
            other, _ = find_store(Path(self._program.path).parent, {})
            if os.path.exists(other) and not _is_same_file(other, sessions.location()):
                return other
        return None

    def _begun_elsewhere(self, run: RunRecord) -> str | None:
        """Give the folder that the run was begun in, where arguments may mean other files than here."""
        folder = json.loads(run.entry).get("script", {}).get("folder")
        return folder if self._invocation.arguments and folder not in (None, os.getcwd()) else None


def refuse_lacking(run: RunRecord, lacking: dict[str, str]) -> None:
    """Raise `InputsChangedError` if a command lacks what its run was begun with; `lacking` gives the option for each."""
    if lacking:
        raise InputsChangedError(
            f"Run {run.id} was begun with {' '.join(f'{option} {name}' for name, option in lacking.items())}, by options or by "
            f"[tool.durable]. Without it what is recorded would be executed again as plain code. Nothing was executed. Add "
            f"it, or say --fresh for a new run."
        )


def _is_same_file(one: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(one, other)
