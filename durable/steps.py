"""The life of a step: matched, decided, executed, recorded, returned; one generator for sync and async tasks.

A body starts only when its intent and every earlier result of its run are durable. Its result is turned into bytes
before the caller sees it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.calls import Call as TaskCall
from durable.details import Details
from durable.doubts import (
    DidNotHappen,
    Happened,
    ask_whether_it_happened,
    ask_whether_to_run,
    can_ask,
    describe_doubt,
    resolve_command,
)
from durable.effects import Arrival, Call, CancelledAgain, Durable, Execute, Quiet, Sleep
from durable.errors import (
    CodeChangedError,
    CorruptRecordError,
    CrashLoopError,
    ExecutionStopped,
    InputsChangedError,
    NotSerializableError,
    StepInDoubtError,
)
from durable.exceptions import decode_exception, encode_exception
from durable.execution import Body, warn_once
from durable.failures import culprits, mark
from durable.records import StepFlag, StepRecord, StepStatus
from durable.result_cache import MISS, keep, look_up
from durable.retries import pause_after
from durable.serializers import Unserializable
from durable.step_keys import Scope, idempotency_key, join
from durable.verdicts import Drift, Verdict, code_changed, decide, decide_drift, interruptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.definitions import OnDrift, TaskDefinition
    from durable.effects import Effect
    from durable.execution import Frame

_STARTED, _SUCCEEDED = StepStatus.STARTED.value, StepStatus.SUCCEEDED.value
_FAILED, _CANCELLED = StepStatus.FAILED.value, StepStatus.CANCELLED.value
_CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)


class Step:
    """One call of a task in one execution of a run."""

    __slots__ = (
        "_attempts",
        "_details",
        "_flags",
        "_function",
        "_identity",
        "_interruptions",
        "_key",
        "_occurrence",
        "_record",
        "_scope",
        "_started_at",
        "_tries",
        "call",
        "execution",
        "frame",
        "task",
    )

    def __init__(self, task: TaskDefinition, call: TaskCall, frame: Frame, function: Callable[..., Any]) -> None:
        self.call = call
        self.task = task
        self.frame = frame
        self.execution = frame.body.execution
        self._function = function
        self._scope = frame.scope
        with self.execution.lock:
            self._occurrence = self._scope.next_occurrence(call.content)
            self._record = self._scope.history.take(self._scope, call.content, self._occurrence)

    @property
    def is_idempotent(self) -> bool:
        """Whether the body may be executed again when nobody knows whether it happened."""
        return self.task.is_idempotent(self.execution.workflow.idempotent)

    def replay_at_once(self) -> Any:
        """Give the stored result if nothing speaks against it, else NotImplemented."""
        record = self._record
        if (
            record is None
            or record.status != _SUCCEEDED
            or record.flags & StepFlag.VALUE_UNAVAILABLE
            or self.task.label not in self.execution.code_seen
            or not self.task.replay
            or self.task.key is not None
        ):
            return NotImplemented
        return self._replay(record)

    def life(self) -> Generator[Effect, Any, Any]:
        """Match the call, decide, and execute or replay it."""
        self._attempts = self._interruptions = self._tries = self._flags = 0
        if self._record is None and not self.execution.history.is_empty:
            if self.task.is_async:
                yield Arrival(self.execution)
            self._match_elsewhere()
            if self._record is None:
                yield from self._consider_drift()
        if self._record is not None:
            return (yield from self._follow(self._record))
        if self.task.cache and (value := self._cached()) is not MISS:
            self._begin()
            return (yield from self._succeed(value))
        return (yield from self._execute())

    def _cached(self) -> Any:
        return look_up(self.execution.session, self.task, self.call, self.execution.clock())

    # Matching

    def _match_elsewhere(self) -> None:
        call, scope = self.call, self._scope
        with self.execution.lock:
            self._record = scope.history.take_elsewhere(scope, call.content)
            for label in () if self._record is not None else self.task.former_labels:
                former = call.content_under(label)
                self._record = scope.history.take(scope, former, self._occurrence)
                self._record = self._record or scope.history.take_elsewhere(scope, former)
                if self._record is not None:
                    break
            while self._record is None and scope.history.is_occupied(scope, call.content, self._occurrence):
                self._occurrence = scope.next_occurrence(call.content)

    def _consider_drift(self) -> Generator[Effect, Any, None]:
        execution, task = self.execution, self.task
        if task.key is not None or not self.task.has_body:
            return
        on_drift: OnDrift | None = execution.on_drift or task.on_drift or execution.workflow.on_drift
        if self.is_idempotent and on_drift in (None, "run") and task.label in execution.drifted:
            return
        with execution.lock:
            unused = self._scope.history.unused_in(self._scope, self._may_be_this_task)
        verdict = decide_drift(
            unused,
            idempotent=self.is_idempotent,
            has_key=False,
            after_a_retry=self._scope.after_a_retry,
            on_drift=on_drift,
        )
        if verdict is Drift.DOUBT:
            record = next(record for record in unused if record.status == StepStatus.STARTED)
            message = describe_doubt(record, execution.run, idempotency_key(record))
            raise execution.stop(
                StepInDoubtError(
                    f"{message} The current call {self.call.label!r} has other inputs, so nobody can know whether it "
                    f"is the same one.",
                    execution.id,
                    record.key,
                    idempotency_key(record),
                )
            )
        if verdict is Drift.REUSE:
            self._record = next(record for record in unused if record.status == StepStatus.SUCCEEDED)
            with execution.lock:
                self._scope.history.use(self._record)
        elif verdict is Drift.ERROR:
            message = self._describe_drift(unused[0])
            if not (can_ask() and (yield Call(lambda: ask_whether_to_run(message), in_thread=True))):
                raise execution.stop(InputsChangedError(message))
        elif verdict is Drift.EXECUTE:
            execution.drifted.add(task.label)
            warn_once("drift", f"{execution.id}:{task.label}", self._describe_drift(unused[0]))

    def _may_be_this_task(self, label: str) -> bool:
        return label == self.task.label or label in self.task.former_labels or self.execution.is_gone(label)

    def _describe_drift(self, record: StepRecord) -> str:
        recorded, current = Details.read(record.details).arguments, Details.read(self.call.details()).arguments
        changed = [
            f"{name}: recorded {_shown(recorded, name)}, now {_shown(current, name)}"
            for name in sorted({*recorded, *current})
            if _digest(recorded, name) != _digest(current, name)
        ]
        tail = (
            "It is idempotent, so it was executed as a new call."
            if self.is_idempotent
            else "It is not idempotent, so it was not executed."
        )
        return (
            f"Run {self.execution.id} was resumed and calls {self.call.label!r}, which is not recorded, while the recorded "
            f"call {record.key!r} was not made. Changed: {'; '.join(changed) or 'the task itself'}. {tail} If the input "
            f"differs on every start, take it from durable.now(), durable.uuid4() or durable.random(), or name the call "
            f"with key=. If it is a new call, resume with on_drift='run' (durable resume {self.execution.id} "
            f"--on-drift run); to use the recorded result, with on_drift='reuse'."
        )

    # Deciding

    def _follow(self, record: StepRecord) -> Generator[Effect, Any, Any]:
        execution, task = self.execution, self.task
        record = self._prefer_equal_arguments(record)
        self._adopt(record)
        on_code_change = task.on_code_change or execution.workflow.on_code_change or "keep"
        code = task.code if on_code_change != "keep" else None
        verdict = decide(
            record,
            execution.past,
            idempotent=self.is_idempotent,
            replay=task.replay,
            code=code,
            on_code_change=on_code_change,
        )
        if record.done is not None and verdict in _DELIVERED:
            yield Arrival(execution, record.done)
        match verdict:
            case Verdict.REPLAY:
                if on_code_change == "keep":
                    self._warn_of_new_code(record)
                return self._replay(record)
            case Verdict.REPLAY_FAILURE:
                raise self._replay_failure(record)
            case Verdict.AWAIT_CANCELLATION:
                yield CancelledAgain(self._replay_failure(record), self._remind_of_waiting)
            case Verdict.CODE_CHANGED:
                raise execution.stop(self._code_changed(record))
            case Verdict.CRASH_LOOP:
                raise execution.stop(self._crash_loop(record))
            case Verdict.DOUBT:
                execution.past.retry.add(record.seq)
                outcome = yield from self._settle_doubt(record)
                if isinstance(outcome, Happened):
                    self._begin()
                    self._flags |= StepFlag.RESOLVED
                    return (yield from self._succeed(outcome.value))
            case _:
                self._prepare_again(record, verdict)
        return (yield from self._execute(until=Details.read(record.details).until if verdict is Verdict.CONTINUE else None))

    def _prefer_equal_arguments(self, record: StepRecord) -> StepRecord:
        if self.task.key is None:
            return record
        current = self.call.digests()

        def fits(candidate: StepRecord) -> bool:
            recorded = Details.read(candidate.details).arguments
            return {name: argument.digest for name, argument in recorded.items()} == current

        if fits(record):
            return record
        with self.execution.lock:
            better = self._scope.history.exchange(record, fits)
        if better is record:
            warn_once(
                "key",
                f"{self.execution.id}:{self.task.label}",
                f"Step {record.key!r} of run {self.execution.id} was recorded with other arguments under the same key=; "
                f"the record was used, because the key decides.",
            )
        return better

    def _adopt(self, record: StepRecord) -> None:
        self._record = record
        self._identity = record[:9]
        self._key = record.key
        self._attempts = record.attempts
        self._interruptions = record.interruptions
        self._flags = record.flags & (StepFlag.SENSITIVE | StepFlag.CHILD_RUN | StepFlag.NO_BODY)

    def _prepare_again(self, record: StepRecord, verdict: Verdict) -> None:
        details = Details.read(record.details)
        if verdict is Verdict.CONTINUE:
            self._tries = details.tries
        elif verdict is Verdict.EXECUTE_AGAIN:
            self._interruptions = interruptions(record, self.execution.past)
            self._tries = details.tries
            if self.is_idempotent and self.task.has_body and not record.flags & StepFlag.CHILD_RUN:
                warn_once(
                    "again",
                    f"{self.execution.id}:{record.key}",
                    f"Step {record.key!r} of run {self.execution.id} was running when its process ended; it is "
                    f"idempotent, so it is executed again with the same idempotency key.",
                )
        elif verdict is Verdict.TRY_AGAIN:
            self.execution.past.retry.update(details.retry)
        if verdict in (Verdict.TRY_AGAIN, Verdict.EXECUTE):
            self._scope.tried_again = True

    def _replay(self, record: StepRecord) -> Any:
        execution = self.execution
        if record.flags & StepFlag.VALUE_UNAVAILABLE:
            raise self._replay_failure(record)
        assert record.value is not None
        try:
            value = execution.serializer.decode(execution.session.fetch(record.value), run=execution.id, step=record.key)
        except CorruptRecordError as error:
            raise execution.stop(error) from error
        execution.replayed += 1
        return value

    def _replay_failure(self, record: StepRecord) -> BaseException:
        execution = self.execution
        execution.replayed += 1
        execution.replayed_failures.append(record.key)
        assert record.error is not None
        try:
            error = decode_exception(
                execution.session.fetch(record.error), execution.serializer, run=execution.id, step=record.key
            )
        except CorruptRecordError as corrupt:
            raise execution.stop(corrupt) from corrupt
        mark(error, execution.id, record.seq)
        return error

    def _warn_of_new_code(self, record: StepRecord) -> None:
        task, seen = self.task, self.execution.code_seen
        if task.label in seen:
            return
        seen.add(task.label)
        if task.code is not None and code_changed(record, task.code):
            warn_once(
                "code",
                f"{self.execution.id}:{task.label}",
                f"The body of task {task.full_name!r} changed since run {self.execution.id} recorded its results; they are "
                f"kept. To execute it again use on_code_change='rerun' or a new version=.",
            )

    def _code_changed(self, record: StepRecord) -> CodeChangedError:
        return CodeChangedError(
            f"The body of task {self.task.full_name!r} changed since step {record.key!r} of run {self.execution.id} was "
            f"recorded, and on_code_change='error' holds. Use 'keep', 'rerun' or a new version=.",
            self.execution.id,
        )

    def _crash_loop(self, record: StepRecord) -> CrashLoopError:
        return CrashLoopError(
            f"Step {record.key!r} of run {self.execution.id} was interrupted {record.interruptions + 1} times in a row, "
            f"the last time when its process ended without a trace (killed, or out of memory?). It was not executed "
            f"again. When the cause is gone: {resolve_command(self.execution.id, record.key)} --did-not-happen, or "
            f"durable resume {self.execution.id} --retry-failed.",
            self.execution.id,
            record.key,
            idempotency_key(record),
        )

    def _remind_of_waiting(self) -> None:
        assert self._record is not None
        warn_once(
            "waiting",
            f"{self.execution.id}:{self._record.key}",
            f"Step {self._record.key!r} of run {self.execution.id} was cancelled when it was recorded and the run went on; "
            f"it waits to be cancelled again. To execute it: durable resume {self.execution.id} --retry-failed.",
        )

    def _settle_doubt(self, record: StepRecord) -> Generator[Effect, Any, Happened | DidNotHappen]:
        execution, task = self.execution, self.task
        message = describe_doubt(record, execution.run, idempotency_key(record))
        if task.reconcile is not None:
            reconcile = task.reconcile
            bound = (self.call.instance,) if self.call.instance is not None and not task.takes_self else ()
            try:
                with self._open_body():
                    answer = yield Call(lambda: reconcile(*bound, *self.call.args, **self.call.kwargs))
            except Exception as error:
                raise execution.stop(self._in_doubt(record, f"{message} Its reconcile= raised {error!r}.")) from error
            if not isinstance(answer, Happened | DidNotHappen):
                raise execution.stop(
                    self._in_doubt(
                        record,
                        f"{message} Its reconcile= returned {answer!r} instead of durable.happened(value) or "
                        f"durable.did_not_happen.",
                    )
                )
            return answer
        if can_ask():
            decided = yield Call(lambda: ask_whether_it_happened(message), in_thread=True)
            if decided is not None:
                return decided  # type: ignore[no-any-return]  # what ask_whether_it_happened gives
        raise execution.stop(self._in_doubt(record, message))

    def _in_doubt(self, record: StepRecord, message: str) -> StepInDoubtError:
        return StepInDoubtError(message, self.execution.id, record.key, idempotency_key(record))

    # Executing

    def _execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:
        execution, task = self.execution, self.task
        self._begin()
        if not task.has_body:
            return (yield from self._succeed(self._function()))
        begun = time.monotonic()
        if until is not None:
            yield Sleep(until - execution.clock())
        execution.in_flight[self] = self.frame.body
        try:
            return (yield from self._execute_attempts(begun))
        finally:
            del execution.in_flight[self]

    def _execute_attempts(self, begun: float) -> Generator[Effect, Any, Any]:
        execution, task = self.execution, self.task
        while True:
            self._attempts += 1
            try:
                yield Durable(execution, self._append(_STARTED))
            except BaseException as error:
                self._withdraw(error)
                raise
            body = self._open_body()
            execution.executed += 1
            try:
                value = yield Execute(body, self._function, self.call.args, self.call.kwargs, task.timeout)
            except BaseException as error:
                pause = yield from self._fail(error, body, time.monotonic() - begun)
                if pause is None:
                    raise
                yield Sleep(pause)
            else:
                return (yield from self._succeed(value))

    def _begin(self) -> None:
        task, execution, record = self.task, self.execution, self._record
        self._started_at = execution.clock()
        if record is None:
            scope, label = self._scope, self.call.label
            occurrence = self._occurrence
            self._flags |= task.flags
            self._identity = (
                execution.id,
                execution.tick(),
                self.frame.body.seq,
                scope.container,
                scope.branch,
                task.label,
                label,
                self.call.content,
                occurrence,
            )
            self._key = join(scope.container, scope.branch, label if occurrence == 1 else f"{label}~{occurrence}")
        if not self.is_idempotent:
            self._flags |= StepFlag.NOT_IDEMPOTENT
        self._details = self.call.details(task.code_hex)

    @property
    def _seq(self) -> int:
        return self._identity[1]

    def _open_body(self) -> Body:
        execution, record = self.execution, self._record
        assert record is not None
        # what an earlier attempt recorded below this step is read from the store, where its intent put it
        history = execution.open_history(record.seq, execution.tick() - 1 if self._attempts > 1 else 0)
        return Body(
            execution,
            self.frame.body,
            Scope(self._key, "", history, self._scope),
            name=self.task.title,
            record=record,
            step_key=self._key,
            attempt=self._attempts,
        )

    def _append(
        self,
        status: str,
        flags: int = 0,
        *,
        value: bytes | None = None,
        error: bytes | None = None,
        details: bytes | None = None,
    ) -> int:
        execution = self.execution
        has_ended = status != _STARTED
        self._record = StepRecord(
            *self._identity,
            status,
            self._flags | flags,
            execution.run.epoch,
            self._attempts,
            self._interruptions,
            self._started_at,
            execution.clock() if has_ended else None,
            execution.tick() if has_ended else None,
            value,
            error,
            self._details if details is None else details,
        )
        return execution.append(self._record)

    def _withdraw(self, error: BaseException) -> None:
        """Record that the intent was given up before the body began."""
        if isinstance(error, ExecutionStopped):
            return
        self._attempts -= 1
        self._append(_CANCELLED, StepFlag.NO_EFFECT, error=self._encode_error(error))
        self._note_cancellation()

    def _encode_error(self, error: BaseException) -> bytes:
        return encode_exception(
            error,
            self.execution.serializer,
            run=self.execution.id,
            step=self._key,
            sensitive=self.task.sensitive,
        )

    def _note_cancellation(self) -> None:
        self.execution.interrupted.append(self._seq)

    def _fail(self, error: BaseException, body: Body, elapsed: float) -> Generator[Effect, Any, float | None]:
        """Record a failed attempt; gives the seconds to wait before the next one, None if there is none."""
        execution, task = self.execution, self.task
        if isinstance(error, ExecutionStopped) or execution.stopped is not None:
            if self.is_idempotent:
                self._append(_STARTED, StepFlag.RETRYING)
            if not isinstance(error, ExecutionStopped):
                execution.check()
            return None
        no_effect = isinstance(error, task.no_effect_on)
        cancelled = isinstance(error, _CANCELLATIONS)
        self._tries += 1
        self._interruptions = 0
        blame = tuple(sorted(culprits(error, execution.id)))
        details = replace(Details.read(self._details), tries=self._tries, retry=blame)
        if isinstance(error, Exception) and (self.is_idempotent or no_effect):
            pause = yield from pause_after(task, error, self._tries, elapsed, self.call.args, self.call.kwargs)
            if pause is not None:
                yield Quiet(execution, body)
                execution.past.retry.update(blame)
                until = execution.clock() + pause
                self._append(
                    _STARTED,
                    StepFlag.RETRYING,
                    error=self._encode_error(error),
                    details=replace(details, until=until).write(),
                )
                return pause
        ticket = self._append(
            _CANCELLED if cancelled else _FAILED,
            StepFlag.NO_EFFECT * no_effect,
            error=self._encode_error(error),
            details=details.write(),
        )
        mark(error, execution.id, self._seq)
        if cancelled:
            self._note_cancellation()
        elif not self.is_idempotent:
            yield Durable(execution, ticket, certain=True)
        if self.task.is_async and not cancelled and not execution.history.is_empty:
            yield Arrival(execution)
        return None

    def _succeed(self, value: Any) -> Generator[Effect, Any, Any]:
        try:
            ticket = self._record_success(value)
        except KeyboardInterrupt:
            self._record_success(value)
            raise
        if not self.is_idempotent:
            yield Durable(self.execution, ticket, certain=True)
        if self.task.is_async and not self.execution.history.is_empty:
            yield Arrival(self.execution)
        if self._flags & StepFlag.VALUE_UNAVAILABLE:
            assert self._record is not None
            raise self._replay_failure(self._record)
        if self.task.cache and self._attempts:
            keep(self.execution.session, self.call, value, self.execution.clock())
        self._warn_of_mutation()
        return value

    def _record_success(self, value: Any) -> int:
        execution = self.execution
        self._interruptions = 0
        try:
            data = execution.serializer.encode(value, run=execution.id, step=self._key)
        except Unserializable as error:
            self._flags |= StepFlag.VALUE_UNAVAILABLE
            unavailable = self._encode_error(self._value_unavailable(error))
            return self._append(_SUCCEEDED, error=unavailable)
        return self._append(_SUCCEEDED, value=data)

    def _value_unavailable(self, error: Unserializable) -> NotSerializableError:
        return NotSerializableError(
            f"Step {self._key!r} of run {self.execution.id} succeeded, but its result cannot be stored: "
            f"result{error.path} is a {error.culprit} ({error.reason}). It will not be executed again. Return only what "
            f"can be stored; then set this record aside with version=, or decide its result with: "
            f"{resolve_command(self.execution.id, self._key)} --happened 'JSON'."
        )

    def _warn_of_mutation(self) -> None:
        if not self.task.has_body or (name := self.call.mutated()) is None:
            return
        warn_once(
            "mutation",
            self.task.label,
            f"Task {self.task.full_name!r} changed its argument {name!r} in place. A replay returns the stored result and "
            f"cannot repeat the change: return the new value instead.",
        )


_DELIVERED = (Verdict.REPLAY, Verdict.REPLAY_FAILURE)


def _shown(arguments: dict[str, Any], name: str) -> str:
    return arguments[name].preview if name in arguments else "the default"


def _digest(arguments: dict[str, Any], name: str) -> str | None:
    return arguments[name].digest if name in arguments else None
