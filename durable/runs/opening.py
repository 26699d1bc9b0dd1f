"""Which run a call gets: one that is found or made, and owned by this process from then on, or one that is over.

Nothing of a run is executed before it is owned, and each is owned by one caller at a time.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.concurrency.loops import watch_loops
from durable.costs.ledgers import Ledger
from durable.costs.savings import returned_savings
from durable.options import ABSENT
from durable.records import UNFINISHED, Claim, History, RunFilter, RunRecord, RunStatus
from durable.runs import sessions
from durable.runs.claims import Claiming, Opening, before, in_progress, leave
from durable.runs.execution import Execution, warn_once
from durable.runs.snapshots import Hydration
from durable.steps.effects import Invoke
from durable.steps.verdicts import Past, succeeded_at
from durable.telling import notices
from durable.telling.observers import notify, observe_into_file, observers, run_event
from durable.telling.progress import watch
from durable.undoing.outstanding import is_being_undone

if TYPE_CHECKING:
    from collections.abc import Generator

    from durable.identity.run_calls import RunCall
    from durable.steps.effects import Effect

_FINAL = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED)


def open_run(call: RunCall) -> Generator[Effect, Any, RunRecord | None]:
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
    return None if call.execution is not None else (yield from open_run(call))


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
        return None if call.execution is not None else (yield from open_run(call))
    execution = _own(call, run, Past())
    store_new(execution, run)
    tell_observers(execution, run, "started")
    return None


def store_new(execution: Execution, run: RunRecord) -> None:
    """Send a new run on its way to the store; to do so twice changes nothing."""
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
            tell_observers(execution, claim.run, "resumed")
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
        succeeded_at=succeeded_at(claim.previous),
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
    watch_loops()
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


def tell_observers(execution: Execution, run: RunRecord, kind: str, error: BaseException | None = None) -> None:
    """Tell observers what became of a run."""
    if observers:
        execution.tell(run_event(run, kind, execution.clock(), error))
