"""How far a running cell has got, shown below it once that takes a while; outside a kernel nothing is shown."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from IPython.display import display

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

    from durable.notebooks.kernels import Kernel
    from durable.notebooks.open_runs import Observation

_LONG = 1.0  # seconds after which progress is shown
_EVERY = 0.3  # seconds between two looks
_SHOWN = 3  # calls that are named


class CellProgress:
    """Counts the calls of one cell."""

    def __init__(self, kernel: Kernel, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._guard = threading.Lock()
        self._cell: _Cell | None = None
        kernel.observe = self._observe

    def begin(self) -> None:
        """Note that a cell begins."""
        self.end()
        self._cell = _Cell()

    def end(self) -> None:
        """Note that the cell has ended."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.close()

    def _observe(self, observation: Observation) -> None:
        cell = self._cell
        if cell is not None and self._is_shown:
            with self._guard:
                cell.count(observation)


class _Cell:
    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._executed = self._ended = 0
        self._running: dict[str, None] = {}
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._handle: DisplayHandle | None = None
        self._shown = ""

    def count(self, observation: Observation) -> None:
        match observation.kind:
            case "called":
                self._running[observation.key] = None
                if self._thread is None:
                    self._thread = threading.Thread(target=self._show, name="durable-progress", daemon=True)
                    self._thread.start()
            case "executed":
                self._executed += 1
            case _:
                self._running.pop(observation.key, None)
                self._ended += 1

    def close(self) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self) -> None:
        if self._is_over.wait(_LONG):
            return
        self._handle = display(self, display_id=True)
        while not self._is_over.wait(_EVERY):
            self._update()
        self._update()

    def _update(self) -> None:
        text = repr(self)
        if self._handle is not None and text != self._shown:
            self._shown = text
            self._handle.update(self)

    def __repr__(self) -> str:
        running = list(self._running)
        replayed = max(0, self._ended - self._executed)
        named = f" ({', '.join(running[:_SHOWN])}{', …' * (len(running) > _SHOWN)})" if running else ""
        seconds = time.monotonic() - self._begun
        return f"durable: {self._executed} done, {replayed} replayed, {len(running)} left{named}, {seconds:.0f} s"
