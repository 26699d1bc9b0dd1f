"""`Run`: what a user holds of a run, wherever it executes; everything is read from the store when it is asked for."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.declarations.loading import load_workflow, refuse_programs
from durable.declarations.naming import is_unicode
from durable.errors import (
    ConfigurationError,
    NotFoundError,
    WouldDeadlockError,
)
from durable.identity.run_calls import RunCall, own_budget, stored_inputs
from durable.identity.step_keys import is_items_container
from durable.options import ABSENT
from durable.records import UNFINISHED, RunFilter, RunStatus, StepFlag, StepRecord, StepStatus
from durable.runs import sessions
from durable.runs.claims import Claiming, Opening, before, leave
from durable.runs.endings import NOT_CANCELLED, cancelled, final_outcome, paused
from durable.runs.execution import FRAME
from durable.runs.recorded_runs import RecordedRun, is_under_way
from durable.runs.removal import remove
from durable.runs.run_lists import Runs
from durable.runs.runs import run_life
from durable.runs.step_views import StepView, view_of
from durable.step_pages import all_steps
from durable.steps.awaitables import running_loop
from durable.steps.details import Details
from durable.steps.doubts import DidNotHappen, Happened
from durable.steps.effects import drive, drive_async
from durable.steps.result_cache import WORKFLOW as CACHE_WORKFLOW
from durable.telling.notices import NOTEBOOK
from durable.telling.observers import notify, observers, run_event
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from durable.costs.costs import Number
    from durable.options import OnDrift
    from durable.records import RunRecord, RunSummary
    from durable.runs.sessions import Session

_UNPAUSED = (RunStatus.RUNNING, RunStatus.WAITING)
_POLL = 0.05  # seconds between two looks at a run that executes elsewhere
_PATIENCE = 5.0  # seconds that a run's process is given to notice that it is paused


class Run(RecordedRun):
    """A run in the store.

    `repr` is one line. `status`, `steps` and `result` read the store anew each time.
    """

    def __init__(self, session: Session, run_id: str, *, outcome: Future[Any] | None = None) -> None:
        """Hold the run with this id; `outcome` is set by the execution that was started with it."""
        self._session = session
        self._outcome = outcome
        self.id = run_id
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        """Show id, workflow and status in one line."""
        record = self.record
        return f"<Run {self.id} {record.workflow} {record.status}>"

    def _repr_html_(self) -> str:
        from durable.notebooks.tables import RunTable  # noqa: PLC0415 -- needed in notebooks only

        return RunTable(self).html()

    @property
    def workflow(self) -> str:
        """Full name of the workflow."""
        return self.record.workflow

    @property
    def status(self) -> str:
        """One of pending, running, waiting, paused, blocked, succeeded, failed, cancelled, superseded.

        Running, waiting and paused stay if its process dies.
        """
        return str(self.record.status)

    @property
    def message(self) -> str:
        """What the end of the last execution said: the error, the doubt; empty if it ended well or has not ended."""
        return str(json.loads(self.record.outcome or "{}").get("message", ""))

    @property
    def parent(self) -> str | None:
        """Id of the run that called this one, None at the top."""
        return self.record.parent_run

    @property
    def steps(self) -> list[StepView]:
        """The recorded steps in the order of their calls."""
        _, steps, past = self._look()
        return [view_of(step, past) for step in steps]

    def step_records(self) -> Iterator[StepRecord]:
        """Read the records of the steps page by page, without the items that generators gave."""
        return (step for step in self.all_records() if not is_items_container(step.container))

    def all_records(self) -> Iterator[StepRecord]:
        """Read everything that is recorded below the run, page by page."""
        if self.id in self._session.active:
            self._session.journal.flush_all()
        yield from all_steps(self._session.store, self.id)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the run's end and give its result; seconds, None: however long it takes.

        Raises what the run raised, `RunBlockedError`, `RunCancelledError` or `RunSupersededError` if it ended that way,
        `RunPausedError` if it is paused and its process is gone,
        `TimeoutError`, and `WouldDeadlockError` in the thread of the event loop that executes the run.
        """
        self._refuse_to_wait_for_oneself()
        if self._outcome is not None:
            return self._outcome.result(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while (record := self._at_rest()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Run {self.id} did not end within {timeout:g} s.")
            time.sleep(_POLL)
        return final_outcome(self._session, record)

    async def wait(self, timeout: float | None = None) -> Any:
        """Do what `result` does without blocking the event loop."""
        if self._outcome is not None:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._outcome)), timeout)
        async with asyncio.timeout(timeout):
            while (record := self._at_rest()) is None:
                await asyncio.sleep(_POLL)
        return final_outcome(self._session, record)

    def _at_rest(self) -> RunRecord | None:
        """Give the record of a run that nobody executes, as it is when that is known: it may have ended just before."""
        seen = self.record
        if is_under_way(self._session, seen):
            return None
        record = self.record
        return record if record.epoch == seen.epoch else None

    def resume(
        self,
        *,
        on_drift: OnDrift | None = None,
        retry_failed: bool | None = None,
        fresh: bool = False,
        context: Any = ABSENT,
        budget: Number | None = None,
    ) -> Any:
        """Execute what is left of the run and give its result (an awaitable for an async workflow).

        A run that is paused in a living process goes on there, and its result is waited for. `context` is what
        `durable.context()` gives. With `fresh` the whole is executed again, as a new run with the same inputs; an
        unfinished one is superseded. `budget`, in US dollars, takes the place of the one that the run has.

        The workflow is taken from this program or imported from the module or script that
        was recorded. Raises `NotFoundError` if it cannot be found, `ConfigurationError` if inputs are missing.
        """
        record = self.record
        if record.status in (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED) and not fresh:
            return final_outcome(self._session, record)
        if record.status == RunStatus.PAUSED and not fresh and is_under_way(self._session, record):
            self._request("resume")
            known = registry.workflows.get(record.workflow)
            return self.wait() if known is not None and known.is_async else self.result()
        entry = json.loads(record.entry)
        self._refuse_to_resume(record, entry)
        workflow = registry.workflows.get(record.workflow, self._session.anchor) or load_workflow(
            record, self._session.anchor
        )
        args, kwargs = stored_inputs(self._session, record)
        options: dict[str, Any] = {"run_id": record.lineage if fresh else self.id, "fresh": fresh, "context": context}
        if on_drift is not None:
            options["on_drift"] = on_drift
        if retry_failed is not None:
            options["retry_failed"] = retry_failed
        if budget is not None or "budget" in entry:
            options["budget"] = budget if budget is not None else own_budget(entry)
        definition = workflow.with_options(**options)
        call = RunCall(definition, None, args, kwargs)
        life = run_life(call, lambda: definition.plain(*args, **kwargs))
        return drive_async(life) if definition.is_async else drive(life)

    def _refuse_to_resume(self, record: RunRecord, entry: dict[str, Any]) -> None:
        """Raise `ConfigurationError` for a run that nobody but the code that began it can go on with."""
        refuse_programs(self._session, record)
        if entry.get("block"):
            what, holder = "a `with durable.run(...)` block", "the program that holds the block"
            if record.workflow == NOTEBOOK:
                what, holder = "that of a notebook", "the notebook"
            raise ConfigurationError(f"Run {self.id} is {what}: only {holder} can resume it.")
        if record.inputs is None:
            raise ConfigurationError(
                f"Run {self.id} cannot be resumed from here: its inputs {', '.join(entry.get('missing', ()))} could not be "
                f"stored. Call the workflow with them from your program."
            )
        if entry.get("self"):
            raise ConfigurationError(
                f"Run {self.id} is a method call, and its object is not stored. Call the method from your program."
            )

    def cancel(self) -> None:
        """Cancel the run: at once if nobody executes it, at its next step boundary otherwise. It can be resumed."""
        record = self.record
        if record.status in NOT_CANCELLED:
            return
        execution = self._session.active.get(self.id)
        if execution is not None:
            execution.receive("cancel")
        elif is_under_way(self._session, record):
            self._request("cancel")
        else:
            self._change(cancelled)

    def pause(self) -> None:
        """Let no step begin from now on, in whichever process the run executes, until it is resumed.

        What runs ends. A run that nobody executes is marked, and goes on when it is resumed or called again; one that has
        failed, is cancelled, blocked or over is left as it is. Waits for up to some seconds until the run's process knows.
        """
        record = self.record
        if record.status not in UNFINISHED:
            return
        if not is_under_way(self._session, record):
            self._change(paused)
            return
        self._request("pause")
        deadline = time.monotonic() + _PATIENCE
        while (record := self.record).status in _UNPAUSED and is_under_way(self._session, record):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)

    def _request(self, wish: str) -> None:
        """Ask whoever executes the run for something, now and as long as nothing else is asked for."""
        self._session.store.post_request(self.id, wish)
        execution = self._session.active.get(self.id)
        if execution is not None:
            execution.receive(wish)
            self._session.journal.flush_all()

    def send(self, name: str, payload: Any = None) -> Any:
        """Send a message to the run; see `durable.send`."""
        from durable.waiting.sending import send, send_to  # noqa: PLC0415 -- needed for messages only, and imports the engine

        if sessions.is_disabled():
            return send(self.id, name, payload)
        return send_to(self._session, self.id, name, payload)

    def resolve(self, step: str, outcome: Happened | DidNotHappen) -> None:
        """Decide a step in doubt: `durable.happened(value)` or `durable.did_not_happen`.

        `step` is a step key, a beginning of one (of those that begin so the one in doubt is meant), or `#number`. Takes steps
        in doubt, steps that were interrupted too often, failed ones, and such whose value is unavailable. Raises
        `NotFoundError` for an unknown or ambiguous step, `ConfigurationError` for one that needs no decision and for a value
        that cannot be stored, and `RunInProgressError` while the run executes.
        """
        found = self.find_step(step, to_decide=True)
        if found.status == StepStatus.SUCCEEDED and not found.flags & StepFlag.VALUE_UNAVAILABLE:
            raise ConfigurationError(f"Step {found.key!r} of run {self.id} succeeded; there is nothing to decide.")
        now = sessions.clock()
        tick = max(record.done or record.seq for record in self.step_records()) + 1
        flags = (found.flags | StepFlag.RESOLVED) & ~(StepFlag.RETRYING | StepFlag.VALUE_UNAVAILABLE)
        if isinstance(outcome, Happened):
            try:
                value = self._session.serializer.encode(outcome.value, run=self.id, step=found.key)
                if found.flags & StepFlag.SENSITIVE:
                    value = self._session.serializer.lock(value, run=self.id, step=found.key)
            except Unserializable as error:
                raise ConfigurationError(
                    f"Step {found.key!r} of run {self.id} was not resolved: this result cannot be stored: {error}. Give one "
                    f"that can be."
                ) from None
            changed = found._replace(status=StepStatus.SUCCEEDED, value=value, error=None)
        else:
            changed = found._replace(status=StepStatus.CANCELLED, value=None)
            flags |= StepFlag.NO_EFFECT
        if found.flags & StepFlag.COST and changed.status == StepStatus.SUCCEEDED:
            flags |= StepFlag.COST_UNKNOWN  # `cost=` is asked when the step is replayed
        details = Details.read(found.details).after(found.done)
        if found.done is not None:
            flags, details = flags | StepFlag.AGAIN, replace(details, again=tick - 1)
        changed = changed._replace(flags=flags, done=tick, ended_at=now, interruptions=0, details=details.write())
        self._change(lambda run: run, (changed,))

    def find_step(self, step: str, *, to_decide: bool = False) -> StepRecord:
        """Find a step by its key, a unique beginning of it (`to_decide`: of one in doubt), or `#number`; or `NotFoundError`."""
        records = list(self.step_records())
        exact = [record for record in records if step in (record.key, f"#{record.seq}")]
        found = exact or [record for record in records if step and record.key.startswith(step)]
        if not found:
            doubts = [view.key for view in self.steps if view.in_doubt]
            close = ", ".join(doubts or [record.key for record in records[-5:]]) or "none"
            raise NotFoundError(
                f"Run {self.id} has no step {step!r}. Its {'steps in doubt' if doubts else 'latest steps'}: {close}."
            )
        if len(found) > 1:
            doubtful = [view.number for view in self.steps if view.in_doubt]
            found.sort(key=lambda record: record.seq not in doubtful)  # what most likely is meant is named first
            if to_decide and [each.seq in doubtful for each in found[:2]] == [True, False]:
                return found[0]
            shown = ", ".join(f"#{each.seq} {each.key}{' (in doubt)' * (each.seq in doubtful)}" for each in found[:5])
            raise NotFoundError(f"Step {step!r} of run {self.id} is ambiguous: {shown}. Name one by its #number.")
        return found[0]

    def delete(self) -> None:
        """Remove the run with its steps and values, and with the runs that it called, but for those that have a `run_id=`.

        Raises `RunInProgressError` while one of them executes.
        """
        remove(self._session, self.record)

    def _change(self, change: Callable[[RunRecord], RunRecord], steps: tuple[StepRecord, ...] = ()) -> None:
        """Own the run for a moment, write these steps and what `change` makes of the run, and give it back."""
        session = self._session
        with Opening(session, self.record):
            claim = Claiming(session, self.id).act()
            run = change(replace(before(claim), updated_at=sessions.clock()))
            session.journal.flush(leave(session, claim, run, steps))
            if observers and run.status == RunStatus.CANCELLED != before(claim).status:
                notify(run_event(run, run.status, run.updated_at))

    @property
    def record(self) -> RunRecord:
        """The run's record as it is now; raises `NotFoundError` if it was removed."""
        record = self._session.store.load_run(self.id)
        if record is None:
            raise NotFoundError(f"There is no run {self.id!r} in {self._session.store.url}. List them with: durable ls")
        return record

    def _refuse_to_wait_for_oneself(self) -> None:
        running = running_loop()
        done = self._outcome is not None and self._outcome.done()
        if not done and running is not None and (running is self.loop or self._is_in(running)):
            raise WouldDeadlockError(
                f"Run {self.id} executes in this thread's event loop, which waiting here would stop. Use: await run.wait()."
            )
        frame = FRAME.get()
        if frame is not None and frame.body.execution.id == self.id:
            raise WouldDeadlockError(f"Run {self.id} would wait for itself: result() is called inside it.")

    def _is_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        execution = self._session.active.get(self.id)
        task = execution.root_task if execution is not None else None
        return task is not None and task.get_loop() is loop


def get_run(run_id: str) -> Run:
    """Give the run with this id, or with the only id that begins so. Raises `NotFoundError`."""
    if not isinstance(run_id, str) or not run_id:
        raise ConfigurationError(f"A run id is a string that is not empty, not {run_id!r}. List them with: durable ls")
    session = sessions.current()
    if not is_unicode(run_id):
        raise NotFoundError(f"There is no run {run_id!r}, which is not valid Unicode. List them with: durable ls")
    if session.store.load_run(run_id) is not None:
        return Run(session, run_id)
    found = session.store.runs(RunFilter(prefix=run_id, other_than=CACHE_WORKFLOW, limit=6))
    if len(found) == 1:
        return Run(session, found[0].run.id)
    if not found:
        raise NotFoundError(f"There is no run {run_id!r} in {session.store.url}. List them with: durable ls")
    names = ", ".join(summary.run.id for summary in found[:5])
    raise NotFoundError(f"{run_id!r} is the beginning of several runs: {names}. Give more of the id.")


def list_runs(
    *, workflow: str | None = None, status: str | None = None, parent: str | None = None, limit: int | None = None
) -> list[Run]:
    """List the runs in the store, the newest first; filtered by workflow name, status and parent run."""
    found = summaries(workflow=workflow, status=status, parent=parent, limit=limit)
    return Runs.of(Run, sessions.current(), found)


def summaries(
    *, workflow: str | None = None, status: str | None = None, parent: str | None = None, limit: int | None = None
) -> list[RunSummary]:
    """List runs with the number of their steps by status."""
    if status is not None and status not in set(RunStatus):
        raise ConfigurationError(f"There is no status {status!r}. Choose from: {', '.join(RunStatus)}.")
    if not all(is_unicode(name) for name in (workflow, parent) if name is not None):
        return []
    statuses = (status,) if status is not None else ()
    which = RunFilter(workflow=workflow, other_than=CACHE_WORKFLOW, statuses=statuses, parent_run=parent, limit=limit)
    return list(sessions.current().store.runs(which))
