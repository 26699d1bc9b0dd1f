"""The life of a run: found or made, claimed, executed, ended; one generator for sync and async workflows.

A run has one owner at a time. Its end is recorded only when every body that it started has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable import notices, sessions
from durable.branches import scoped_tasks
from durable.calls import Call as TaskCall
from durable.effects import Call, Durable, Execute, Quiet, Sleep, drive
from durable.errors import (
    ExecutionStopped,
    InputsChangedError,
    LeaseLostError,
    NotSerializableError,
    RunBlockedError,
    RunCancelledError,
    RunInProgressError,
    StoreError,
    WouldDeadlockError,
)
from durable.exceptions import decode_exception, encode_exception
from durable.execution import FRAME, Execution, warn_once
from durable.failures import culprits
from durable.naming import module_name, script_path
from durable.records import Claim, History, RunFilter, RunRecord, RunStatus, StepFlag, StepStatus
from durable.serializers import Unserializable
from durable.step_keys import content_digest, idempotency_key
from durable.verdicts import Past

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.definitions import WorkflowDefinition
    from durable.effects import Effect
    from durable.execution import Body
    from durable.sessions import Session

_JOIN_POLL = 0.05  # seconds between two looks at a run that is waited for
_INPUTS, _RESULT, _ERROR = "(inputs)", "(result)", "(error)"
_CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)


@dataclass(frozen=True)
class Found:
    """A run that is over: its stored outcome is the answer."""

    run: RunRecord


class RunCall:
    """One call of a workflow: which run it asks for, and with which inputs."""

    def __init__(
        self,
        workflow: WorkflowDefinition,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        parent: Body | None = None,
        is_block: bool = False,
    ) -> None:
        self.workflow = workflow
        self.parent = parent
        self.is_block = is_block
        self.session: Session = sessions.current() if parent is None else _session_of(parent)
        self.switches = sessions.switches()
        self._call = TaskCall(workflow, instance, args, kwargs)
        self.digests = self._call.digests()
        self.lineage = self._identify()
        self.inputs = None if is_block else self._store_inputs()

    def _identify(self) -> str:
        workflow, parent = self.workflow, self.parent
        if workflow.exact_run_id is not None:
            return workflow.exact_run_id
        if workflow.run_id is not None:
            from durable.definitions import check_run_id  # noqa: PLC0415

            return check_run_id(workflow.run_id.format_map(self._call.values))
        digest = self._call.content
        if parent is not None:
            digest = content_digest(parent.execution.id.encode(), parent.idempotency_key.encode())
        return f"{workflow.segment}-{digest.hex()[:16]}"

    def _store_inputs(self) -> bytes | None:
        try:
            return self.session.serializer.encode((self._call.args, self._call.kwargs), run=self.lineage, step=_INPUTS)
        except Unserializable:
            return None

    def means(self, run_id: str) -> bool:
        """Whether a run is one of those that this call asks for."""
        return run_id == self.lineage or run_id.startswith(f"{self.lineage}~")

    def entry(self) -> str:
        """Say, as JSON, how to import the workflow again and which inputs are missing."""
        function = self.workflow.plain
        missing = []
        if self.inputs is None and not self.is_block:
            for name, value in self._call.values.items():
                try:
                    self.session.serializer.encode(value, run="", step="")
                except Unserializable:
                    missing.append(name)
        return json.dumps(
            {
                "module": module_name(function),
                "qualname": getattr(function, "__qualname__", None),
                "path": script_path(function),
                "missing": missing,
                "self": self._call.instance is not None,
                "block": self.is_block,
            }
        )

    def check_inputs(self, run: RunRecord) -> None:
        """Refuse a run that was started with other inputs."""
        recorded = json.loads(run.arguments or b"{}")
        if recorded == self.digests or self.is_block:
            return
        changed = sorted(name for name in {*recorded, *self.digests} if recorded.get(name) != self.digests.get(name))
        raise InputsChangedError(
            f"Run {run.id} was started with other inputs: {', '.join(map(repr, changed))} differ. Nothing was executed. "
            f"Call it with the recorded inputs, or choose another run_id, or start anew with fresh=True."
        )

    def new_run(self, run_id: str, now: float) -> RunRecord:
        """Make the record of a new run that this process owns."""
        parent = self.parent
        return RunRecord(
            id=run_id,
            workflow=self.workflow.full_name,
            status=RunStatus.RUNNING,
            epoch=1,
            owner=self.session.store.owner,
            created_at=now,
            updated_at=now,
            host=socket.gethostname(),
            pid=os.getpid(),
            parent_run=parent.execution.id if parent is not None else None,
            parent_step=parent.step_key if parent is not None else None,
            entry=self.entry(),
            inputs=self.inputs,
            arguments=json.dumps(self.digests).encode(),
            lineage=self.lineage,
        )


def run_life(call: RunCall, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Open the run that a call asks for and execute it, or give its stored outcome."""
    while True:
        try:
            opened = yield from _open(call)
            if isinstance(opened, Found):
                return _outcome(call, opened.run)
            return (yield from _execute(call, opened, function))
        except RunInProgressError as error:
            if call.workflow.on_running != "join" or not call.means(error.run_id):
                raise
            _refuse_to_join_oneself(error)
        yield Sleep(_JOIN_POLL)


def _open(call: RunCall) -> Generator[Effect, Any, Execution | Found]:
    session, workflow = call.session, call.workflow
    now = sessions.clock()
    run = session.store.load_run(call.lineage)
    fresh = workflow.fresh if workflow.fresh is not None else call.switches.fresh and call.parent is None
    if run is None or _is_over(run, call) or fresh:
        latest = session.store.runs(RunFilter(lineage=call.lineage, limit=1))
        run = latest[0].run if latest else run
    if run is None:
        return _begin(call, call.new_run(call.lineage, now))
    if fresh or _is_over(run, call):
        if run.status not in _FINAL:
            yield from _supersede(call, run)
        begun = call.new_run(_next_id(call.lineage, run.id), max(now, run.created_at + 1e-6))
        return _begin(call, begun)
    call.check_inputs(run)
    if run.status == RunStatus.SUCCEEDED and not call.is_block:
        if call.parent is None:
            notices.tell_returned(run, now)
        return Found(run)
    return (yield from _resume(call, run.id))


_FINAL = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED)


def _is_over(run: RunRecord, call: RunCall) -> bool:
    """Whether a call of this workflow means a new run although there is one."""
    rerun = call.workflow.after_success == "rerun" and call.parent is None and not call.is_block
    return run.status == RunStatus.SUPERSEDED or (run.status == RunStatus.SUCCEEDED and rerun)


def _next_id(lineage: str, last: str) -> str:
    number = re.fullmatch(r"~(\d+)", last.removeprefix(lineage))
    return f"{lineage}~{int(number[1]) + 1 if number else 2}"


def _begin(call: RunCall, run: RunRecord) -> Execution:
    execution = _new_execution(call, run, Past())
    call.session.journal.append(execution.fence, run, created=True)
    return execution


def _resume(call: RunCall, run_id: str) -> Generator[Effect, Any, Execution]:
    claim = yield from _claim(call, run_id)
    assert claim.previous is not None
    past = past_of(claim, retry_failed=_retries_failed(call))
    if call.parent is None:
        notices.tell_resumed(claim.previous, claim.previous.status, claim.history.steps, sessions.clock())
    return _new_execution(call, claim.run, past)


def _retries_failed(call: RunCall) -> bool:
    wanted = call.workflow.retry_failed
    return call.switches.retry_failed if wanted is None else wanted


def past_of(claim: Claim, *, retry_failed: bool) -> Past:
    """Read off a claim what earlier executions left."""
    assert claim.previous is not None
    outcome = json.loads(claim.previous.outcome or "{}")
    history: History = claim.history
    return Past(
        retry=set(outcome.get("retry", ())),
        retry_failed=retry_failed,
        crashed=claim.previous.status == RunStatus.RUNNING,
        progressed=history.last_done > claim.previous.mark,
        last_call=history.last_seq,
        last_event=max(history.last_seq, history.last_done),
    )


def _supersede(call: RunCall, run: RunRecord) -> Generator[Effect, Any, None]:
    claim = yield from _claim(call, run.id)
    execution = _new_execution(call, claim.run, past_of(claim, retry_failed=False))
    ended = replace(claim.run, status=RunStatus.SUPERSEDED, owner="", ended_at=sessions.clock())
    call.session.journal.append(execution.fence, ended)
    _release(call.session, execution)


def _claim(call: RunCall, run_id: str) -> Generator[Effect, Any, Claim]:
    session = call.session
    active = session.active.get(run_id)
    if active is not None:
        raise in_progress(active.run, "in this process")
    claim: Claim | None = yield Call(
        lambda: session.store.claim(run_id, host=socket.gethostname(), pid=os.getpid(), now=sessions.clock()),
        in_thread=True,
    )
    if claim is None:
        raise RunInProgressError(f"Run {run_id} was removed while it was opened. Call again.", run_id)
    if not claim.granted:
        raise in_progress(claim.run, f"on {claim.run.host} with pid {claim.run.pid}")
    return claim


def in_progress(run: RunRecord, where: str) -> RunInProgressError:
    """Say who holds a run."""
    since = notices.age(sessions.clock() - run.updated_at)
    return RunInProgressError(
        f"Run {run.id} is in progress {where}, since {since}. To wait for its result: "
        f"with_options(on_running='join').",
        run.id,
    )


def _new_execution(call: RunCall, run: RunRecord, past: Past) -> Execution:
    session = call.session
    execution = Execution(
        run=run,
        workflow=call.workflow,
        session=session,
        past=past,
        on_drift=call.switches.on_drift,
        clock=sessions.clock,
    )
    with session.guard:
        if run.id in session.active:
            raise in_progress(session.active[run.id].run, "in this process")
        session.active[run.id] = execution
    return execution


def _release(session: Session, execution: Execution) -> None:
    with session.guard:
        if session.active.get(execution.id) is execution:
            del session.active[execution.id]


def _execute(call: RunCall, execution: Execution, function: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    error: BaseException | None = None
    value: Any = None
    try:
        try:
            value = yield Execute(execution.body, _scoped(call.workflow, execution, function))
        except GeneratorExit as closed:  # nothing can be awaited any more
            drive(_record_end(call, execution, None, closed))
            raise
        except BaseException as raised:
            error = raised
        error = (yield from _quiet(execution)) or error
        execution.ended = True
        error = yield from _record_end(call, execution, value, error)
    finally:
        execution.ended = True
        _release(call.session, execution)
    if error is not None:
        if execution.stopped is error and call.parent is not None:
            raise call.parent.execution.stop(execution.stopped)
        raise error
    return value


def _scoped(
    workflow: WorkflowDefinition, execution: Execution, function: Callable[[], Any]
) -> Callable[[], Any]:
    if not workflow.is_async:
        return function

    async def scoped() -> Any:
        execution.root_task = asyncio.current_task()
        with scoped_tasks(execution):
            return await function()

    return scoped


def _quiet(execution: Execution) -> Generator[Effect, Any, BaseException | None]:
    """Wait until all bodies have ended, however often the wait is interrupted; gives the last interruption."""
    interrupted: BaseException | None = None
    while True:
        try:
            yield Quiet(execution, execution.body)
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            interrupted = error
        else:
            return interrupted


def _record_end(
    call: RunCall, execution: Execution, value: Any, error: BaseException | None
) -> Generator[Effect, Any, BaseException | None]:
    """Record how the execution ended; gives the exception that the caller gets."""
    session = call.session
    if execution.stopped is not None:
        error = execution.stopped
    if isinstance(error, StoreError) and session.journal.failure is not None:
        return error
    if isinstance(error, LeaseLostError | RunInProgressError) and execution.stopped is error:
        return error
    run, error = _ended(execution, value, error)
    ticket = session.journal.append(execution.fence, run)
    try:
        yield Durable(execution, ticket, certain=True)
    except ExecutionStopped as stopped:
        return stopped.error
    return error


def _ended(execution: Execution, value: Any, error: BaseException | None) -> tuple[RunRecord, BaseException | None]:
    now = execution.clock()
    run = replace(execution.run, owner="", updated_at=now, ended_at=now, result=None, error=None, outcome="{}")
    serializer = execution.serializer
    if error is None:
        _warn_of_doubts_left(execution)
        try:
            data = serializer.encode(value, run=run.id, step=_RESULT)
        except Unserializable as problem:
            error = NotSerializableError(
                f"Run {run.id} succeeded, but its result cannot be stored: result{problem.path} is a {problem.culprit} "
                f"({problem.reason}). Its steps are recorded and are not executed again. Return only what can be stored."
            )
            stored = encode_exception(error, serializer, run=run.id, step=_ERROR)
            return replace(run, status=RunStatus.SUCCEEDED, error=stored), error
        return replace(run, status=RunStatus.SUCCEEDED, result=data), None
    outcome: dict[str, Any] = {"message": str(error)}
    if execution.stopped is error:
        retry = set(execution.past.retry)
        if isinstance(error, RunBlockedError):
            outcome |= {"step": error.step_key, "idempotency_key": error.idempotency_key}
    else:
        retry = culprits(error, run.id)
        if isinstance(error, _CANCELLATIONS):
            retry |= set(execution.interrupted)
        if not execution.executed and execution.replayed_failures:
            notices.tell_only_replayed(run.id, execution.replayed_failures)
    outcome["retry"] = sorted(retry)
    stored = encode_exception(error, serializer, run=run.id, step=_ERROR)
    return replace(run, status=_status_after(error), error=stored, outcome=json.dumps(outcome)), error


def _warn_of_doubts_left(execution: Execution) -> None:
    if execution.history.is_empty:
        return
    left = [step for step in execution.history.left_over((StepStatus.STARTED,)) if step.flags & StepFlag.NOT_IDEMPOTENT]
    for step in left:
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


def _outcome(call: RunCall, run: RunRecord) -> Any:
    return stored_outcome(call.session, run)


def stored_outcome(session: Session, run: RunRecord) -> Any:
    """Give the stored result of a run that succeeded, or raise what stands in its place."""
    if run.result is None:
        assert run.error is not None
        data = session.store.fetch(run.error) if run.error[:1] == b"\0" else run.error
        raise decode_exception(data, session.serializer, run=run.id, step=_ERROR)
    data = session.store.fetch(run.result) if run.result[:1] == b"\0" else run.result
    return session.serializer.decode(data, run=run.id, step=_RESULT)


def stored_inputs(session: Session, run: RunRecord) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the stored arguments of a run."""
    assert run.inputs is not None
    data = session.store.fetch(run.inputs) if run.inputs[:1] == b"\0" else run.inputs
    args, kwargs = session.serializer.decode(data, run=run.lineage, step=_INPUTS)  # type: ignore[misc]  # as encoded
    return args, kwargs


def _session_of(parent: Body) -> Session:
    return parent.execution.session


def _refuse_to_join_oneself(error: RunInProgressError) -> None:
    frame = FRAME.get()
    body = frame.body if frame is not None else None
    if body is not None and body.execution.id == error.run_id:
        raise WouldDeadlockError(f"Run {error.run_id} would wait for itself: it is called inside its own execution.") from error
