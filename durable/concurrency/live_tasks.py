"""The asyncio tasks of an execution are known while they live, without a callback for each, which costs a pass of the loop.

Those that have ended are forgotten when somebody asks, and before they become many times those that live.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.runs.execution import Body, Execution

_FEW = 8  # kept whether they live or not
_TIMES = 4  # as many tasks as lived at the last look make it look again


class LiveTasks(dict[asyncio.Task[Any], "Body"]):
    """Tasks, some of which may have ended, and the bodies that they were created in; empty where there were none."""

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self._execution = execution
        self._last: asyncio.Task[Any] | None = None  # to be added, of those that lived at the last look
        self._limit = _FEW

    def add(self, task: asyncio.Task[Any], body: Body) -> None:
        """Note that a task was created in a body."""
        if len(self) >= self._limit:
            self.forget_ended()
            self._limit = max(_FEW, _TIMES * len(self))
        self[task] = body
        self._last = task

    def are_there(self) -> bool:
        """Whether any lives."""
        if self._last is not None and self._last.done():
            self.forget_ended()
        return bool(self)

    def below(self, body: Body) -> list[asyncio.Task[Any]]:
        """List those that were created in a body or below it."""
        self.forget_ended()
        return [task for task, owner in list(self.items()) if owner.is_below(body)]

    def forget_ended(self) -> None:
        """Keep only those that live; what stopped the execution is told by its end, not once for each task."""
        for task in [task for task in list(self) if task.done()]:
            self.pop(task, None)
            if self._execution.stopped is not None and not task.cancelled():
                task.exception()
        self._last = next(reversed(list(self)), None)
