"""An event loop that code of a run starts by itself is the run's: its tasks are branches, and it ends when the run is stopped.

`asyncio.run`, a Runner and `run_until_complete` look whether a run is here; where there is none they do what they did.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.runs.execution import FRAME, Frame, leave
from durable.runs.stopping import ended_when_stopped
from durable.steps.awaitables import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable.runs.execution import Body

_run = asyncio.Runner.run
_bodies: dict[asyncio.AbstractEventLoop, Body] = {}  # whose code started the loop that runs
_is_watching = False


def run_in_loop(main: Coroutine[Any, Any, Any]) -> Any:
    """Do what `asyncio.run` does, in a loop whose tasks are branches."""
    with asyncio.Runner() as runner:
        return _run(runner, _branching(main))


async def _branching(main: Coroutine[Any, Any, Any]) -> Any:
    with scoped_tasks():
        return await main


def watch_loops() -> None:
    """From now on, let what the code of a run hands to a loop of its own run as a part of the run."""
    global _is_watching  # noqa: PLW0603 -- asyncio is one for the whole process
    if not _is_watching:
        _is_watching = True
        for owner, name in ((asyncio.Runner, "run"), (asyncio.BaseEventLoop, "run_until_complete")):
            setattr(owner, name, _watching(getattr(owner, name)))


def runs_loop_of(body: Body) -> bool:
    """Whether the event loop that runs in this thread was started by the code of this body."""
    loop = running_loop()
    return loop is not None and _bodies.get(loop) is body


def _watching(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def start(self: Any, main: Any, **options: Any) -> Any:
        frame = FRAME.get()
        if frame is not None and asyncio.iscoroutine(main) and not frame.body.execution.ended:
            scoped: Any = _scoped(main, frame)
            scoped.__qualname__ = getattr(main, "__qualname__", "main")
            main = scoped
        return plain(self, main, **options)

    return start


async def _scoped(main: Coroutine[Any, Any, Any], frame: Frame) -> Any:
    body, execution = frame.body, frame.body.execution
    loop = asyncio.get_running_loop()
    token = FRAME.set(frame)  # the loop may be older than the run
    _bodies[loop] = body
    try:
        if body is not execution.body or execution.root_task is not None:
            return await _branching(main)
        try:
            with ended_when_stopped(execution):
                return await _branching(main)
        finally:
            execution.root_task = None
    finally:
        _bodies.pop(loop, None)
        leave(token)
