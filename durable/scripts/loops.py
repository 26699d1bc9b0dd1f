"""An event loop that a program starts by itself is the run's: its tasks are branches, and it ends when the run is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.runs.execution import FRAME
from durable.runs.stopping import ended_when_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


@contextlib.contextmanager
def scoped_loops() -> Iterator[None]:
    """Let what the program hands to `asyncio.run`, a Runner or `run_until_complete` run as a part of the run."""
    started = ((asyncio.Runner, "run"), (asyncio.BaseEventLoop, "run_until_complete"))
    before = [getattr(owner, name) for owner, name in started]
    for (owner, name), plain in zip(started, before, strict=True):
        setattr(owner, name, _scoping(plain))
    try:
        yield
    finally:
        for (owner, name), plain in zip(started, before, strict=True):
            setattr(owner, name, plain)


def _scoping(plain: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any, main: Any, **options: Any) -> Any:
        frame = FRAME.get()
        if frame is not None and asyncio.iscoroutine(main) and not frame.body.execution.ended:
            scoped: Any = _scoped(main)
            scoped.__qualname__ = getattr(main, "__qualname__", "main")
            main = scoped
        return plain(self, main, **options)

    return start


async def _scoped(main: Coroutine[Any, Any, Any]) -> Any:
    frame = FRAME.get()
    assert frame is not None
    with scoped_tasks(), ended_when_stopped(frame.body.execution):
        return await main
