"""An event loop on which a program takes the same course on any machine, however busy it is.

Time passes only when nothing is left to do, and what was recorded in a pass of the loop is on disk before the next one.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import TYPE_CHECKING

from durable.runs import sessions

if TYPE_CHECKING:
    from collections.abc import Sequence


class SteadyLoop(asyncio.SelectorEventLoop):
    """A loop with a time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    @property
    def is_busy(self) -> bool:
        return bool(self._ready)  # type: ignore[attr-defined]  # asyncio tells nobody


class _Selector(selectors.DefaultSelector):
    """Writes what was recorded in this thread, and lets time pass instead of waiting for it."""

    def __init__(self, loop: SteadyLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Sequence[tuple[selectors.SelectorKey, int]]:  # type: ignore[override]  # a list
        journal = sessions.current().journal
        journal.flush_all()
        journal._flusher = threading.main_thread()  # nothing is written in the background
        journal._commit_seconds = 0.0
        if timeout and not self._loop.is_busy:
            self._loop.now += timeout
        return super().select(0 if timeout is not None or self._loop.is_busy else None)
