"""A wait is a step: its deadline is durable before it begins, and its outcome is replayed.

A wait that was interrupted goes on with the time that is left. A message is consumed by the commit that records the
result of the wait, so a crash leaves both or neither.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.disabled.plain_runs import plain_body
from durable.errors import ConfigurationError, CorruptRecordError, ExecutionStopped, RunEndedError, WaitTimeoutError
from durable.identity.calls import Call
from durable.records import Received, StepFlag, StepStatus
from durable.runs import sessions
from durable.runs.execution import FRAME
from durable.runs.inside import frame_of, is_async_body
from durable.steps.attempts import CANCELLATIONS, Attempts
from durable.steps.details import Details
from durable.steps.effects import Durable, drive
from durable.steps.engine import as_coroutine
from durable.steps.failures import mark
from durable.steps.matching import Match
from durable.steps.steps import Step
from durable.telling.observers import observers
from durable.waiting.deadlines import Deadline
from durable.waiting.sending import check_name, payload_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from durable.records import Message
    from durable.steps.effects import Effect

_LONGEST = 1e11  # seconds; deadlines beyond some thousand years are mistakes


def sleep(seconds: float | timedelta) -> Any:
    """Wait in a run for some time, seconds or a `timedelta`; it goes on over crashes, and ends when it would have.

    The time counts from its beginning, by the clock of the machine. Where that is set back, each execution of the run waits
    no longer than was left when it began to, and never longer than the whole time.
    Blocks in a sync task or workflow; gives an awaitable in an async one. Raises `ConfigurationError` for what is no
    duration, negative or not finite, and `OutsideRunError` outside a run.
    """
    length = duration("sleep", seconds)
    if FRAME.get() is None and sessions.is_disabled():
        return _plain_sleep(length)
    return _wait(_SLEEP, (length,), length, None)


def wait_for(name: str, *, timeout: float | timedelta | None = None) -> Any:
    """Wait in a run for a message of this name and give its payload; see `durable.send`.

    Each message is received once, the oldest first; one that was sent before, or while nobody executed the run, is there
    at once. `timeout`: seconds or a `timedelta`, counted from the first time the wait began; None: however long.
    Blocks in a sync task or workflow; gives an awaitable in an async one.

    Raises `WaitTimeoutError` if no message came in time, `ConfigurationError` for a name or timeout that cannot be meant,
    and `OutsideRunError` outside a run.
    """
    check_name(name)
    limit = None if timeout is None else duration("wait_for", timeout)
    if FRAME.get() is None and sessions.is_disabled():
        body = plain_body("wait_for()")
        return body.run.take_async(name, limit) if body.is_async else body.run.take(name, limit)
    return _wait(_WAIT_FOR, (name, limit), limit, name)


def _wait(task: TaskDefinition, args: tuple[Any, ...], seconds: float | None, name: str | None) -> Any:
    frame = frame_of(f"{task.title.removeprefix('durable.')}()")
    frame.body.check()
    step = WaitingStep(Match(task, Call(task, None, args, {}), frame), seconds, name)
    return as_coroutine(step.life(), task, frame) if is_async_body(frame) else drive(step.life())


def duration(what: str, given: object) -> float:
    """Read seconds or a `timedelta`, for a function of this name. Raises `ConfigurationError` for what is no duration."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
        raise ConfigurationError(
            f"durable.{what}() takes seconds or a timedelta, not negative and at most {_LONGEST:g} s, not {given!r}."
        )
    return float(seconds)


def _plain_sleep(seconds: float) -> Any:
    return asyncio.sleep(seconds) if plain_body("sleep()").is_async else time.sleep(seconds)


def _sleep(seconds: float) -> None: ...


def _wait_for(name: str, timeout: float | None) -> None: ...


_SLEEP = TaskDefinition(function=_sleep, name="durable.sleep", idempotent=True, has_body=False)
_WAIT_FOR = TaskDefinition(
    function=_wait_for, name="durable.wait_for", key="{name}", ignore=("timeout",), idempotent=True, has_body=False
)
registry.tasks.add(_SLEEP)
registry.tasks.add(_WAIT_FOR)


class WaitingStep(Step):
    """A step that waits for a message, for some seconds, or for a message that long at most."""

    __slots__ = ("_name", "_seconds")

    def __init__(self, match: Match, seconds: float | None, name: str | None) -> None:
        super().__init__(match, match.task.plain)
        self._seconds = seconds
        self._name = name

    def _attempts(self) -> Attempts:
        return Wait(self.match, self._seconds, self._name)


class _Pending:
    """What a wait has come to as long as it goes on."""


_PENDING = _Pending()


class Wait(Attempts):
    """Carries a wait out. To later executions it looks like a step between two attempts: nothing was interrupted."""

    __slots__ = ("_message", "_name", "_seconds")

    def __init__(self, match: Match, seconds: float | None, name: str | None) -> None:
        super().__init__(match, match.task.plain)
        self._seconds = seconds
        self._name = name
        self._message: Message | None = None

    def execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:
        """Wait, until the recorded deadline if there is one; record how it ended."""
        self._attempts = 1
        try:
            if self.execution.standby.is_paused:
                yield from self.execution.standby.admission()
            value = yield from self._wait(self._deadline(until))
        except BaseException as error:
            self._record_failure(error)
            raise
        return (yield from self.succeed(value))

    def _deadline(self, until: float | None) -> float | None:
        """Give the time at which the wait ends: what a wait that was cancelled had left still counts."""
        if self._seconds is None:
            return None
        if self.record is not None and self.record.status == StepStatus.CANCELLED:
            until = Details.read(self.record.details).until
        longest = self.execution.clock() + self._seconds  # the clock may have been set back
        return min(until, longest) if until is not None else self._started_at + self._seconds

    def _wait(self, until: float | None) -> Generator[Effect, Any, Any]:
        execution = self.execution
        ticket = self._record_deadline(until)
        deadline = None if until is None else Deadline(until, execution.clock)
        seen: int | None = execution.standby.mail
        value = self._outcome(deadline, look=True)
        if value is not _PENDING:
            return value
        with execution.standby.waiting() as bell:
            yield Durable(execution, ticket)
            while True:
                seen, looked = execution.standby.mail, seen
                value = self._outcome(deadline, look=seen != looked)
                if value is not _PENDING:
                    return value
                yield bell.within(None if deadline is None else deadline.left())
                self.frame.body.check()

    def _record_deadline(self, until: float | None) -> int:
        """Record that it waits, and how long at most."""
        self._details = replace(Details.read(self._details), until=until).write()
        return self._append(StepStatus.STARTED, StepFlag.RETRYING)

    def _outcome(self, deadline: Deadline | None, *, look: bool) -> Any:
        """Give the payload of a message, None when a sleep is over, or _PENDING; a message counts even after the deadline."""
        if look and self._name is not None and (message := self.execution.standby.take(self._name)) is not None:
            self._message = message
            try:
                return payload_of(self.execution.session, message)
            except CorruptRecordError as error:
                raise self.execution.stop(error) from error
        if deadline is None or deadline.left() > 0:
            return _PENDING
        if self._name is None:
            return None
        raise WaitTimeoutError(
            f"No message {self._name!r} came to run {self.execution.id} within {self._seconds:g} s. Send one with: "
            f"durable send {self.execution.id} {self._name} JSON"
        )

    def _record_failure(self, error: BaseException) -> None:
        execution = self.execution
        if isinstance(error, RunEndedError):
            return
        if isinstance(error, ExecutionStopped) or execution.stopped is not None:
            if execution.is_cancelled:
                self._append(StepStatus.CANCELLED, StepFlag.NO_EFFECT, error=self._encode_error(error))
                self._note_cancellation()
            if not isinstance(error, ExecutionStopped):
                execution.check()
            return
        cancelled = isinstance(error, CANCELLATIONS)
        status = StepStatus.CANCELLED if cancelled else StepStatus.FAILED
        self._append(status, StepFlag.NO_EFFECT, error=self._encode_error(error))
        mark(error, execution.id, self.seq)
        if cancelled:
            self._note_cancellation()

    def _append(self, status: str, flags: int = 0, **outcome: bytes | None) -> int:
        if self._message is None or status != StepStatus.SUCCEEDED:
            return super()._append(status, flags, **outcome)
        execution = self.execution
        assert self.record is not None
        self.record = self.record._replace(
            status=status,
            flags=self._flags | flags,
            ended_at=execution.clock(),
            done=execution.tick(),
            value=outcome.get("value"),
            error=outcome.get("error"),
        )
        if observers:
            execution.tell_step(self.record)
        return execution.journal.append(execution.fence, Received(self.record, self._message.number))
