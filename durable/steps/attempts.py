"""A step is executed in attempts: its intent is durable before the body starts, its result is bytes before the caller
sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.costs.budgets import admission, admitted
from durable.costs.spending import charge
from durable.errors import ExecutionStopped, NotSerializableError, UnknownCostError
from durable.identity.step_keys import Scope
from durable.records import StepFlag, StepStatus
from durable.runs.execution import NOTHING, Body
from durable.runs.stopping import was_cancelled
from durable.steps.details import Details
from durable.steps.effects import Arrival, Durable, Execute, Quiet, uncarried
from durable.steps.failures import culprits, given, has_not_begun, mark
from durable.steps.key_windows import is_forgotten
from durable.steps.result_cache import keep
from durable.steps.retries import pause_after, pause_after_result
from durable.steps.settling import complete, end_streams, leave, overlooked_steps
from durable.steps.step_writers import STARTED, StepWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.steps.effects import Effect
    from durable.steps.plain_steps import Made

_FAILED, _CANCELLED = StepStatus.FAILED.value, StepStatus.CANCELLED.value
CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
_COST, CERTAIN = StepFlag.COST, StepFlag.NOT_IDEMPOTENT | StepFlag.COST


class Attempts(StepWriter):
    """Executes the body of a step as often as its options allow."""

    __slots__ = ()

    def execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:
        """Execute the body, not before the time `until`, as often as its options allow; record how it ended."""
        if not self.task.has_body:
            return self.succeed(self._function())
        return self._execute(until) if self.execution.ledger is None else admitted(self, self._execute(until))

    def _execute(self, until: float | None = None, made: Made | None = None) -> Generator[Effect, Any, Any]:
        """Make attempts until the step has ended; `made` is the first one where it was made beforehand."""
        execution, task = self.execution, self.task
        begun = time.monotonic() if made is None else made.begun
        execution.in_flight[self] = self.frame.body
        try:
            if until is not None:
                yield from self._back_off(until)
            while True:
                body = (yield from self._intend()) if made is None else made.body
                pause = None
                try:
                    value = yield made or Execute(body, self._function, self.call.args, self.call.kwargs, task.timeout)
                    if execution.flow is not None or task.retry is not None:
                        pause = yield from self._review(value, body, time.monotonic() - begun)
                    if execution.told_bodies:
                        self._refuse_if_told(body)
                except BaseException as error:
                    pause = yield from self._fail(uncarried(error), body, time.monotonic() - begun)
                    if pause is None:
                        raise
                else:
                    if pause is None:
                        return (yield from self.succeed(value, body=body))
                    self._discard_changes(body)
                made = None
                yield from self._back_off(execution.clock() + pause)
        finally:
            execution.in_flight.pop(self, None)  # forgotten where nobody waits for it

    def _intend(self) -> Generator[Effect, Any, Body]:
        """Have the intent of another attempt on disk; gives the body that may run now."""
        execution = self.execution
        self._attempts += 1
        try:
            if execution.standby.is_paused:
                yield from execution.standby.admission()
            yield Durable(execution, self._append(STARTED))
        except BaseException as error:
            self._withdraw(error)
            raise
        execution.executed += 1
        return self.open_body()

    def _discard_changes(self, body: Body) -> None:
        """Forget what an attempt that did not succeed changed in the run's state."""
        if self.execution.state is not None:
            self.execution.state.forget(body)

    def _back_off(self, until: float) -> Generator[Effect, Any, None]:
        """Wait for the next attempt, which is recorded as pending; cancelled meanwhile, it is recorded as cancelled."""
        try:
            yield from self.execution.standby.time(until)
        except (asyncio.CancelledError, ExecutionStopped) as error:
            if self.execution.is_cancelled or not isinstance(error, ExecutionStopped):
                self._append(_CANCELLED, StepFlag.NO_EFFECT, error=self._encode_error(error))
                self._note_cancellation()
            raise
        yield from admission(self)

    def open_body(self) -> Body:
        """Make the body of the present attempt."""
        execution, record = self.execution, self.record
        assert record is not None
        # what an earlier attempt recorded below this step is read from the store, where its intent put it
        history = execution.open_history(record.seq, execution.tick() - 1) if self._attempts > 1 else NOTHING
        return Body(
            execution,
            self.frame.body,
            Scope(self.key, "", history, self.scope),
            self.task.title,
            record,
            self.key,
            self._attempts,
        )

    def _withdraw(self, error: BaseException) -> None:
        """Record that the intent was given up before the body began."""
        self._attempts -= 1
        if isinstance(error, ExecutionStopped) and not self.execution.is_cancelled:
            self._append(STARTED, StepFlag.RETRYING)
            return
        self._append(_CANCELLED, StepFlag.NO_EFFECT, error=self._encode_error(error))
        self._note_cancellation()

    def _fail(self, error: BaseException, body: Body, elapsed: float) -> Generator[Effect, Any, float | None]:
        """Record a failed attempt; gives the seconds to wait before the next one, None if there is none."""
        execution, task = self.execution, self.task
        yield from leave(execution.flow, body, error)
        if execution.streams:
            yield from end_streams(execution, body, failed=True)
        if (result := given(error)) is not None and (yield from self._succeed_alone(result, body)):
            return None
        self._discard_changes(body)
        if isinstance(error, ExecutionStopped) or execution.stopped is not None or body in execution.told_bodies:
            self._interrupt(error, body)
            return None
        no_effect = isinstance(error, task.no_effect_on) or has_not_begun(error)
        cancelled = isinstance(error, GeneratorExit) or (
            isinstance(error, CANCELLATIONS) and (not task.is_async or was_cancelled())
        )
        self.tries += 1
        self.interruptions = 0
        execution.unsuccessful += 1
        blamed = culprits(error, execution.id)
        if execution.flow is not None:
            blamed |= overlooked_steps(execution.flow, body)
        blame = tuple(sorted(blamed))
        details = replace(Details.read(self._details), tries=self.tries, retry=blame)
        if isinstance(error, Exception) and (self._is_idempotent or no_effect):
            pause = yield from pause_after(task, error, self.tries, elapsed, self.call.args, self.call.kwargs)
            if pause is not None and not is_forgotten(self._details, execution.clock() + pause):
                execution.past.retry.update(blame)
                yield from self._record_pause(pause, body, details, self._encode_error(error))
                return pause
        ticket = self._append(
            _CANCELLED if cancelled else _FAILED,
            StepFlag.NO_EFFECT * no_effect,
            error=self._encode_error(error),
            details=details.write(),
        )
        execution.failed += not cancelled
        mark(error, execution.id, self.seq)
        if isinstance(error, (*CANCELLATIONS, SystemExit)):  # SystemExit of a branch cancels the workflow
            self._note_cancellation()
        if not cancelled and self._flags & CERTAIN:
            yield Durable(execution, ticket, certain=True)
        if self.task.is_async and not cancelled and execution.arrivals.are_expected:
            yield Arrival(execution)
        return None

    def _succeed_alone(self, result: Callable[[], Any], body: Body) -> Generator[Effect, Any, bool]:
        """Record what a body elsewhere gave whose caller was cancelled meanwhile; False if it failed there."""
        try:
            value = result()
        except BaseException:  # says the body: its caller gets the cancellation
            return False
        flags = StepFlag.LEFT if self.execution.stopped is None else 0  # nothing goes on where the execution is stopped
        self._note_cancellation()
        with contextlib.suppress(NotSerializableError, UnknownCostError):  # which are recorded
            yield from self.succeed(value, flags, body)
        return True

    def _interrupt(self, error: BaseException, body: Body) -> None:
        """Record an attempt that the end of the execution interrupted, and raise what ended it."""
        execution = self.execution
        if execution.is_cancelled:
            no_effect = isinstance(error, self.task.no_effect_on)
            self._append(_CANCELLED, StepFlag.NO_EFFECT * no_effect, error=self._encode_error(error))
            self._note_cancellation()
        elif self._is_idempotent:
            self._append(STARTED, StepFlag.RETRYING)
        if isinstance(error, ExecutionStopped):
            execution.told(error, self.frame.body)
            return
        execution.check()
        self._refuse_if_told(body)

    def _refuse_if_told(self, body: Body) -> None:
        """Raise what a body was told by a call of it, whatever it made of that: nothing that it returns is its result."""
        end = self.execution.told_bodies.get(body)
        if end is not None:
            raise self.execution.told(end, self.frame.body)

    def _review(self, value: Any, body: Body, elapsed: float) -> Generator[Effect, Any, float | None]:
        """Wait for what the body submitted, and ask `retry` whether the result will do.

        Gives the seconds to wait before the next attempt, None if there is none.
        """
        if self.execution.flow is not None:
            yield from complete(self.execution.flow, body)
        call, tries = self.call, self.tries + 1
        if self.task.retry is None or not self._is_idempotent:
            return None
        pause = yield from pause_after_result(self.task, value, tries, elapsed, call.args, call.kwargs)
        if pause is not None:
            self.tries, self.interruptions = tries, 0
            self.execution.unsuccessful += 1
            yield from self._record_pause(pause, body, replace(Details.read(self._details), tries=tries), None)
        return pause

    def _record_pause(
        self, pause: float, body: Body, details: Details, error: bytes | None
    ) -> Generator[Effect, Any, None]:
        """Wait until what the body started has ended, and record that another attempt follows."""
        self.execution.repeated += 1
        yield Quiet(self.execution, body)
        until = self.execution.clock() + pause
        self._append(STARTED, StepFlag.RETRYING, error=error, details=replace(details, until=until, pause=pause).write())

    def succeed(self, value: Any, flags: int = 0, body: Body | None = None) -> Generator[Effect, Any, Any]:
        """Record a result, and with it what the body changed in the run's state, and give it to the caller."""
        self._flags |= flags
        if self.execution.streams and body is not None:
            yield from end_streams(self.execution, body, failed=False)
        is_paid = self._flags & _COST and (body is not None or flags)
        missing = charge(self, value, is_resolved=body is None) if is_paid else None
        state = self.execution.state if body is not None else None
        ticket = self._record_success(value, state, body)
        if self._flags & CERTAIN:
            yield Durable(self.execution, ticket, certain=True)
        if self.task.is_async and self.execution.arrivals.are_expected:
            yield Arrival(self.execution)
        self._check_delivery()
        if self.task.cache and body is not None:
            keep(self.execution.session, self.call, value, self.execution.clock())
        if state is not None and body is not None:
            state.close(body)
        self._warn_of_mutation()
        if missing is not None:
            raise missing
        return value
