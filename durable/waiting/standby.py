"""What holds an execution up besides its steps: time, messages, a pause. Whoever waits is woken at once, and by a stop.

What a run is held up by is its status in the store: `paused`, `waiting` while any of its branches waits, else `running`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from durable.records import RunStatus
from durable.steps.awaitables import Effect, running_loop, wake
from durable.telling.notices import tell_loop_stopped
from durable.waiting.deadlines import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from durable.records import Message
    from durable.runs.execution import Execution

_SLICE = 1.0  # seconds after which the clock is read again: it may have been set, or the machine have slept


class Bell(Effect):
    """Somebody rings, in whichever thread, or some seconds pass."""

    __slots__ = ("_rung", "_seconds", "_wake")

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._wake: Callable[[], object] | None = None
        self._seconds = _SLICE

    def within(self, seconds: float | None) -> Bell:
        """Wait no longer than so many seconds the next time, and never so long that nobody looks at the clock."""
        self._seconds = _SLICE if seconds is None else min(max(seconds, 0.0), _SLICE)
        return self

    def ring(self) -> None:
        self._rung.set()
        ring = self._wake
        if ring is not None:
            ring()

    def act(self) -> None:
        self._rung.wait(self._seconds)
        self._rung.clear()

    async def act_async(self) -> None:
        rung = asyncio.Event()
        self._wake = partial(wake, asyncio.get_running_loop(), rung.set)
        try:
            if not self._rung.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await rung.wait()
        finally:
            self._wake = None
        self._rung.clear()


class _Gate(Bell):
    """The end of a pause. Who waits for it in the thread of an event loop stops the loop, and is told so."""

    __slots__ = ("_run_id",)

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def act(self) -> None:
        if self._run_id and running_loop() is not None:
            tell_loop_stopped(self._run_id)
            self._run_id = ""
        super().act()


class Standby:
    """Everybody who waits in one execution, and what they wait for; `mail` is the newest message known to wait."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._guard = threading.Lock()
        self._bells: list[Bell] = []
        self._waits = 0
        self._shown = RunStatus.RUNNING
        self._taken: dict[str, int] = {}
        self.is_paused = False
        self.mail = 0

    def set_paused(self, is_paused: bool) -> None:
        """Let no step begin from now on, or let steps begin again."""
        self.is_paused = is_paused
        self._show()
        self.ring()

    def notice(self, mail: int) -> None:
        """Note the number of the newest message that waits in the store; 0: nothing is known."""
        if mail not in (0, self.mail):
            self.mail = mail
            self.ring()

    def take(self, name: str) -> Message | None:
        """Take the oldest message of a name; nobody else in this execution gets the same one."""
        with self._execution.lock:
            store, run_id = self._execution.journal.store, self._execution.id
            message = store.next_message(run_id, name, after=self._taken.get(name, 0))
            if message is not None:
                self._taken[name] = message.number
            return message

    def ring(self) -> None:
        """Wake everybody who waits."""
        for bell in list(self._bells):
            bell.ring()

    @contextlib.contextmanager
    def listening(self, bell: Bell | None = None) -> Iterator[Bell]:
        """Give a bell that is rung while the block lasts."""
        bell = bell or Bell()
        listeners = self._execution.journal.listeners
        self._bells.append(bell)
        listeners.add(bell)
        try:
            yield bell
        finally:
            self._bells.remove(bell)
            listeners.discard(bell)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Bell]:
        """Do what `listening` does, and show the run as waiting meanwhile."""
        with self.listening() as bell:
            self._count(1)
            try:
                yield bell
            finally:
                self._count(-1)

    def admission(self) -> Generator[Effect, object, None]:
        """Wait until the run is not paused any more."""
        with self.listening(_Gate(self._execution.id)) as bell:
            while self.is_paused:
                yield bell.within(None)
                self._execution.check()

    def time(self, until: float) -> Generator[Effect, object, None]:
        """Wait until a time, in seconds since 1970; see `Deadline`."""
        deadline = Deadline(until, self._execution.clock)
        with self.listening() as bell:
            while (left := deadline.left()) > 0:
                yield bell.within(left)
                self._execution.check()

    def end(self) -> None:
        """Show nothing from now on: the end of the execution is about to be recorded."""
        with self._guard:
            self._execution.ended = True

    def _count(self, waits: int) -> None:
        with self._guard:
            self._waits += waits
        self._show()

    def _show(self) -> None:
        execution = self._execution
        with self._guard:
            status = RunStatus.PAUSED if self.is_paused else RunStatus.WAITING if self._waits else RunStatus.RUNNING
            if status is not self._shown and not execution.ended and execution.stopped is None:
                self._shown = status
                execution.journal.append(
                    execution.fence, replace(execution.run, status=status, updated_at=execution.clock())
                )
