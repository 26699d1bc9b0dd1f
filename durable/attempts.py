"""A step is executed in attempts: its intent is durable before the body starts, its result is bytes before the caller
sees it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.details import Details
from durable.doubts import resolve_command
from durable.effects import Arrival, Durable, Execute, Quiet, Sleep
from durable.errors import ExecutionStopped, NotSerializableError
from durable.exceptions import encode_exception
from durable.execution import Body, warn_once
from durable.failures import culprits, mark
from durable.observers import observers
from durable.records import StepFlag, StepRecord, StepStatus, step_key
from durable.replaying import replay_failure
from durable.result_cache import keep
from durable.retries import pause_after
from durable.serializers import Unserializable
from durable.step_keys import Scope
from durable.undoables import describe, keep_result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.effects import Effect
    from durable.matching import Match

_STARTED, _SUCCEEDED = StepStatus.STARTED.value, StepStatus.SUCCEEDED.value
_FAILED, _CANCELLED = StepStatus.FAILED.value, StepStatus.CANCELLED.value
_CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
Identity = tuple[str, int, int, str, str, str, str, bytes, int]
_KEPT_FLAGS = StepFlag.SENSITIVE | StepFlag.CHILD_RUN | StepFlag.NO_BODY | StepFlag.UNDO


class Attempts:
    """Executes the body of a step and writes its record; `tries` counts the failed attempts of the present allowance."""

    __slots__ = (
        "_attempts",
        "_details",
        "_flags",
        "_function",
        "_identity",
        "_is_idempotent",
        "_key",
        "_record",
        "_started_at",
        "call",
        "execution",
        "frame",
        "interruptions",
        "scope",
        "task",
        "tries",
    )

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        self.call = call = match.call
        self.task = task = match.task
        self.frame = match.frame
        self.scope = scope = match.scope
        self.execution = execution = match.execution
        self.tries = 0
        self._function = function
        self._is_idempotent = match.is_idempotent
        self._record = record = match.whole_record()
        self._started_at = execution.clock()
        self._details = call.details(task.code_hex)
        if record is None:
            occurrence, label = match.occurrence, call.label
            self._identity: Identity = (
                execution.id,
                execution.tick(),
                self.frame.body.seq,
                scope.container,
                scope.branch,
                task.label,
                label,
                call.content,
                occurrence,
            )
            self._key = step_key(scope.container, scope.branch, label, occurrence)
            self._attempts = self.interruptions = 0
            self._flags = task.flags
        else:
            self._identity = record[:9]
            self._key = record.key
            self._attempts = record.attempts
            self.interruptions = record.interruptions
            self._flags = record.flags & _KEPT_FLAGS | task.flags & StepFlag.UNDO
        if not self._is_idempotent:
            self._flags |= StepFlag.NOT_IDEMPOTENT
        if task.may_be_undone:
            self._details = describe(execution, self.call, self._seq, self._key, self._details)

    def execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:
        """Execute the body, not before the time `until`, as often as its options allow; record how it ended."""
        execution, task = self.execution, self.task
        if not task.has_body:
            return (yield from self.succeed(self._function()))
        begun = time.monotonic()
        if until is not None:
            yield Sleep(until - execution.clock())
        execution.in_flight[self] = self.frame.body
        try:
            while True:
                self._attempts += 1
                try:
                    yield Durable(execution, self._append(_STARTED))
                except BaseException as error:
                    self._withdraw(error)
                    raise
                body = self.open_body()
                execution.executed += 1
                try:
                    value = yield Execute(body, self._function, self.call.args, self.call.kwargs, task.timeout)
                except BaseException as error:
                    pause = yield from self._fail(error, body, time.monotonic() - begun)
                    if pause is None:
                        raise
                    yield Sleep(pause)
                else:
                    return (yield from self.succeed(value))
        finally:
            execution.in_flight.pop(self, None)  # forgotten where nobody waits for it

    @property
    def _seq(self) -> int:
        return self._identity[1]

    def open_body(self) -> Body:
        """Make the body of the present attempt."""
        execution, record = self.execution, self._record
        assert record is not None
        # what an earlier attempt recorded below this step is read from the store, where its intent put it
        history = execution.open_history(record.seq, execution.tick() - 1 if self._attempts > 1 else 0)
        return Body(
            execution,
            self.frame.body,
            Scope(self._key, "", history, self.scope),
            self.task.title,
            record,
            self._key,
            self._attempts,
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
        ended_at = done = None
        if status != _STARTED:
            ended_at, done = execution.clock(), execution.tick()
        outcome = (
            status,
            self._flags | flags,
            execution.run.epoch,
            self._attempts,
            self.interruptions,
            self._started_at,
            ended_at,
            done,
            value,
            error,
            self._details if details is None else details,
        )
        self._record = record = tuple.__new__(StepRecord, self._identity + outcome)  # a third of the price of a call
        if observers:
            execution.tell_step(record)
        return execution.append(record)

    def _withdraw(self, error: BaseException) -> None:
        """Record that the intent was given up before the body began."""
        self._attempts -= 1
        if isinstance(error, ExecutionStopped):
            self._append(_STARTED, StepFlag.RETRYING)
            return
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
            if self._is_idempotent:
                self._append(_STARTED, StepFlag.RETRYING)
            if not isinstance(error, ExecutionStopped):
                execution.check()
            return None
        no_effect = isinstance(error, task.no_effect_on)
        cancelled = isinstance(error, _CANCELLATIONS) and (not task.is_async or _was_cancelled())
        self.tries += 1
        self.interruptions = 0
        blame = tuple(sorted(culprits(error, execution.id)))
        details = replace(Details.read(self._details), tries=self.tries, retry=blame)
        if isinstance(error, Exception) and (self._is_idempotent or no_effect):
            pause = yield from pause_after(task, error, self.tries, elapsed, self.call.args, self.call.kwargs)
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
        if isinstance(error, (*_CANCELLATIONS, SystemExit)):  # SystemExit of a branch cancels the workflow
            self._note_cancellation()
        if not cancelled and not self._is_idempotent:
            yield Durable(execution, ticket, certain=True)
        if self.task.is_async and not cancelled and not execution.history.is_empty:
            yield Arrival(execution)
        return None

    def succeed(self, value: Any, flags: int = 0) -> Generator[Effect, Any, Any]:
        """Record a result and give it to the caller."""
        self._flags |= flags
        try:
            ticket = self._record_success(value)
        except KeyboardInterrupt:
            self._record_success(value)
            raise
        if not self._is_idempotent:
            yield Durable(self.execution, ticket, certain=True)
        if self.task.is_async and not self.execution.history.is_empty:
            yield Arrival(self.execution)
        if self._flags & StepFlag.VALUE_UNAVAILABLE:
            assert self._record is not None
            raise replay_failure(self.execution, self._record)
        if self.task.cache and self._attempts:
            keep(self.execution.session, self.call, value, self.execution.clock())
        self._warn_of_mutation()
        return value

    def _record_success(self, value: Any) -> int:
        execution = self.execution
        self.interruptions = 0
        try:
            data = execution.serializer.encode(value, run=execution.id, step=self._key)
        except Unserializable as error:
            self._flags |= StepFlag.VALUE_UNAVAILABLE
            if self.task.undo is not None:
                keep_result(execution, self._seq, value)
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
        name = self.call.mutated() if self.task.has_body else None
        if name is None:
            return
        warn_once(
            "mutation",
            self.task.label,
            f"Task {self.task.full_name!r} changed its argument {name!r} in place. A replay returns the stored result and "
            f"cannot repeat the change: return the new value instead.",
        )


def _was_cancelled() -> bool:
    """Whether somebody cancelled the asyncio task; a body may also raise CancelledError by itself."""
    current = asyncio.current_task()
    return current is None or current.cancelling() > 0
