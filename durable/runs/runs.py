"""The life of a run: found or made, claimed, executed, ended; one generator for sync and async workflows.

A run has one owner at a time. Its end is recorded only when every body that it started has ended.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.concurrency.consumers import end_streams
from durable.costs.ledgers import Ledger
from durable.costs.savings import returned_savings, tally_of, with_tally
from durable.errors import (
    ExecutionStopped,
    LeaseLostError,
    RunInProgressError,
    StoreError,
    WouldDeadlockError,
)
from durable.options import ABSENT
from durable.records import UNFINISHED, Claim, History, RunFilter, RunRecord, RunStatus
from durable.runs import sessions
from durable.runs.claims import Claiming, Opening, before, in_progress, leave
from durable.runs.endings import ended_run, stored_outcome
from durable.runs.execution import FRAME, Execution, warn_once
from durable.runs.snapshots import Hydration
from durable.runs.stopping import ended_when_stopped, limited
from durable.steps import settling
from durable.steps.effects import Durable, Execute, Invoke, Quiet, Sleep, carried, drive, uncarried
from durable.steps.verdicts import Past
from durable.telling import notices
from durable.telling.observers import notify, observe_into_file, observers, run_event
from durable.telling.progress import forget, watch
from durable.undoing.compensation import failure_of, is_being_undone, run_after_undoing, undo

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.costs.savings import Tally
    from durable.declarations.definitions import WorkflowDefinition
    from durable.identity.run_calls import RunCall
    from durable.steps.effects import Effect

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


def _open(call: RunCall) -> Generator[Effect, Any, RunRecord | None]:
    """Make the call own a run that it is to execute, or give the run that is over: its stored outcome is the answer."""
    session, workflow = call.session, call.workflow
    observe_into_file(call.switches.events)
    hydration = Hydration(call) if workflow.snapshot is not None else None
    now = sessions.clock()
    run = session.store.load_run(call.lineage)
    fresh = workflow.fresh if workflow.fresh is not None else call.switches.fresh and call.parent is None
    if run is None or fresh or _is_over(run, call) or _was_begun_again(call, run):
        latest = session.store.runs(RunFilter(lineage=call.lineage, limit=1))
        run = latest[0].run if latest else run
    if run is None:
        return (yield from _begin(call, call.new_run(call.lineage, now), hydration))
    fresh = fresh and not call.has_begun(run)
    if fresh or _is_over(run, call):
        if run.status not in _FINAL:
            yield from _supersede(call, run)
        begun = call.new_run(_next_id(call.lineage, run.id), max(now, run.created_at + 1e-6))
        return (yield from _begin(call, begun, hydration))
    if hydration is not None:
        hydration.check_run(run)
    call.check_inputs(run)
    if run.status == RunStatus.SUCCEEDED and not call.is_block:
        if call.parent is None:
            notices.tell_returned(run, now, lambda: returned_savings(session.store, run))
        return run
    yield from _resume(call, run)
    return None if call.execution is not None else (yield from _open(call))


_FINAL = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED)
_OUTCOMES = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.BLOCKED)


def _is_over(run: RunRecord, call: RunCall) -> bool:
    """Whether a call of this workflow means a new run although there is one."""
    rerun = call.workflow.after_success == "rerun" and call.parent is None
    return run.status == RunStatus.SUPERSEDED or (run.status == RunStatus.SUCCEEDED and rerun)


def _was_begun_again(call: RunCall, run: RunRecord) -> bool:
    """Whether there is a later run with the same inputs, which counts; a look at the second one tells, at little cost."""
    return run.status == RunStatus.SUCCEEDED and call.session.store.load_run(_next_id(run.id, run.id)) is not None


def _next_id(lineage: str, last: str) -> str:
    number = re.fullmatch(r"~(\d+)", last.removeprefix(lineage))
    return f"{lineage}~{int(number[1]) + 1 if number else 2}"


def _begin(call: RunCall, run: RunRecord, hydration: Hydration | None) -> Generator[Effect, Any, RunRecord | None]:
    """Own a new run; one that is made from a snapshot is stored with its steps and then claimed like any other."""
    if hydration is not None:
        yield Invoke(lambda: hydration.plant(run), in_thread=True)
        yield from _resume(call, run)
        return None if call.execution is not None else (yield from _open(call))
    execution = _own(call, run, Past())
    _store_new(execution, run)
    _tell(execution, run, "started")
    return None


def _store_new(execution: Execution, run: RunRecord) -> None:
    execution.journal.append(execution.fence, run, created=True)
    execution.is_stored = True


def _resume(call: RunCall, run: RunRecord) -> Generator[Effect, Any, None]:
    """Claim a run and go on with it, unless it ended since it was looked at."""
    with Opening(call.session, run):
        claim: Claim = yield Claiming(call.session, run.id)
        previous = before(claim)
        if previous.status in _FINAL and not call.is_block:
            yield from _leave(call, claim, previous)
            return
        try:
            past = past_of(claim, retry_failed=_retries_failed(call))
            call.succeeded_at = previous.ended_at if previous.status == RunStatus.SUCCEEDED else None
            if call.parent is None:
                call.tell_resumed(previous, claim.history.steps, sessions.clock())
            execution = _own(call, claim.run, past)
            _keep_budget(call, execution)
            _tell(execution, claim.run, "resumed")
        except BaseException:
            if call.execution is None:
                leave(call.session, claim, previous)
            raise


def _keep_budget(call: RunCall, execution: Execution) -> None:
    """Record the budget of a resumed run if it was given another one."""
    entry = json.loads(execution.run.entry)
    kept = {name: value for name, value in entry.items() if name != "budget"} | call.budget_entry()
    if kept != entry:
        execution.run = replace(execution.run, entry=json.dumps(kept))
        call.session.journal.append(execution.fence, execution.run)


def _leave(call: RunCall, claim: Claim, run: RunRecord) -> Generator[Effect, Any, None]:
    ticket = leave(call.session, claim, run)
    yield Invoke(lambda: call.session.journal.flush(ticket), in_thread=True)


def _retries_failed(call: RunCall) -> bool:
    wanted = call.workflow.retry_failed
    return call.switches.retry_failed if wanted is None else wanted


def past_of(claim: Claim, *, retry_failed: bool) -> Past:
    """Read off a claim what earlier executions left."""
    assert claim.previous is not None
    outcome = json.loads(claim.previous.outcome or "{}")
    history: History = claim.history
    last_progress = history.last_done if history.last_progress is None else history.last_progress
    return Past(
        retry=set(outcome.get("retry", ())),
        retry_failed=retry_failed,
        crashed=claim.previous.status in UNFINISHED,
        progressed=last_progress > claim.previous.mark,
        last_call=history.last_seq,
        last_event=max(history.last_seq, history.last_done),
    )


def _supersede(call: RunCall, run: RunRecord) -> Generator[Effect, Any, None]:
    with Opening(call.session, run):
        claim: Claim = yield Claiming(call.session, run.id)
        if is_being_undone(before(claim)):
            warn_once(
                "superseded",
                run.id,
                f"Run {run.id} failed and was interrupted while its steps were undone. It is superseded by a fresh run, and "
                f"what was not undone stays as it is: {notices.shell_command('show', run.id)}",
            )
        superseded = replace(claim.run, status=RunStatus.SUPERSEDED, ended_at=sessions.clock())
        is_final = before(claim).status in _FINAL
        yield from _leave(call, claim, before(claim) if is_final else superseded)
        if observers and not is_final:
            notify(run_event(superseded, superseded.status, sessions.clock()))


def _own(call: RunCall, run: RunRecord, past: Past) -> Execution:
    """Make the execution of a run that belongs to this process; no other call of this process gets one."""
    session = call.session
    execution = Execution(
        run=run,
        workflow=call.workflow,
        session=session,
        past=past,
        on_drift=call.switches.on_drift,
        clock=sessions.clock,
    )
    execution.context = call.context
    execution.secrets = call.secrets
    entry = json.loads(run.entry)
    execution.lacks_context = call.context is ABSENT and bool(entry.get("context"))
    execution.labels_elsewhere = entry.get("labels", [])
    with session.guard:
        if run.id in session.active:
            raise in_progress(session.active[run.id].run, "in this process")
        call.execution = session.active[run.id] = execution
    if call.parent is not None:
        execution.caller = call.parent
        execution.inherit(call.parent.execution)
    else:
        watch(execution)
    if call.workflow.budget is not None or (call.parent is not None and call.parent.execution.ledger is not None):
        execution.ledger = Ledger(execution)
    return execution


def _execute(call: RunCall, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Open a run, execute it and give it up, wherever Ctrl-C comes; or give the stored outcome of one that is over."""
    error: BaseException | None = None
    value: Any = None
    try:
        try:
            run = yield from _open(call)
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
        if call.execution is not None:  # no function of ours is called before all is done: a signal handler could run then
            ended, call.execution = call.execution, None
            ended.ended = True
            call.session.active.pop(ended.run.id, None)
            forget(ended)
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
            yield from end_streams(execution, error)
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
        _store_new(execution, execution.run)
    tally = tally_of(execution)
    ticket = session.journal.append(execution.fence, with_tally(run, tally))
    try:
        yield Durable(execution, ticket, certain=True)
    except ExecutionStopped as stopped:
        if stopped.error is not error:
            return stopped.error
    else:
        _end_well(call, execution, run, tally)
    _tell(execution, run, run.status, error)
    return error


def _is_only_replayed(call: RunCall, execution: Execution, run: RunRecord) -> bool:
    """Whether a run that had succeeded did so again and executed nothing: it is as old as before."""
    return call.succeeded_at is not None and run.status == RunStatus.SUCCEEDED and not execution.executed


def _end_well(call: RunCall, execution: Execution, run: RunRecord, tally: Tally) -> None:
    if execution.state is not None:
        execution.state.close(execution.body)
    if tally and call.parent is None:
        notices.tell_done(run, str(tally), was_resumed=not execution.is_new)


def _tell(execution: Execution, run: RunRecord, kind: str, error: BaseException | None = None) -> None:
    if observers:
        execution.tell(run_event(run, kind, execution.clock(), error))


def _refuse_to_join_oneself(error: RunInProgressError) -> None:
    frame = FRAME.get()
    body = frame.body if frame is not None else None
    if body is not None and body.execution.id == error.run_id:
        raise WouldDeadlockError(
            f"Run {error.run_id} would wait for itself: it is called inside its own execution."
        ) from error
