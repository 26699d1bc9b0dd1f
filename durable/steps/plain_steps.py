"""A plain step is executed without a generator, since nothing but its body makes it wait; all else is left to its life.

It is the life of any step with the first attempt made beforehand: same records, in the same order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from durable.records import StepFlag
from durable.steps.attempts import CERTAIN, Attempts
from durable.steps.effects import Effect, carried, drive, flush
from durable.steps.step_writers import STARTED

if TYPE_CHECKING:
    from durable.runs.execution import Body


class Made(Effect):
    """An attempt that was made: gives the body's value or raises its error; `begun` in seconds of the monotonic clock."""

    __slots__ = ("_error", "_value", "begun", "body")

    def __init__(self, body: Body, begun: float, value: Any = None, error: BaseException | None = None) -> None:
        self.body = body
        self.begun = begun
        self._value = value
        self._error = error

    def act(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class PlainStep(Attempts):
    """A step of a task that `is_plain`, of which nothing is recorded."""

    __slots__ = ()

    def perform(self) -> Any:
        """Execute the body and record how it ended; gives its result."""
        execution = self.execution
        if execution.ledger is not None or execution.standby.is_paused:
            return drive(self.execute())
        begun = time.monotonic()
        execution.in_flight[self] = self.frame.body
        try:
            self._attempts = 1
            try:
                flush(execution, self._append(STARTED))
            except BaseException as error:
                self._withdraw(error)
                raise
            execution.executed += 1
            body = self.open_body()
            try:
                with body:
                    value = self._function(*self.call.args, **self.call.kwargs)
            except BaseException as error:
                made = Made(body, begun, error=carried(error))
            else:
                if execution.state is None and execution.flow is None and execution.ledger is None:
                    return self._finish(value)
                made = Made(body, begun, value)
            return drive(self._execute(made=made))
        finally:
            execution.in_flight.pop(self, None)

    def _finish(self, value: Any) -> Any:
        ticket = self._record_success(value)
        if self._flags & CERTAIN:
            flush(self.execution, ticket)
        if self._flags & StepFlag.VALUE_UNAVAILABLE:
            self._check_delivery()
        if not self.call.immutable:
            self._warn_of_mutation()
        return value
