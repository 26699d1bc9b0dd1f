"""An execution that was stopped ends, even where its workflow waits for a branch that the stop has ended.

A consumer that was stopped leaves its producer waiting at the queue for ever. So the workflow is cancelled once no step
is in flight any more; a step in flight is given some time to end by itself, as cancelling it may leave it in doubt. Where
somebody asked for the end, or its time is over, whatever the workflow awaits is cancelled at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.runs.execution import Execution

_LOOK = 0.1  # seconds between two looks at a stopped execution
_GRACE = 30.0  # seconds that a step in flight is given


class _Stopping:
    """Cancels the task of a workflow, again and again, after its execution was stopped."""

    def __init__(self, execution: Execution, task: asyncio.Task[object]) -> None:
        self._execution = execution
        self._task = task
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = 0
        self._is_over = False

    def begin(self) -> None:
        """Take note, in any thread, that the execution was stopped."""
        with contextlib.suppress(RuntimeError):  # the loop was closed, and everything in it has ended
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._execution.is_cancelled and not self._is_over:
            self._cancel()
        self._look_later(self._loop.time() + _GRACE)

    def _cancel(self) -> None:
        self._cancelled += 1
        self._task.cancel()

    def _look_later(self, deadline: float) -> None:
        if not self._is_over:
            self._timer = self._loop.call_later(_LOOK, self._look, deadline)

    def _look(self, deadline: float) -> None:
        if not self._execution.in_flight or self._loop.time() > deadline:
            self._cancel()
        self._look_later(deadline)

    def end(self) -> None:
        """Leave the task as if nothing had been cancelled here."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._cancelled):
            self._task.uncancel()


@contextlib.contextmanager
def ended_when_stopped(execution: Execution) -> Iterator[None]:
    """Cancel what the running task awaits in the block once the execution is stopped."""
    task = asyncio.current_task()
    assert task is not None
    stopping = _Stopping(execution, task)
    execution.root_task = task
    execution.on_stop = stopping.begin
    try:
        yield
    finally:
        execution.on_stop = None
        stopping.end()


@contextlib.contextmanager
def limited(execution: Execution, timeout: float | None) -> Iterator[None]:
    """Stop the execution if the block takes longer than so many seconds; None: however long."""
    if timeout is None:
        yield
        return
    timer = threading.Timer(timeout, execution.time_out, (timeout,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def was_cancelled() -> bool:
    """Whether somebody cancelled the asyncio task; a body may also raise CancelledError by itself."""
    current = asyncio.current_task()
    return current is None or current.cancelling() > 0
