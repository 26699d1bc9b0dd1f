"""How an execution ends: what the run's record says of it, and what a later caller gets from that record."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from durable.errors import (
    CrashLoopError,
    NotSerializableError,
    RunBlockedError,
    RunCancelledError,
    RunInProgressError,
    RunPausedError,
    RunSupersededError,
    StepInDoubtError,
)
from durable.identity.step_keys import idempotency_key
from durable.records import UNFINISHED, RunRecord, RunStatus, StepFlag, StepQuery, StepStatus
from durable.runs.execution import NOTHING, warn_once
from durable.runs.states import changes_secrets
from durable.step_pages import all_steps
from durable.steps.failures import culprits, is_hidden, says_any
from durable.steps.settling import overlooked_steps
from durable.telling import notices
from durable.telling.notices import shell_command
from durable.values.exceptions import decode_exception, describe, encode_exception, move_exception
from durable.values.rebuilt_exceptions import message_of
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from durable.runs.execution import Execution
    from durable.runs.sessions import Session

NOT_CANCELLED = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED, RunStatus.CANCELLED)
_RESULT, _ERROR = "(result)", "(error)"
_BLOCKED = {kind.__name__: kind for kind in (StepInDoubtError, CrashLoopError)}
_CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)


def ended_run(execution: Execution, value: Any, error: BaseException | None) -> tuple[RunRecord, BaseException | None]:
    """Make the run's record after an execution, and the exception that the caller gets."""
    now = execution.clock()
    run = replace(execution.run, owner="", updated_at=now, ended_at=now, result=None, error=None, outcome="{}")
    if error is None:
        return _succeeded(execution, run, value)
    return _failed(execution, run, error), error


def _failed(execution: Execution, run: RunRecord, error: BaseException) -> RunRecord:
    hidden = is_hidden(error) or says_any(error, execution.secrets)
    outcome: dict[str, Any] = {"message": "(sensitive)" if hidden else message_of(error)}
    if execution.stopped is error:
        retry = set(execution.past.retry)
        if execution.is_cancelled:
            retry |= set(execution.interrupted)
        if isinstance(error, RunBlockedError):
            outcome |= {"step": error.step_key, "idempotency_key": error.idempotency_key, "kind": type(error).__name__}
    else:
        retry = culprits(error, run.id)
        if execution.flow is not None:
            retry |= overlooked_steps(execution.flow, execution.body)
        if isinstance(error, _CANCELLATIONS):
            retry |= set(execution.interrupted)
        if not execution.executed and execution.replayed_failures:
            notices.tell_only_replayed(run.id, execution.replayed_failures)
    outcome["retry"] = sorted(retry)
    run = with_state(execution, run)
    stored = encode_exception(error, execution.serializer, run=run.id, step=_ERROR, sensitive=hidden)
    return replace(run, status=_status_after(error), error=stored, outcome=json.dumps(outcome))


def _succeeded(execution: Execution, run: RunRecord, value: Any) -> tuple[RunRecord, BaseException | None]:
    serializer = execution.serializer
    try:
        data = serializer.encode(value, run=run.id, step=_RESULT)
    except Unserializable as problem:
        error = NotSerializableError(
            f"Run {run.id} came to its end, but its result cannot be stored: result{problem.path} is a {problem.culprit} "
            f"({problem.reason}). {_mended(value)} and call it again: its steps are recorded and are not executed again."
        )
        outcome = json.dumps({"message": str(error), "retry": []})
        stored = encode_exception(error, serializer, run=run.id, step=_ERROR)
        return replace(with_state(execution, run), status=RunStatus.FAILED, error=stored, outcome=outcome), error
    return replace(run, status=RunStatus.SUCCEEDED, result=_with_state(execution, data)), None


def _mended(value: Any) -> str:
    return "Make it `async def`, await what it calls," if isinstance(value, CoroutineType) else "Return only what can be stored"


def with_state(execution: Execution, run: RunRecord) -> RunRecord:
    """Give the record of a run that has no result with the run's state."""
    if execution.state is None:
        return run
    nothing = execution.serializer.encode(None, run=run.id, step=_RESULT)
    return replace(run, result=_with_state(execution, nothing))


def _with_state(execution: Execution, data: bytes) -> bytes:
    """Put the run's state beside its result: what the workflow itself changed is recorded here only."""
    if execution.state is None:
        return data
    whole = execution.state.whole()
    joined = execution.serializer.join(data, whole, run=execution.id, step=_RESULT)
    if not (execution.state.holds_secrets or changes_secrets(whole)):
        return joined
    return execution.serializer.lock(joined, run=execution.id, step=_RESULT)


def stored_state(session: Session, run: RunRecord) -> Any:
    """Give the state that a run ended with, as changes; None if it has not ended, or ended without one."""
    return None if run.status == RunStatus.RUNNING else recorded_state(session, run)


def recorded_state(session: Session, run: RunRecord) -> Any:
    """Give the state that stands in a run's record, as changes; None if there is none."""
    if run.result is None:
        return None
    result = session.fetch(run.result, run=run.id, step=_RESULT)
    return session.serializer.decode_beside(result, run=run.id, step=_RESULT)


def warn_of_doubts_left(execution: Execution) -> None:
    """Name what earlier executions left in doubt and a run that has succeeded, as the store knows, did not call again."""
    if execution.history is NOTHING:
        return
    started = all_steps(execution.journal.store, execution.id, StepQuery(statuses=(StepStatus.STARTED,)))
    for step in (step for step in started if step.flags & StepFlag.NOT_IDEMPOTENT):
        warn_once(
            "left",
            f"{execution.id}:{step.key}",
            f"Run {execution.id} succeeded without calling step {step.key!r} again, which was running when an earlier "
            f"execution ended and is not idempotent: nobody knows whether it happened (idempotency key "
            f"{idempotency_key(step)}).",
        )


def _status_after(error: BaseException) -> RunStatus:
    if isinstance(error, RunBlockedError):
        return RunStatus.BLOCKED
    if isinstance(error, (RunCancelledError, *_CANCELLATIONS)):
        return RunStatus.CANCELLED
    return RunStatus.FAILED


def stored_outcome(session: Session, run: RunRecord) -> Any:
    """Give the stored result of a run that succeeded, or raise what stands in its place."""
    if run.result is None:
        raise stored_error(session, run)
    result = session.fetch(run.result, run=run.id, step=_RESULT)
    return session.serializer.decode(result, run=run.id, step=_RESULT)


def moved_outcome(session: Session, run: RunRecord, to: str) -> RunRecord:
    """Give the record of a run with its result, or the error in its place, sealed for a run that is a copy of it."""
    result, error = run.result, run.error
    if result is not None:
        result = sealed_result(session, result, run=run.id, to=to)
    if error is not None:
        stored = session.fetch(error, run=run.id, step=_ERROR)
        error = move_exception(stored, session.serializer, run=run.id, step=_ERROR, to=to)
    return replace(run, result=result, error=error)


def sealed_result(session: Session, value: bytes, *, run: str, to: str, step: str = _RESULT) -> bytes:
    """Give the stored result of a run, or of a step, as the result of another run."""
    data = session.fetch(value, run=run, step=step)
    return session.serializer.seal(session.serializer.unseal(data, run=run, step=step), run=to, step=_RESULT)


def stored_error(session: Session, run: RunRecord) -> BaseException:
    """Give the exception that a run ended with."""
    assert run.error is not None
    stored = session.fetch(run.error, run=run.id, step=_ERROR)
    return decode_exception(stored, session.serializer, run=run.id, step=_ERROR)


def told_end(session: Session, run: RunRecord) -> str:
    """Say how the last execution of a run ended, a failure with the type of its exception; nothing is unpickled."""
    message = str(json.loads(run.outcome or "{}").get("message", ""))
    if run.status != RunStatus.FAILED or run.error is None:
        return message
    stored = session.fetch(run.error, run=run.id, step=_ERROR)
    return f"{describe(stored, session.serializer, run=run.id, step=_ERROR).type_name}: {message}".removesuffix(": ")


def final_outcome(session: Session, record: RunRecord) -> Any:
    """Give the result of a run that nobody executes, or raise how it ended."""
    if record.status == RunStatus.SUCCEEDED:
        return stored_outcome(session, record)
    outcome = json.loads(record.outcome or "{}")
    message = outcome.get("message", "")
    if record.status == RunStatus.BLOCKED:
        kind = _BLOCKED.get(outcome.get("kind", ""), RunBlockedError)
        raise kind(message, record.id, outcome.get("step", ""), outcome.get("idempotency_key", ""))
    if record.status == RunStatus.SUPERSEDED:
        raise RunSupersededError(f"Run {record.id} was superseded by a fresh run with the same inputs.", record.id)
    if record.status == RunStatus.CANCELLED and not isinstance(outcome.get("retry"), list):
        raise RunCancelledError(
            f"Run {record.id} was cancelled. Resume it with: {shell_command('resume', record.id)}", record.id
        )
    if record.error is not None:
        raise stored_error(session, record)
    if record.status == RunStatus.PAUSED:
        raise RunPausedError(
            f"Run {record.id} is paused, and nobody executes it. Resume it with: {shell_command('resume', record.id)}",
            record.id,
        )
    raise RunInProgressError(
        f"Run {record.id} has not ended, and nobody executes it (its process ended). Resume it with: "
        f"{shell_command('resume', record.id)}",
        record.id,
    )


def paused(run: RunRecord) -> RunRecord:
    """Make the record of a run that nobody executes and that waits to be resumed."""
    return replace(run, status=RunStatus.PAUSED) if run.status in UNFINISHED else run


def cancelled(run: RunRecord) -> RunRecord:
    """Make the record of a run that nobody executes and that is given up until it is called again."""
    return run if run.status in NOT_CANCELLED else replace(run, status=RunStatus.CANCELLED)
