"""A run that fails undoes what its finished steps did, the last one first; each compensation is a step of its own.

That a run is being undone is recorded before its first compensation starts. From then on no execution of the run does
anything else until all of them have been tried: what was undone is `undone`, what was not has a failed step that says so.
"""

from __future__ import annotations

import contextvars
import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.called_runs import runs_by_step
from durable.concurrency.branches import scoped_tasks
from durable.concurrency.loops import run_in_loop
from durable.declarations import registry
from durable.errors import ConfigurationError, CorruptRecordError, ExecutionStopped, RunCancelledError
from durable.identity.calls import Call
from durable.identity.step_keys import Scope
from durable.records import RunRecord, RunStatus, StepFlag, StepQuery, StepRecord, StepStatus
from durable.runs.claims import Claiming, Opening, before
from durable.runs.endings import ended_run, recorded_state, stored_error, with_state
from durable.runs.execution import Body, Execution, Frame
from durable.runs.states import state_of
from durable.step_pages import all_steps
from durable.steps.doubts import in_doubt
from durable.steps.effects import Durable, Effect, Invoke, drive, drive_async
from durable.steps.failures import culprits
from durable.steps.matching import Match
from durable.steps.replaying import recorded_changes
from durable.steps.steps import Step
from durable.steps.verdicts import Past, is_undone
from durable.telling.observers import observers
from durable.undoing.outstanding import (
    COMPENSATION,
    PENDING,
    SETTLED,
    TO_UNDO,
    is_being_undone,
    left_to_source,
    load,
    look,
)
from durable.undoing.undoables import compensation_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from durable.concurrency.executors import Elsewhere
    from durable.declarations.definitions import TaskDefinition
    from durable.runs.sessions import Session


Failures = list[tuple[StepRecord, BaseException | None]]


def failure_of(session: Session, run: RunRecord) -> BaseException:
    """Give the exception for which a run is being undone."""
    if run.error is None:
        return RunCancelledError(f"Run {run.id} was undone, because the run that called it failed.", run.id)
    return stored_error(session, run)


def undo(execution: Execution, error: BaseException) -> Generator[Effect, Any, BaseException]:
    """Undo what the run's finished steps did if it fails with this error; gives the error that it ends with.

    Stopped and interrupted runs are not undone: they go on when they are resumed.
    """
    if execution.undoing is None:
        if execution.stopped is not None or not isinstance(error, Exception):
            return error
        if not execution.undoables and not execution.past.last_event:
            return error
        finished, doubtful = yield Invoke(partial(look, execution), in_thread=True)
        if doubtful:
            step, run = doubtful[0]
            return _blocked(execution, step, run, error)
        if not finished:
            return error
        _begin(execution, error)
    failures: Failures = []
    try:
        yield from _undo_all(execution, failures)
    except ExecutionStopped as stopped:
        return stopped.error
    except GeneratorExit:
        raise
    except BaseException as interruption:
        return interruption
    execution.undone = True
    for step, problem in failures:
        error.add_note(f"Step {step.key!r} could not be undone{f': {problem!r}' if problem is not None else ''}.")
    return error


def run_after_undoing(execution: Execution, error: BaseException) -> RunRecord:
    """Make the record of a run that was being undone: it failed, or goes on undoing when it is resumed."""
    run, now = execution.undoing, execution.clock()
    assert run is not None
    outcome = json.loads(run.outcome)
    if execution.undone:
        del outcome[PENDING]
        run = with_state(execution, run)
        status: str = RunStatus.FAILED if run.error is not None else RunStatus.CANCELLED
    else:
        ended, _ = ended_run(execution, None, error)
        outcome = json.loads(ended.outcome) | {PENDING: outcome[PENDING], "retry": outcome.get("retry", [])}
        status = ended.status
    return replace(run, owner="", status=status, outcome=json.dumps(outcome), updated_at=now, ended_at=now)


def _blocked(execution: Execution, step: StepRecord, run: RunRecord, error: BaseException) -> BaseException:
    execution.past.retry |= culprits(error, execution.id)
    failed = f"The run failed with {type(error).__name__}; nothing is undone before this is decided."
    stopped = execution.stop(in_doubt(step, run, failed)).error
    stopped.__cause__ = error
    return stopped


def _begin(execution: Execution, error: BaseException | None) -> None:
    """Record that the run is being undone."""
    run = execution.run
    if error is not None:
        run, _ = ended_run(execution, None, error)
    outcome = json.loads(run.outcome) | {PENDING: execution.tick()}
    execution.undoing = replace(run, outcome=json.dumps(outcome))
    under_way = replace(execution.undoing, status=RunStatus.RUNNING, owner=execution.run.owner, ended_at=None)
    execution.journal.append(execution.fence, under_way)


def _restore_state(execution: Execution, since: int) -> None:
    """Bring the state of the run back to what it failed with, and what compensations changed since."""
    assert execution.undoing is not None
    changes = recorded_state(execution.session, execution.undoing)
    if changes is not None:
        state_of(execution).replay(execution.body, changes, 0)
    for step in all_steps(execution.journal.store, execution.id, StepQuery(flags=StepFlag.STATE)):
        is_compensation = step.container.endswith(COMPENSATION) and step.status == StepStatus.SUCCEEDED
        if is_compensation and (step.done or 0) > since and is_undone(load(execution, step.parent)):
            state_of(execution).postpone(execution.body, recorded_changes(execution, step), step.done or 0)


def _undo_all(execution: Execution, failures: Failures) -> Generator[Effect, Any, bool]:
    """Undo one step after the other, whatever becomes of each; whether any was undone."""
    assert execution.undoing is not None
    if execution.flow is not None:
        execution.flow.reopen()
    since = json.loads(execution.undoing.outcome)[PENDING]
    if execution.state is None:
        yield Invoke(partial(_restore_state, execution, since), in_thread=True)
    finished, _ = yield Invoke(partial(look, execution), in_thread=True)
    children = runs_by_step(execution.journal.store, execution.id)
    unclear: list[StepRecord] = []
    undone = False
    for seq in finished:
        step = load(execution, seq)
        if step.flags & StepFlag.CHILD_RUN:
            if (yield from _undo_run(execution, step, children.get(step.key), failures, since)):
                _note_undone(execution, step)
                undone = True
            continue
        problem = yield from _Compensation(execution, step).execute(failures, since)
        if problem is None:
            _note_undone(execution, step)
            undone = True
        elif problem.flags & StepFlag.NOT_IDEMPOTENT and not problem.flags & SETTLED:
            unclear.append(step)
    for step in unclear:
        failures[:] = [failure for failure in failures if failure[0].seq != step.seq]
        if (yield from _Compensation(execution, step).execute(failures, None)) is None:
            _note_undone(execution, step)
            undone = True
    return undone


def _undo_run(
    execution: Execution, step: StepRecord, child: RunRecord | None, failures: Failures, since: int
) -> Generator[Effect, Any, bool]:
    """Undo the run that a step is, or record that it belongs to another one; whether anything was undone."""
    if child is not None:
        return (yield from _undo_child(execution, child, failures))
    if left_to_source(execution.journal.store, execution.run, step) is not None:
        yield from _Compensation(execution, step).execute(failures, since)
    return False


class _Compensation:
    """The step that undoes another one: below it, and under a key of its own."""

    def __init__(self, execution: Execution, step: StepRecord) -> None:
        self._execution = execution
        self._step = step
        self._container = f"{step.key}{COMPENSATION}"

    def execute(self, failures: Failures, since: int | None) -> Generator[Effect, Any, StepRecord | None]:
        """Undo the step, unless that failed after the event `since`; gives the record of a compensation that failed.

        Without `since` a failure whose effect is not known has to be decided, or stops the execution.
        """
        execution, step = self._execution, self._step
        match, function = self._call()
        failed = match.whole_record()
        if failed is not None and failed.status in (StepStatus.FAILED, StepStatus.CANCELLED):
            is_tried = failed.status == StepStatus.FAILED and not failed.flags & StepFlag.RESOLVED
            if is_tried and since is not None and (failed.done or 0) > since:
                failures.append((step, None))
                return failed
            execution.past.retry.add(failed.seq)
        try:
            yield _Undo(Step(match, function).life(), is_async=match.task.is_async)
        except Exception as problem:
            failures.append((step, problem))
            return self._recorded()
        if execution.state is not None:
            execution.state.hand_on(match.frame.body)
        return None

    def _call(self) -> tuple[Match, Any]:
        execution, step = self._execution, self._step
        scope = Scope(self._container, "", execution.open_history(step.seq, execution.tick()))
        body = Body(execution, execution.body, scope, name=step.task, record=step, step_key=step.key)
        try:
            undo, args, kwargs = compensation_of(execution, step)
            task, function = _as_step(undo, step), undo.function
            if undo.executor is not None:
                function = _elsewhere(execution, undo)
                function.check(args, kwargs)
            return Match(task, Call(task, None, args, kwargs), Frame(body, scope)), function
        except CorruptRecordError as error:
            raise execution.stop(error) from error
        except Exception as error:
            problem = (
                error
                if isinstance(error, ConfigurationError)
                else ConfigurationError(
                    f"The compensation of step {step.key!r} of run {execution.id} cannot be called: "
                    f"{type(error).__name__}: {error}. Mend it and resume the run."
                )
            )
            raise execution.stop(problem) from error

    def _recorded(self) -> StepRecord:
        """Read the compensation as it was recorded last."""
        execution = self._execution
        execution.journal.flush_all()
        query = StepQuery(parent=self._step.seq, scope=(self._container, ""))
        return execution.journal.store.steps(execution.id, query)[-1]


def _as_step(undo: TaskDefinition, step: StepRecord) -> TaskDefinition:
    """Name a compensation after the call that it undoes, not after values that may have no fingerprint."""
    discriminator = step.label.partition(":")[2]
    return replace(
        undo,
        key=undo.key or (lambda *_, **__: discriminator),
        undo=None,
        cache=False,
        sensitive=undo.sensitive or bool(step.flags & StepFlag.SENSITIVE),
    )


def _note_undone(execution: Execution, step: StepRecord) -> None:
    """Record that a step was undone; what it was called by has no result any more, nor has a run that it is."""
    parent = step.parent
    while parent:
        outer = load(execution, parent)
        if not outer.flags & StepFlag.UNDO:
            _reopen(execution, outer)
        parent = outer.parent
    if step.flags & StepFlag.CHILD_RUN:
        _reopen(execution, step)
    else:
        _set_undone(execution, step, step.flags)


def _reopen(execution: Execution, step: StepRecord) -> None:
    """Let a finished step be executed again as itself, so that it calls anew what was undone below it."""
    if step.status == StepStatus.SUCCEEDED:
        _set_undone(execution, step, step.flags | StepFlag.REOPENED)


def _set_undone(execution: Execution, step: StepRecord, flags: int) -> None:
    undone = step._replace(status=StepStatus.UNDONE.value, flags=flags, epoch=execution.run.epoch)
    execution.append(undone)
    if observers:
        execution.tell_step(undone)


def _undo_child(parent: Execution, child: RunRecord, failures: Failures) -> Generator[Effect, Any, bool]:
    """Undo a run that a step of this run is; whether anything was undone in it."""
    session = parent.session
    if not session.store.steps(child.id, StepQuery(flags=TO_UNDO, limit=1)):
        return False
    with Opening(session, child):
        claim = yield Claiming(session, child.id)
        execution = Execution(
            run=claim.run,
            workflow=registry.workflows.get(child.workflow, parent.anchor) or parent.workflow,
            session=session,
            past=Past(
                last_call=claim.history.last_seq,
                last_event=max(claim.history.last_seq, claim.history.last_done),
                progressed=claim.history.last_done > before(claim).mark,
            ),
            clock=parent.clock,
        )
        ended = before(claim)
        try:
            with session.guard:
                session.active[child.id] = execution
            finished, doubtful = look(execution)
            if doubtful:
                raise parent.stop(in_doubt(*doubtful[0], "It stands in a run that is to be undone."))
            if is_being_undone(child):
                execution.undoing = claim.run
            elif finished:
                _begin(execution, None)
            if execution.undoing is None:
                return child.status == RunStatus.CANCELLED  # undone before the process was killed
            ended = replace(execution.undoing, status=RunStatus.CANCELLED)
            undone = yield from _undo_all(execution, failures)
            left = StepQuery(flags=TO_UNDO, statuses=(StepStatus.UNDONE,), limit=1)
            undone = undone or (is_being_undone(child) and bool(session.store.steps(child.id, left)))
            outcome = json.loads(ended.outcome) | {
                "message": f"Undone, because run {parent.id} failed, which had called it."
            }
            del outcome[PENDING]
            ended = replace(ended, outcome=json.dumps(outcome), result=None) if undone else before(claim)
        except ExecutionStopped as stopped:
            raise parent.stop(stopped.error) from None
        finally:
            session.active.pop(child.id, None)
            execution.ended = True
            if execution.flow is not None:
                execution.flow.close()
            ticket = session.journal.append(execution.fence, replace(ended, epoch=claim.run.epoch, owner=""))
        yield Durable(parent, ticket, certain=True)
    return undone


def _elsewhere(execution: Execution, undo: TaskDefinition) -> Elsewhere:
    from durable.concurrency.executors import Elsewhere  # noqa: PLC0415 -- needed where a compensation has an executor only
    from durable.concurrency.flow import flow_of  # noqa: PLC0415 -- as above

    assert undo.executor is not None
    return Elsewhere(flow_of(execution).executors, undo.executor, undo, undo.function, None)


class _Undo(Effect):
    """A compensation lives; an async one gets a loop of its own where there is none to wait in."""

    __slots__ = ("_is_async", "_life")

    def __init__(self, life: Generator[Effect, Any, Any], *, is_async: bool) -> None:
        self._life = life
        self._is_async = is_async

    def act(self) -> None:
        if not self._is_async:
            drive(self._life)
            return
        outcome: Future[None] = Future()
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._live, outcome), name="durable-undo", daemon=True)
        thread.start()
        interruption: KeyboardInterrupt | None = None
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                interruption = error
        if interruption is not None:
            raise interruption
        outcome.result()

    def _live(self, outcome: Future[None]) -> None:
        try:
            run_in_loop(self.act_async())
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    async def act_async(self) -> None:
        if not self._is_async:
            drive(self._life)
            return
        with scoped_tasks():
            await drive_async(self._life)
