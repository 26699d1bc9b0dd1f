"""Tasks that are submitted where DURABLE_DISABLE is set: executed at once, or as asyncio tasks that wait for others first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

from durable.errors import ConfigurationError, UpstreamFailedError, WouldDeadlockError
from durable.steps.awaitables import Effect, running_loop
from durable.steps.effects import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from durable.concurrency.futures import TaskFuture
    from durable.disabled.plain_runs import PlainRun

_numbers = itertools.count(1)


class PlainCall(Effect):
    """A function of the user is called; what it gives is awaited, if need be in a loop of its own."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def act(self) -> Any:
        result = self._call()
        return _awaited_elsewhere(result) if asyncio.iscoroutine(result) else result

    async def act_async(self) -> Any:
        result = self._call()
        return await result if asyncio.iscoroutine(result) else result


def _awaited_elsewhere(coroutine: Any) -> Any:
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def execute() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


class _PlainFlow:
    """What futures ask of a flow."""

    under_way: frozenset[Any] = frozenset()

    def block(self, wait: Callable[[], Any]) -> Any:
        return wait()

    async def pause(self, waiting: Awaitable[Any]) -> Any:
        return await waiting


_FLOW = _PlainFlow()


class PlainSubmission:
    """One submitted call; futures know it as they know a `Submission`."""

    flow = _FLOW
    is_ending = False

    def __init__(
        self,
        run: PlainRun,
        key: str,
        needed: tuple[PlainSubmission, ...],
        after: tuple[PlainSubmission, ...],
        when: str,
    ) -> None:
        """`needed` are those whose results are arguments."""
        self.run = run
        self.key = key
        self.order = self.number = next(_numbers)
        self.value: Any = None
        self.error: BaseException | None = None
        self.culprit: PlainSubmission | None = None
        self.is_settled = self.is_looked_at = False
        self._before = (*needed, *after)
        self._required = self._before if when == "succeeded" else needed
        self._callbacks: list[Callable[[PlainSubmission], object]] = []
        self._task: asyncio.Task[None] | None = None
        run.submissions.append(self)

    def begin(self, call: Callable[[], Any], *, is_async: bool, limit: asyncio.Semaphore | None) -> None:
        """Execute the call, now or as an asyncio task."""
        loop = running_loop()
        if loop is None or (not is_async and all(each.is_settled for each in self._before)):
            drive(self._life(call))
        else:
            self._task = loop.create_task(self._limited(call, limit))

    async def _limited(self, call: Callable[[], Any], limit: asyncio.Semaphore | None) -> None:
        async with limit or contextlib.nullcontext():
            await drive_async(self._life(call))

    def _life(self, call: Callable[[], Any]) -> Generator[Effect, Any, None]:
        try:
            for each in self._before:
                if not each.is_settled:
                    yield PlainCall(each.settled)
            obstacle = next((each for each in self._required if each.error is not None), None)
            if obstacle is not None:
                self._skip(obstacle)
            else:
                self.value = yield PlainCall(call)
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self.number = next(_numbers)
            self.is_settled = True
            for callback in self._callbacks:
                callback(self)

    def _skip(self, obstacle: PlainSubmission) -> None:
        culprit = self.culprit = obstacle.culprit or obstacle
        self.error = UpstreamFailedError(
            f"Step {self.key!r} of run {self.run.id} was skipped: it depends on step {culprit.key!r}, which failed with "
            f"{type(culprit.error).__name__}: {culprit.error}",
            self.run.id,
            self.key,
            culprit.key,
        )
        self.error.__cause__ = culprit.error

    @property
    def state(self) -> str:
        """Say in a word how far it is."""
        if not self.is_settled:
            return "running"
        return "succeeded" if self.error is None else "skipped" if self.culprit is not None else "failed"

    def show(self) -> None:
        """Nothing is kept back."""

    def look(self) -> None:
        """Note that the user's code got the outcome, and with it the one of the culprit."""
        self.is_looked_at = True
        if self.culprit is not None:
            self.culprit.is_looked_at = True

    def call_when_settled(self, callback: Callable[[PlainSubmission], object]) -> None:
        """Call this when it is settled, at once if it is."""
        if self.is_settled:
            callback(self)
        else:
            self._callbacks.append(callback)

    def wait(self, _timeout: float | None = None) -> None:
        """Raise `WouldDeadlockError` unless it is settled: what is not is executed by the event loop of this thread."""
        if not self.is_settled:
            raise WouldDeadlockError(
                f"Step {self.key!r} of run {self.run.id} has not ended. In async code, await the future."
            )

    async def settled(self) -> None:
        """Wait until it is settled; cancelling the wait does not cancel it."""
        if self._task is not None:
            await asyncio.wait([self._task])


def plain_submission_of(future: TaskFuture[Any]) -> PlainSubmission:
    """Give what stands behind a future."""
    found: Any = future._submission  # noqa: SLF001 -- a future shows users nothing of it
    if not isinstance(found, PlainSubmission):
        raise ConfigurationError(
            f"{future!r} was submitted before DURABLE_DISABLE was set, and cannot be waited for now."
        )
    return found
