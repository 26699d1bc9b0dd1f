"""What can be waited for is one thing for sync and async code."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Effect:
    """Something to wait for: `act` blocks, `act_async` is awaited; both give the same result."""

    __slots__ = ()

    def act(self) -> Any:
        raise NotImplementedError

    async def act_async(self) -> Any:
        raise NotImplementedError


def wake(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Have something called in an event loop, from whichever thread; in a loop that was closed nobody waits any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs in this thread, None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
