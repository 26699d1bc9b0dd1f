"""What can be waited for is one thing for sync and async code."""

from __future__ import annotations

import asyncio
from typing import Any


class Effect:
    """Something to wait for: `act` blocks, `act_async` is awaited; both give the same result."""

    __slots__ = ()

    def act(self) -> Any:
        raise NotImplementedError

    async def act_async(self) -> Any:
        raise NotImplementedError


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs in this thread, None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
