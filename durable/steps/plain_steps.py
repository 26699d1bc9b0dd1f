"""A plain step is executed without generators, since nothing but its body makes it wait; all else is left to `Attempts`.

It is the life of any step with the first attempt made beforehand: same records, in the same order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from durable.records import StepFlag
from durable.steps.attempts import CERTAIN, Attempts
from durable.steps.effects import Effect, advance, carried, drive, drive_async, flush, flush_async
from durable.steps.step_writers import STARTED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.runs.execution import Body
    from durable.steps.matching import Match


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
                if (
                    execution.state is None
                    and execution.flow is None
                    and execution.ledger is None
                    and not execution.told_bodies
                ):
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


class PlainLife(PlainStep, Effect):
    """The life of a plain step that goes on when it is told to, like a generator; its own first effect is its attempt.

    `ticket` is that of its intent. Where anything but the body makes it wait, the life of any step takes over.
    """

    __slots__ = ("_begun", "_body", "_is_over", "_rest", "ticket")

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        super().__init__(match, function)
        self.ticket = 0
        self._body: Body | None = None
        self._rest: Generator[Effect, Any, Any] | None = None
        self._is_over = False

    @property
    def gi_frame(self) -> object:
        """Something until it has ended, as generators have it."""
        if self._rest is not None:
            return getattr(self._rest, "gi_frame", None)
        return None if self._is_over else self

    def __next__(self) -> Effect:
        """Append the intent."""
        execution = self.execution
        if execution.ledger is not None or execution.standby.is_paused:
            self._rest = self.execute()
            return next(self._rest)
        self._begun = time.monotonic()
        execution.in_flight[self] = self.frame.body
        self._attempts = 1
        try:
            self.ticket = self._append(STARTED)
        except BaseException as error:
            return self.throw(error)
        return self

    def act(self) -> Any:
        """Execute the body as soon as the intent is on disk."""
        execution = self.execution
        if execution.journal.durable < self.ticket:
            flush(execution, self.ticket)
        else:  # with those of others that begin at the same time
            execution.check()
        with self._open():
            return self._function(*self.call.args, **self.call.kwargs)

    async def act_async(self) -> Any:
        """Await the body as soon as the intent is on disk."""
        await flush_async(self.execution, self.ticket)
        with self._open():
            return await self._function(*self.call.args, **self.call.kwargs)

    def _open(self) -> Body:
        self.execution.executed += 1
        self._body = body = self.open_body()
        return body

    def send(self, value: Any) -> Effect:
        """Record the result; raises StopIteration with it, or gives what to wait for next."""
        if self._rest is not None:
            return self._rest.send(value)
        if self._body is None:
            return next(self)
        if self.ends_with(value):
            raise StopIteration(value)
        return self._take_over(Made(self._body, self._begun, value))

    def ends_with(self, value: Any) -> bool:
        """Record the result of the body, unless something else has to be waited for: then `send` takes it."""
        execution, flow = self.execution, self.execution.flow
        if self._rest is not None or (flow is not None and self._body in flow.submitted):
            return False
        if execution.state is not None or execution.ledger is not None or execution.told_bodies:
            return False
        if self._flags & CERTAIN and self.task.is_async:
            return False
        try:
            self._finish(value)
        finally:
            self._end()
        return True

    def throw(self, error: BaseException) -> Effect:
        """Record the failure, or that the intent was given up; raises it, or gives what to wait for next."""
        if self._rest is not None:
            return self._rest.throw(error)
        if self._body is not None:
            return self._take_over(Made(self._body, self._begun, error=error))
        try:
            self._withdraw(error)
        finally:
            self._end()
        raise error

    def _take_over(self, made: Made) -> Effect:
        self._rest = self._execute(made=made)
        return advance(self._rest, next(self._rest))

    def _end(self) -> None:
        self._is_over = True
        self.execution.in_flight.pop(self, None)


async def live_plainly(match: Match, function: Callable[..., Any]) -> Any:
    """Execute an async plain step; its number is drawn when it is awaited."""
    life = PlainLife(match, function)
    try:
        answer = await next(life).act_async()
        if life.ends_with(answer):
            return answer
    except BaseException as error:
        if life.gi_frame is None:
            raise
        rest = drive_async(life, raised=error)
    else:
        rest = drive_async(life, answer)
    return await rest
