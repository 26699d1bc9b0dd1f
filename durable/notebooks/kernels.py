"""The run of the notebook that this process is the kernel of.

It is claimed at the first call of a task and held while the kernel lives, so that no second kernel executes anything of
it. It is given back where somebody has to decide a doubt, and at the kernel's end.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from typing import TYPE_CHECKING, Any

from durable.declarations.naming import home, module_name, set_notebook_path
from durable.errors import ConfigurationError, RunInProgressError, StepInDoubtError, StoreError
from durable.identity.calls import Call
from durable.notebooks.edits import Edits
from durable.notebooks.former import Place, ask_for_former
from durable.notebooks.open_runs import OpenRun, named_scope
from durable.notebooks.tables import RunTable
from durable.runs import sessions
from durable.runs.handles import Run
from durable.steps.doubts import describe_doubt, in_doubt
from durable.telling.notices import NOTEBOOK, age, tell, tell_no_more

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.notebooks.names import Name
    from durable.notebooks.open_runs import Observation
    from durable.records import RunRecord, StepRecord
    from durable.runs.execution import Frame

_SHOWN_DOUBTS = 3


class Kernel:
    """Takes the calls that cells make, and keeps the notebook's run."""

    def __init__(self, find_name: Callable[[], Name]) -> None:
        self.observe: Callable[[Observation], None] = lambda _: None
        self.find_name = find_name
        self.name: Name | None = None
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._opening = threading.Lock()
        self._open: OpenRun | None = None
        self._is_asked = False
        self._edits = Edits()
        self._claimed: set[str] = set()  # DURABLE_FRESH means the first time
        self._first_epochs: dict[str, int] = {}
        self._replayed: dict[str, set[int]] = {}

    def is_here(self) -> bool:
        """Whether code without a run context is that of a cell: in its thread, or in one of its own while no run executes."""
        if os.getpid() != self._pid or sessions.is_disabled():
            return False
        return threading.get_ident() == self._thread or not self._other_runs()

    def _other_runs(self) -> bool:
        opened = self._open
        if opened is None:
            return bool(sessions.defaults_of_active_runs())
        return len(opened.session.active) > (not opened.execution.ended)

    def call(
        self,
        task: TaskDefinition,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a task as a step of the notebook's run; an equal call of it gives the same result."""
        opened = self.for_calls()
        opened.check()
        task = task.at(opened.execution.anchor)
        call = Call(task, instance, args, kwargs)
        if task.is_generator:
            return opened.items(call, function)
        return opened.call_async(call, function) if task.is_async else opened.call(call, function)

    def check_workflow(self, workflow: WorkflowDefinition) -> None:
        """Find the notebook's name for a workflow of a cell, or raise `ConfigurationError`."""
        if self.name is None and workflow.name is None and module_name(workflow.plain) == "__main__":
            set_notebook_path(self.find_name().path)

    def frame(self) -> Frame:
        """Give the place that cells call from."""
        opened = self.for_calls()
        opened.check()
        return opened.frame()

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Tell calls in a block from equal ones elsewhere."""
        return named_scope(name)

    def begin_cell(self) -> None:
        """Note that a cell begins."""
        self._thread = threading.get_ident()
        self._edits.begin_cell()
        if self.name is None:
            with contextlib.suppress(ConfigurationError):  # which is raised where a name is needed
                set_notebook_path(self.find_name().path)
        if self._open is not None:
            self._open.begin_cell()

    def end_cell(self) -> None:
        """Put what the cell did on disk; if something is in doubt, say what, and give the run back for the decision."""
        opened = self._open
        if opened is None:
            return
        self._edits.note()
        with contextlib.suppress(StoreError):  # the next call raises it
            opened.session.journal.flush_all()
        if opened.is_busy:
            return
        doubts = list(opened.doubts.values())
        if doubts:
            _tell_doubts(doubts, opened.execution.run)
        if opened.execution.stopped is None and doubts:
            opened.execution.stop(in_doubt(doubts[0], opened.execution.run))
        if isinstance(opened.execution.stopped, StepInDoubtError):
            key = shlex.quote(opened.execution.stopped.step_key)
            tell(f"to decide it in a cell: %durable resolve {key} --happened JSON, or --did-not-happen")
        if opened.execution.stopped is not None:
            self.close()

    def start(self, name: Name) -> Run:
        """Go on with the run of this name; raises `RunInProgressError` if another kernel has it."""
        self.release()
        self.name = name
        return self.run()

    def fresh(self) -> Run:
        """Begin a new run of the notebook; an unfinished one is superseded."""
        self.release()
        self.opened(fresh=True)
        self._is_asked = True
        return self.run()

    def finish(self) -> Run:
        """End the run: it has succeeded. Calls that follow go on with it."""
        run = self.run()
        self.close()
        return run

    def run(self) -> Run:
        """Give the notebook's run."""
        opened = self.opened()
        opened.session.journal.flush_all()
        return Run(opened.session, opened.execution.id)

    def table(self) -> RunTable:
        """Show the notebook's run, and what this kernel has called of it, however often it has given it back meanwhile."""
        run, opened = self.run(), self.opened()
        replayed = opened.replayed | self._replayed.get(run.id, set())
        return RunTable(run, replayed, since=self._first_epochs[run.id])

    def for_calls(self) -> OpenRun:
        """Give the run for something that will be executed; a renamed notebook is not taken for a new one."""
        opened = self.opened()
        self._edits.look()
        if not self._is_asked:
            if self.name is not None and self.name.path is not None and opened.is_empty:
                ask_for_former(opened.session, self.name, home(opened.session.anchor))
            self._is_asked = True
        return opened

    def opened(self, *, fresh: bool = False) -> OpenRun:
        """Give the run as it is open here, claimed if need be."""
        opened = self._open
        if opened is not None and not opened.is_lost:
            return opened
        with self._opening:
            if self._open is None or self._open.is_lost:
                self._open = self._claim(fresh=fresh)
            return self._open

    def _claim(self, *, fresh: bool) -> OpenRun:
        name = self.name if self.name is not None else self.find_name()
        session = sessions.current()
        folder = home(session.anchor)
        run_id = name.run_id(folder)
        known = session.store.load_run(run_id)
        place = self._place(name, folder, known)
        set_notebook_path(os.path.join(folder, place.named))
        if known is not None and known.workflow != NOTEBOOK:
            raise ConfigurationError(
                f"{run_id!r} is the run of {known.workflow!r} and not of a notebook. Nothing was executed. Choose another "
                f"name: %durable start NAME"
            )
        try:
            again = True if fresh else False if run_id in self._claimed else None
            opened = OpenRun(run_id, self.observe, place, fresh=again)
        except RunInProgressError as error:
            raise _in_another_kernel(name, session.store.load_run(error.run_id), error) from None
        self.name = name
        self._claimed.add(run_id)
        self._first_epochs.setdefault(opened.execution.id, opened.execution.run.epoch)
        tell_no_more(opened.execution.id)
        return opened

    def _place(self, name: Name, folder: str, known: RunRecord | None) -> Place:
        """Say where the notebook is, whose functions are named as they were when its run was begun."""
        before = Place.of(known) if known is not None else None
        file = before.file if before is not None else None
        with contextlib.suppress(ConfigurationError):  # the front end may not tell
            file = (name if name.path is not None else self.find_name()).seen_from(folder)
        return Place(before.named if before is not None else name.seen_from(folder), file)

    def close(self) -> None:
        """End the run: succeeded, or stopped by what stopped it."""
        if (opened := self._given_back()) is not None:
            opened.close()

    def release(self) -> None:
        """Give the run back as it is; whoever goes on with it finds it paused."""
        if (opened := self._given_back()) is not None:
            opened.release()

    def _given_back(self) -> OpenRun | None:
        opened, self._open = self._open, None
        if opened is None or opened.is_lost:
            return None
        self._replayed.setdefault(opened.execution.id, set()).update(opened.replayed)
        return opened


def _tell_doubts(doubts: list[StepRecord], run: RunRecord) -> None:
    for record in doubts[:_SHOWN_DOUBTS]:
        tell(describe_doubt(record, run))
    if len(doubts) > _SHOWN_DOUBTS:
        tell(f"{len(doubts) - _SHOWN_DOUBTS} more steps are in doubt, see: %durable")


def _in_another_kernel(name: Name, run: RunRecord | None, error: RunInProgressError) -> RunInProgressError:
    if run is None:
        return error
    return RunInProgressError(
        f"Notebook {name} is open in another kernel: its run {run.id} is in progress on {run.host} with pid {run.pid}, begun "
        f"{age(sessions.clock() - run.updated_at)}. Nothing was executed. Shut that kernel down, or give this one a run of "
        f"its own: %durable start NAME",
        run.id,
    )
