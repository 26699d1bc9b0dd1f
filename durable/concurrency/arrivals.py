"""Replayed async results arrive in the order in which they were recorded, so far as that is cheap and cannot hang.

Code may act on what finishes first. A recorded completion is delivered when the calls recorded before it were made
and the code that earlier deliveries woke has come to rest; a new one after everything recorded. A stall is broken after
a short while. Correctness does not rest on this: calls are matched by what they say, wherever and whenever they are made.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.runs.execution import Execution

_LOOK = 0.002  # seconds between two looks at a delivery that waits for calls recorded before it
_LOOKS = 25  # until it waits no longer; counted, since a process that gets no time cannot make calls either
_PASSES = 32  # passes of the loop after which code that keeps it busy is taken to have come to rest


class Arrivals:
    """Deliveries of one execution, in each event loop by themselves: bodies in threads bring loops of their own."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}
        self._is_caught_up = False

    @property
    def are_expected(self) -> bool:
        """Whether anything that is recorded has not arrived yet, be it that its call is to be made or that it is parked."""
        is_parked = any(queue.parked for queue in list(self._queues.values()))
        return is_parked or not self._execution.history.is_empty

    async def turn(self, done: int) -> None:
        """Wait until it is the turn of the completion with this number."""
        tasks = self._execution.tasks
        if not tasks or not tasks.are_there():
            return
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self, loop)
        await queue.park(done)

    async def catch_up(self, done: int = sys.maxsize) -> None:
        """Let the recorded calls and completions go before a new one, a short while at most."""
        queue = self._queues.get(asyncio.get_running_loop())
        if (queue is not None and queue.parked) or self.awaited(done) is not None:
            await self.turn(done)

    def awaited(self, done: int) -> int | None:
        """Give the oldest call that was recorded before this completion and has not been made yet, None if there is none."""
        if self._is_caught_up and done > self._execution.past.last_event:
            return None
        with self._execution.lock:
            awaited = self._execution.history.first_unused()
        return awaited if awaited is not None and awaited < done else None

    def stop_awaiting(self, done: int) -> None:
        """Wait no longer for calls that were recorded before this completion."""
        if done > self._execution.past.last_event:
            self._is_caught_up = True
        else:
            with self._execution.lock:
                self._execution.history.stop_awaiting(done)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that nothing is parked in a loop any more."""
        del self._queues[loop]


class _Queue:
    """Deliveries that are `parked` in one loop, ordered by their recorded completion."""

    def __init__(self, arrivals: Arrivals, loop: asyncio.AbstractEventLoop) -> None:
        self._arrivals = arrivals
        self._loop = loop
        self.parked: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._passes = 0
        self._looks = 0
        self._awaited: int | None = None
        loop.call_soon(self._look)

    def park(self, done: int) -> asyncio.Future[None]:
        """Give a future that is set when it is the turn of the completion with this number."""
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self.parked, (done, next(self._order), future))
        return future

    def _look(self) -> None:
        while self.parked and self.parked[0][2].done():
            heapq.heappop(self.parked)
        if not self.parked:
            self._arrivals.forget(self._loop)
        elif not self._at_rest():
            self._passes += 1
            self._loop.call_soon(self._look)
        elif self._is_due():
            self._deliver()
            self._loop.call_soon(self._look)
        else:
            self._loop.call_later(_LOOK, self._look)

    def _at_rest(self) -> bool:
        if self._passes >= _PASSES:
            return True
        ready = getattr(self._loop, "_ready", None)
        return ready is not None and not ready

    def _is_due(self) -> bool:
        done = self.parked[0][0]
        awaited = self._arrivals.awaited(done)
        if awaited is None:
            return True
        if awaited != self._awaited:
            self._awaited, self._looks = awaited, 0
        self._looks += 1
        if self._looks <= _LOOKS:
            return False
        self._arrivals.stop_awaiting(done)
        return True

    def _deliver(self) -> None:
        _, _, future = heapq.heappop(self.parked)
        self._looks = 0
        self._passes = 0
        future.set_result(None)
