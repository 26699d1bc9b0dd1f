"""A line for people at a terminal about runs that take long; elsewhere nothing is watched, shown or imported.

It is made of what executions know anyway, by a thread that looks from time to time: no step waits for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.runs.execution import Execution
    from durable.telling.status_line import StatusLine

_LONG = 2.0  # seconds after which a run is shown
_EVERY = 0.2  # seconds between two looks
_MOST = 100  # characters of a run's id


class Counts:
    """The submitted tasks of one execution."""

    def __init__(self) -> None:
        self.submitted = self.settled = self.skipped = 0


def watch(execution: Execution) -> None:
    """Show from now on how far an execution has got, if people see it and it takes long."""
    stream = sys.stderr
    if stream is not None and not stream.closed and stream.isatty():
        _watch.add(execution)


def forget(execution: Execution) -> None:
    """Show no more of an execution; the terminal is as if nothing had been shown."""
    if _watch.executions:
        _watch.remove(execution)


class _Watch:
    """The executions of this process that people may see, with the times when they began, and the thread that looks."""

    def __init__(self) -> None:
        self.executions: dict[Execution, float] = {}
        self.question = threading.Lock()  # held while people are asked something
        self.line: StatusLine | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, execution: Execution) -> None:
        from durable.telling.status_line import StatusLine, can_show  # noqa: PLC0415 -- needed at a terminal only

        with self._changed:
            if self.line is None and can_show():
                self.line = StatusLine()
                self.line.begin()
            if self.line is not None:
                self.executions[execution] = time.monotonic()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look, name="durable-progress", daemon=True)
                    self._thread.start()

    def remove(self, execution: Execution) -> None:
        with self._changed:
            self.executions.pop(execution, None)
            if self.line is not None and not self.executions:
                self.line.end()
                self.line = None

    def end(self) -> None:
        for execution in list(self.executions):
            self.remove(execution)

    def _look(self) -> None:
        """Draw the line as long as there is an execution that takes long; end when there has been none for a while."""
        drawing: _Drawing | None = None
        idle = 0.0
        while idle < _LONG:
            time.sleep(_EVERY)
            with self._changed:
                idle = 0.0 if self.executions else idle + _EVERY
                oldest = next(iter(self.executions.items()), None)
                if oldest is None or self.line is None or time.monotonic() - oldest[1] < _LONG:
                    continue
                drawing = drawing or _Drawing()
                self.line.draw(drawing.text(*oldest, more=len(self.executions) - 1))
        with self._changed:
            self._thread = None
            if self.executions:  # one was added meanwhile
                self._thread = threading.Thread(target=self._look, name="durable-progress", daemon=True)
                self._thread.start()


class _Drawing:
    """Writes the line with rich."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 -- slow to import, needed at a terminal only
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 -- as above

        self._console = Console(stderr=True)
        text = TextColumn("{task.description}", markup=False)
        self._known = Progress(text, BarColumn(), TimeElapsedColumn(), console=self._console, auto_refresh=False)
        self._unknown = Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=self._console, auto_refresh=False)
        self._shown = {line: line.add_task("", total=None) for line in (self._known, self._unknown)}

    def text(self, execution: Execution, begun: float, *, more: int) -> str:
        """Give the line, as wide as the terminal at most."""
        counts = execution.flow.counts if execution.flow is not None else Counts()
        line = self._known if counts.submitted else self._unknown
        shown = next(task for task in line.tasks if task.id == self._shown[line])
        shown.start_time = begun
        words = [f"{count} {what}" for what, count in _counted(execution, counts) if count or what == "done"]
        others = f" (and {more} more runs)" if more else ""
        name = execution.id if len(execution.id) <= _MOST else f"{execution.id[: _MOST - 1]}…"
        line.update(
            shown.id,
            description=f"{name}: {', '.join(words)}{others}",
            total=counts.submitted or None,
            completed=counts.settled,
        )
        width = max(1, self._console.width - 1)
        with self._console.capture() as captured:
            self._console.print(line.get_renderable(), width=width, height=1, no_wrap=True, overflow="ellipsis", end="")
        return captured.get().partition("\n")[0]


def _counted(execution: Execution, counts: Counts) -> Iterator[tuple[str, int]]:
    yield "done", max(0, execution.executed - execution.unsuccessful - len(execution.in_flight))
    yield "replayed", max(0, execution.history.used - execution.renewed)
    yield "failed", execution.failed
    yield "skipped", counts.skipped
    yield "left", counts.submitted - counts.settled


_watch = _Watch()
atexit.register(_watch.end)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Show no line in the block, since a person is asked something; one question at a time."""
    with _watch.question:
        line = _watch.line
        with line.held() if line is not None else contextlib.nullcontext():
            yield


def _forget_all() -> None:
    """In a forked child: the thread that looks is not there, and the terminal belongs to the parent's line."""
    global _watch  # noqa: PLW0603 -- its locks may be held by threads of the parent
    _watch = _Watch()
    status_line = sys.modules.get("durable.telling.status_line")
    if status_line is not None:
        status_line.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
