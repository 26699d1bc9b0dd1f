"""A line for people at a terminal about submitted tasks that take long; elsewhere nothing is shown or imported."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.submissions import Submission

_LONG = 1.0  # seconds after which a line is shown
_EVERY = 0.2  # seconds between two looks
_screen = threading.Lock()  # held by the line that is shown, or by a question
_asking = threading.Event()


class Progress:
    """Counts the submitted tasks of one execution and, at a terminal, shows how many are done and left."""

    def __init__(self, run_id: str) -> None:
        self.submitted = self.done = self.replayed = self.failed = 0
        self._run_id = run_id
        self._is_over = threading.Event()
        self._is_shown = _is_terminal()
        self._thread: threading.Thread | None = None

    def add(self, count: int) -> None:
        """Count tasks that were submitted."""
        self.submitted += count
        if self._is_shown and self._thread is None:
            self._thread = threading.Thread(target=self._show, name="durable-progress", daemon=True)
            self._thread.start()

    def count(self, submission: Submission) -> None:
        """Count one that is settled."""
        if submission.error is not None:
            self.failed += 1
        elif submission.was_executed:
            self.done += 1
        else:
            self.replayed += 1

    def close(self) -> None:
        """Show no more."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield "done", self.done
        yield "replayed", self.replayed
        yield "failed", self.failed
        yield "left", max(0, self.submitted - self.done - self.replayed - self.failed)

    def _show(self) -> None:
        if self._is_over.wait(_LONG):
            return
        from rich.console import Console  # noqa: PLC0415 -- slow to import, needed at a terminal only
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 -- as above
        from rich.progress import Progress as Line  # noqa: PLC0415 -- as above

        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        line = Line(*columns, console=Console(stderr=True), transient=True, redirect_stdout=_is_terminal(sys.stdout))
        shown = line.add_task(self._run_id, total=None)
        while not self._is_over.is_set():
            with _screen, line:
                while not self._is_over.wait(_EVERY) and not _asking.is_set():
                    self._update(line, shown)
            while _asking.is_set() and not self._is_over.wait(_EVERY):
                pass

    def _update(self, line: Any, shown: Any) -> None:
        counts = dict(self._counts())
        text = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what in ("done", "left"))
        completed = self.submitted - counts["left"]
        line.update(shown, description=f"{self._run_id}: {text}", total=self.submitted, completed=completed)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Show no line in the block, since a person is asked something."""
    _asking.set()
    try:
        with _screen:
            yield
    finally:
        _asking.clear()


def _is_terminal(stream: Any = None) -> bool:
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty()
