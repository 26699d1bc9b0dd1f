"""The life of a run: opened, executed, ended; one generator for sync and async workflows.

A run has one owner at a time. Its end is recorded only when every body that it started has ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.costs.savings import tally_of, with_tally
from durable.errors import (
    ExecutionStopped,
    LeaseLostError,
    RunInProgressError,
    StoreError,
    WouldDeadlockError,
)
from durable.records import RunRecord, RunStatus
from durable.runs.endings import ended_run, stored_outcome, warn_of_doubts_left
from durable.runs.execution import FRAME, Execution
from durable.runs.opening import open_run, store_new, tell_observers
from durable.runs.stopping import ended_when_stopped, limited
from durable.steps import settling
from durable.steps.effects import Durable, Execute, Quiet, Sleep, carried, drive, uncarried
from durable.telling import notices
from durable.telling.progress import forget
from durable.undoing.compensation import failure_of, run_after_undoing, undo
from durable.undoing.outstanding import is_being_undone

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.costs.savings import Tally
    from durable.declarations.definitions import WorkflowDefinition
    from durable.identity.run_calls import RunCall
    from durable.steps.effects import Effect

_OUTCOMES = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.BLOCKED)
_JOIN_POLL = 0.05  # seconds between two looks at a run that is waited for


def run_life(call: RunCall, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Open the run that a call asks for and execute it, or give its stored outcome."""
    joined: str | None = None
    while True:
        try:
            run = _outcome_of(call, joined)
            if run is not None:
                return stored_outcome(call.session, run)
            return (yield from _execute(call, function))
        except RunInProgressError as error:
            if call.workflow.on_running != "join" or not call.means(error.run_id):
                raise
            _refuse_to_join_oneself(error)
            joined = error.run_id
        yield Sleep(_JOIN_POLL)


def _outcome_of(call: RunCall, joined: str | None) -> RunRecord | None:
    """Find the run whose execution the call waited for and that has an outcome: not one that was cancelled or died."""
    run = call.session.store.load_run(joined) if joined is not None else None
    if run is None or run.status not in _OUTCOMES or call.is_block or call.workflow.fresh:
        return None
    call.check_inputs(run)
    return run


def _execute(call: RunCall, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Open a run, execute it and give it up, wherever Ctrl-C comes; or give the stored outcome of one that is over."""
    error: BaseException | None = None
    value: Any = None
    try:
        try:
            run = yield from open_run(call)
            if run is not None:
                return stored_outcome(call.session, run)
            value = yield from _execute_body(call, function)
        except GeneratorExit as closed:  # nothing can be awaited any more
            if call.execution is not None:
                call.execution.standby.end()
                drive(_record_end(call, call.execution, None, closed))
            raise
        except BaseException as raised:
            if call.execution is None:
                raise
            error = uncarried(raised)
        execution = _owned(call)
        error = yield from _wind_up(call, execution, error)
        error = yield from _record_end(call, execution, value, error)
    finally:
        # no function of ours is called before all is done: a signal handler could run then
        if call.execution is not None:
            ended, call.execution = call.execution, None
            ended.ended = True
            call.session.active.pop(ended.run.id, None)
            forget(ended)
            ended.tasks.forget_ended()
    if error is not None:
        if execution.stopped is not None and call.parent is not None:
            raise call.parent.execution.stop(execution.stopped)
        raise carried(error)
    return value


def _execute_body(call: RunCall, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Execute the workflow's body, unless the run is being undone: then nothing happens but that it fails again."""
    execution, workflow = _owned(call), call.workflow
    if not is_being_undone(execution.run):
        with limited(execution, workflow.timeout):
            return (yield Execute(execution.body, _scoped(workflow, execution, function)))
    execution.undoing = execution.run
    if not call.is_block:  # whose body is kept from execution by nothing but an exception
        yield Execute(execution.body, _scoped(workflow, execution, _nothing(workflow)))
    raise failure_of(call.session, execution.run)


def _wind_up(
    call: RunCall, execution: Execution, error: BaseException | None
) -> Generator[Effect, Any, BaseException | None]:
    """End what the body left open, and undo what the run did if it fails; gives the error that it ends with."""
    if isinstance(error, KeyboardInterrupt) and execution.in_flight and execution.root_task is None:
        notices.tell_waiting(execution.id, execution.calls_in_flight())
    try:
        if execution.flow is not None:
            error = yield from settling.end(execution.flow, error)
        error = (yield from _quiet(execution)) or error
        if execution.streams:
            yield from settling.end_streams(execution, execution.body, failed=error is not None)
        if error is not None:
            error = yield from undo(execution, error)
    except GeneratorExit as closed:  # nothing can be awaited any more
        execution.standby.end()
        drive(_record_end(call, execution, None, closed))
        raise
    if execution.undoing is not None:
        error = (yield from _quiet(execution)) or error
    execution.standby.end()
    if execution.flow is not None:
        execution.flow.close()
    return error


def _nothing(workflow: WorkflowDefinition) -> Callable[[], Any]:
    async def nothing() -> None: ...

    return nothing if workflow.is_async else lambda: None


def _owned(call: RunCall) -> Execution:
    assert call.execution is not None
    return call.execution


def _scoped(workflow: WorkflowDefinition, execution: Execution, function: Callable[[], Any]) -> Callable[[], Any]:
    if not workflow.is_async:
        return function

    async def scoped() -> Any:
        with scoped_tasks(), ended_when_stopped(execution):
            return await function()

    return scoped


def _quiet(execution: Execution) -> Generator[Effect, Any, BaseException | None]:
    """Wait until all bodies have ended, however often the wait is interrupted; gives the last interruption."""
    interrupted: BaseException | None = None
    while True:
        try:
            yield Quiet(execution, execution.body, is_end=True)
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            interrupted = error
        else:
            return interrupted


def _record_end(
    call: RunCall, execution: Execution, value: Any, error: BaseException | None
) -> Generator[Effect, Any, BaseException | None]:
    """Record how the execution ended; gives the exception that the caller gets."""
    session = call.session
    if execution.is_disowned:
        return error
    if execution.stopped is not None:
        error = execution.stopped
    if isinstance(error, StoreError) and session.journal.failure is not None:
        return error
    if isinstance(error, LeaseLostError | RunInProgressError) and execution.stopped is error:
        return error
    if execution.undoing is not None and error is not None:
        run = run_after_undoing(execution, error)
    else:
        run, error = ended_run(execution, value, error)
        run = replace(run, ended_at=call.succeeded_at) if _is_only_replayed(call, execution, run) else run
    if not execution.is_stored:  # Ctrl-C came before; to write it twice changes nothing
        store_new(execution, execution.run)
    tally = tally_of(execution)
    ticket = session.journal.append(execution.fence, with_tally(run, tally))
    try:
        yield Durable(execution, ticket, certain=True)
    except ExecutionStopped as stopped:
        if stopped.error is not error:
            return stopped.error
    else:
        _end_well(call, execution, run, tally)
    tell_observers(execution, run, run.status, error)
    return error


def _is_only_replayed(call: RunCall, execution: Execution, run: RunRecord) -> bool:
    """Whether a run that had succeeded did so again and executed nothing: it is as old as before."""
    return call.succeeded_at is not None and run.status == RunStatus.SUCCEEDED and not execution.executed


def _end_well(call: RunCall, execution: Execution, run: RunRecord, tally: Tally) -> None:
    if execution.state is not None:
        execution.state.close(execution.body)
    if run.status == RunStatus.SUCCEEDED:
        warn_of_doubts_left(execution)
    if tally and call.parent is None:
        notices.tell_done(run, str(tally), was_resumed=not execution.is_new)


def _refuse_to_join_oneself(error: RunInProgressError) -> None:
    frame = FRAME.get()
    body = frame.body if frame is not None else None
    if body is not None and body.execution.id == error.run_id:
        raise WouldDeadlockError(
            f"Run {error.run_id} would wait for itself: it is called inside its own execution."
        ) from error
