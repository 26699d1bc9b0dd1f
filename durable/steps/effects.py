"""The few things that a step or a run waits for, each in a blocking and an awaitable form.

The life of a step or a run is one generator that decides and yields effects; `drive` and `drive_async` perform them.
So sync and async share every decision, and no class exists twice.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from durable.errors import StoreError
from durable.steps.awaitables import Effect
from durable.steps.timed_bodies import await_for_good, await_or_leave, execute_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.runs.execution import Body, Execution

__all__ = [
    "Arrival",
    "CancelledAgain",
    "Carried",
    "Durable",
    "Effect",
    "Execute",
    "Invoke",
    "Life",
    "Quiet",
    "Sleep",
    "advance",
    "carried",
    "drive",
    "drive_async",
    "flush",
    "flush_async",
    "uncarried",
    "uninterrupted",
]

_LOOK = 0.005  # seconds between two looks at steps that end in other threads


class Life(Protocol):
    """What goes on as generators do: told how its last effect ended, it gives the next one or raises StopIteration."""

    def send(self, value: Any, /) -> Effect: ...
    def throw(self, error: BaseException, /) -> Effect: ...


class Carried(BaseException):
    """Carries a StopIteration through the lives, which are generators: one that leaves a generator ends it."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


def carried(error: BaseException) -> BaseException:
    """Give what a life can raise in the place of an exception of the user."""
    return Carried(error) if isinstance(error, StopIteration) else error


def uncarried(error: BaseException) -> BaseException:
    """Give the exception of the user that a life got."""
    return error.error if isinstance(error, Carried) else error


def advance(life: Life, effect: Effect) -> Effect:
    """Perform an effect, blocking, and give the next one; raises StopIteration at the end of the life."""
    try:
        answer = effect.act()
    except BaseException as error:
        return life.throw(error)
    return life.send(answer)


def drive(life: Life) -> Any:
    """Perform the effects of a life one after the other, blocking.

    Whatever is raised here, be it by a signal handler between two lines, goes to the life: it alone can end itself.
    """
    go_on: Callable[[Any], Effect] = life.send
    answer: Any = None
    while True:
        try:
            while True:
                effect = go_on(answer)
                go_on, answer = life.send, effect.act()
        except BaseException as error:
            if getattr(life, "gi_frame", None) is None:  # it has ended; `getgeneratorstate` costs a call
                answer = None  # it may be the error, which would hold itself
                if isinstance(error, StopIteration):
                    return error.value
                if not isinstance(error, Carried):
                    raise
                stop = error.error
                break
            go_on, answer = life.throw, error
    raise stop


async def drive_async(life: Life, answer: Any = None, raised: BaseException | None = None) -> Any:
    """Perform the effects of a life one after the other, awaiting; see `drive`.

    Of a life that has begun, `answer` is what its last effect gave, or `raised` the exception that left that.
    """
    go_on: Callable[[Any], Effect] = life.send
    if raised is not None:
        go_on, answer, raised = life.throw, raised, None
    while True:
        try:
            while True:
                effect = go_on(answer)
                go_on, answer = life.send, await effect.act_async()
        except BaseException as error:
            if getattr(life, "gi_frame", None) is None:  # it has ended; `getgeneratorstate` costs a call
                answer = None  # it may be the error, which would hold itself
                if isinstance(error, StopIteration):
                    return error.value
                raise
            go_on, answer = life.throw, error


def flush(execution: Execution, ticket: int) -> None:
    """Return when everything that the execution appended up to the ticket is on disk; raises what stopped it."""
    try:  # noqa: SIM105 -- `suppress` costs three calls on every step
        execution.journal.flush(ticket)
    except StoreError:  # `check` stops the execution for it
        pass
    execution.check()


async def flush_async(execution: Execution, ticket: int, *, certain: bool = False) -> None:
    """Do what `flush` does without blocking the event loop; `certain`: whatever cancels the waiting task."""
    journal = execution.journal
    try:
        if journal.durable < ticket:
            alone = not execution.tasks or not execution.tasks.are_there()
            if not (alone and journal.is_quick and journal.try_flush() and journal.durable >= ticket):
                waiting = journal.durable_in(asyncio.get_running_loop(), ticket)
                await (uninterrupted(waiting) if certain else waiting)
    except StoreError:  # see above
        pass
    execution.check()


class Durable(Effect):
    """Everything that the execution appended up to the ticket is on disk."""

    __slots__ = ("_certain", "_execution", "ticket")

    def __init__(self, execution: Execution, ticket: int, *, certain: bool = False) -> None:
        self._execution = execution
        self.ticket = ticket
        self._certain = certain

    def act(self) -> None:
        flush(self._execution, self.ticket)

    async def act_async(self) -> None:
        await flush_async(self._execution, self.ticket, certain=self._certain)


class Execute(Effect):
    """The user's function runs in the body's place; `timeout` in seconds."""

    __slots__ = ("_args", "_function", "_kwargs", "_timeout", "body")

    def __init__(
        self,
        body: Body,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.body = body
        self._function = function
        self._args = args
        self._kwargs = kwargs or {}
        self._timeout = timeout

    def act(self) -> Any:
        try:
            if self._timeout is not None:
                return execute_in_thread(self.body, partial(self._function, *self._args, **self._kwargs), self._timeout)
            with self.body:
                return self._function(*self._args, **self._kwargs)
        except StopIteration as error:
            raise Carried(error) from None

    async def act_async(self) -> Any:
        if self._timeout is None:
            with self.body:
                return await self._function(*self._args, **self._kwargs)
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                with self.body:
                    return await self._function(*self._args, **self._kwargs)
        except TimeoutError:
            if limit.expired():
                raise self.body.timed_out(self._timeout) from None
            raise


class Sleep(Effect):
    """Some seconds pass."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def act(self) -> None:
        time.sleep(max(0.0, self._seconds))

    async def act_async(self) -> None:
        await asyncio.sleep(max(0.0, self._seconds))


class Invoke(Effect):
    """A function of the user or of ours is called; what it gives is awaited where it can be."""

    __slots__ = ("_call", "_in_thread")

    def __init__(self, call: Callable[[], Any], *, in_thread: bool = False) -> None:
        self._call = call
        self._in_thread = in_thread

    def act(self) -> Any:
        return self._call()

    async def act_async(self) -> Any:
        if self._in_thread:
            return await asyncio.to_thread(self._call)
        result = self._call()
        return await result if asyncio.iscoroutine(result) else result


class Arrival(Effect):
    """It is the turn of a recorded completion, or, without its number, of something new: after all that is recorded."""

    __slots__ = ("_done", "_execution")

    def __init__(self, execution: Execution, done: int | None = None) -> None:
        self._execution = execution
        self._done = done

    def act(self) -> None:
        """A sync call is decided at once."""

    async def act_async(self) -> None:
        if self._done is None:
            await self._execution.arrivals.catch_up()
        else:
            await self._execution.arrivals.turn(self._done)


class CancelledAgain(Effect):
    """The call is cancelled, as it was when it was recorded."""

    __slots__ = ("_error", "_remind")

    def __init__(self, error: BaseException, remind: Callable[[], None]) -> None:
        self._error = error
        self._remind = remind

    def act(self) -> None:
        raise self._error

    async def act_async(self) -> None:
        loop = asyncio.get_running_loop()
        reminder = loop.call_later(5, self._remind)
        try:
            await loop.create_future()
        finally:
            reminder.cancel()


class Quiet(Effect):
    """Every body that was started below this one has ended; async ones are cancelled, others awaited.

    At the end of the run one that outlived its timeout is left running in the end.
    """

    __slots__ = ("_body", "_execution", "_is_end")

    def __init__(self, execution: Execution, body: Body, *, is_end: bool = False) -> None:
        self._execution = execution
        self._body = body
        self._is_end = is_end

    def act(self) -> None:
        for timed in self._execution.timed_bodies_below(self._body):
            if self._is_end:
                await_or_leave(timed)
            else:
                await_for_good(timed)
        while self._execution.has_steps_below(self._body):
            time.sleep(_LOOK)

    async def act_async(self) -> None:
        current, loop = asyncio.current_task(), asyncio.get_running_loop()
        while tasks := [
            task for task in self._execution.tasks.below(self._body) if task is not current and task.get_loop() is loop
        ]:
            for task in tasks:
                task.cancel()
            await uninterrupted(asyncio.gather(*tasks, return_exceptions=True))
        if self._execution.timed_bodies_below(self._body) or self._execution.has_steps_below(self._body):
            await uninterrupted(loop.run_in_executor(None, self.act))


async def uninterrupted(future: asyncio.Future[Any]) -> Any:
    """Wait to the end whatever cancels the waiting task; the cancellation goes on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        if not future.cancelled():
            future.exception()
        raise cancelled
    return future.result()
