from __future__ import annotations

import asyncio

import pytest

from durable.steps.effects import uninterrupted


@pytest.mark.parametrize("passes", range(4))
async def test_a_cancellation_is_not_lost(passes: int) -> None:
    """Cancelled k passes of the loop after the awaited thing is done, but not returned from: the cancellation goes on."""
    awaited = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(uninterrupted(awaited))
    await asyncio.sleep(0)
    awaited.set_result("done")
    for _ in range(passes):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        assert await waiting == "done"


async def test_a_cancellation_waits() -> None:
    """Cancelled before the awaited thing is done: the wait goes on to its end, then the cancellation."""
    awaited = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(uninterrupted(awaited))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    awaited.set_result("done")
    with pytest.raises(asyncio.CancelledError):
        await waiting
