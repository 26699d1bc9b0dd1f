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
    """Parked deliveries of one execution, ordered by their recorded completion."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._parked: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._passes = 0
        self._looks = 0
        self._awaited: int | None = None
        self._is_caught_up = False
        self._pumping = False

    @property
    def are_expected(self) -> bool:
        """Whether anything that is recorded has not arrived yet, be it that its call is to be made or that it is parked."""
        return bool(self._parked) or not self._execution.history.is_empty

    async def turn(self, done: int) -> None:
        """Wait until it is the turn of the completion with this number."""
        if not self._execution.tasks:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._parked, (done, next(self._order), future))
        self._pump()
        await future

    async def catch_up(self, done: int = sys.maxsize) -> None:
        """Let the recorded calls and completions go before a new one, a short while at most."""
        if self._parked or self._awaits(done):
            await self.turn(done)

    def _pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._passes = 0
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        while self._parked and self._parked[0][2].done():
            heapq.heappop(self._parked)
        if not self._parked:
            self._pumping = False
            return
        loop = asyncio.get_running_loop()
        if not self._at_rest(loop):
            self._passes += 1
            loop.call_soon(self._look)
        elif self._is_due():
            self._deliver()
            loop.call_soon(self._look)
        else:
            loop.call_later(_LOOK, self._look)

    def _at_rest(self, loop: asyncio.AbstractEventLoop) -> bool:
        if self._passes >= _PASSES:
            return True
        ready = getattr(loop, "_ready", None)
        return ready is not None and not ready

    def _is_due(self) -> bool:
        done = self._parked[0][0]
        if not self._awaits(done):
            return True
        self._looks += 1
        if self._looks <= _LOOKS:
            return False
        if done > self._execution.past.last_event:
            self._is_caught_up = True
        else:
            self._execution.history.stop_awaiting(done)
        return True

    def _awaits(self, done: int) -> bool:
        """Whether a call that was recorded before this completion has not been made yet."""
        if self._is_caught_up and done > self._execution.past.last_event:
            return False
        awaited = self._execution.history.first_unused()
        if awaited != self._awaited:
            self._awaited, self._looks = awaited, 0
        return awaited is not None and awaited < done

    def _deliver(self) -> None:
        _, _, future = heapq.heappop(self._parked)
        self._looks = 0
        self._passes = 0
        future.set_result(None)
