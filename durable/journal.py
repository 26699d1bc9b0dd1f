"""Group commit: records become durable in the order in which they were appended, many at a time.

Whoever needs durability first becomes the leader and writes everything appended so far in one transaction; the others
wait for it and find their records durable. A record leaves the journal only after the store has confirmed it, and
writing a record again changes nothing, so an interrupted leader loses and doubles nothing.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from durable.errors import StoreError, StoreFailedError
from durable.records import Batch, Received, Request, RunRecord, StepRecord
from durable.telling.notices import listed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from durable.stores.protocol import Store

logger = logging.getLogger(__name__)

_POLL = 0.002  # seconds between two looks of the background thread
_IDLE_LOOKS = 50  # after so many without work it sleeps until it is woken
_QUICK = 0.002  # a commit slower than this, whatever it holds, does not run in an event loop's thread
_RECORD = 0.00002  # seconds that each of its records adds
_LARGEST_GROUP = 5000
_REQUESTS_EVERY = 0.25  # seconds between two looks for requests from other processes, on average at most
_REQUESTS_AT_LEAST = 1.0  # seconds, where nothing shows that another process has written
_CHANGES_EVERY = 0.02  # seconds between two looks, without a query, whether one has, while somebody listens


class Fence:
    """What a run's writes depend on, and whom to tell when it no longer holds."""

    __slots__ = ("alone", "on_lost", "run_id", "stamp")

    def __init__(self, run_id: str, epoch: int, owner: str, on_lost: Callable[[], None]) -> None:
        self.run_id = run_id
        self.stamp = (epoch, owner)
        self.alone = {run_id: self.stamp}
        self.on_lost = on_lost


# ticket, fence, record, and whether it is a new run; a plain tuple, since every step makes two
_Entry = tuple[int, Fence, "StepRecord | RunRecord | Received", bool]
# ticket, and what to set in which loop when it is durable; as above
_Waiter = tuple[int, "asyncio.AbstractEventLoop", "asyncio.Future[None]"]


class Journal:
    """Collects records of all runs of this process and makes them durable in a store.

    `append` returns a ticket: the number of records appended so far. Once `durable` has reached it, the record is safe.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.durable = 0
        self.failure: StoreFailedError | None = None
        self.on_request: Callable[[Mapping[str, Request]], None] | None = None
        self._pending: list[_Entry] = []
        self._appended = 0
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._scheduled: set[int] = set()
        self._commit_seconds = 0.0
        self._wake = threading.Event()
        self._flusher: threading.Thread | None = None
        self._asleep = False
        self._closed = False
        self._asked = self._due = 0.0
        self._changes: object = None
        self._is_unsettled = False
        self.listeners: set[object] = set()

    @property
    def is_quick(self) -> bool:
        """Whether recent commits were short enough for an event loop's thread."""
        return self._commit_seconds < _QUICK

    def append(self, fence: Fence, record: StepRecord | RunRecord | Received, *, created: bool = False) -> int:
        """Add a record (a new run with `created`) and return its ticket; it is on its way to disk from now on."""
        with self._guard:
            self._appended = ticket = self._appended + 1
            self._pending.append((ticket, fence, record, created))
        if self._asleep or self._flusher is None:
            self._rouse()
        return ticket

    def flush(self, ticket: int) -> None:
        """Return when everything up to this ticket is durable; raises StoreFailedError if it cannot be."""
        while self.durable < ticket:
            with self._writing:
                if self.durable < ticket:
                    self._write(wait=True)

    def flush_all(self) -> None:
        """Return when everything appended so far is durable."""
        self.flush(self._appended)

    def try_flush(self, *, wait: bool = False) -> bool:
        """Write what is there if no other thread is writing, nor, without `wait`, another process; else False at once."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            return self._write(wait=wait)
        finally:
            self._writing.release()

    def durable_in(self, loop: asyncio.AbstractEventLoop, ticket: int) -> asyncio.Future[None]:
        """Give a future that is done when the ticket is durable; one flush per pass of the loop serves all waiters."""
        future = loop.create_future()
        with self._guard:
            self._waiters.append((ticket, loop, future))
        if self.durable >= ticket or self.failure is not None:
            self._tell_waiters()
        elif id(loop) not in self._scheduled:
            if self.is_quick:
                self._scheduled.add(id(loop))
                loop.call_soon(self._flush_for, loop)
            elif self._asleep or self._flusher is None:
                self._rouse()
        return future

    def _flush_for(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled.discard(id(loop))
        with contextlib.suppress(StoreError):  # the waiters are told
            if not self.try_flush():
                self._rouse()

    def _write(self, *, wait: bool) -> bool:
        if self.failure is not None:
            raise self.failure
        entries = self._pending[:_LARGEST_GROUP]
        if not entries:
            with self._guard:
                if not self._pending:
                    self.durable = self._appended
            return True
        begun = time.perf_counter()
        try:
            lost = self.store.write(_batch(entries), wait=wait)
        except StoreError as error:
            raise self._fail(error, entries) from error
        if lost is None:
            return False
        elapsed = time.perf_counter() - begun - len(entries) * _RECORD
        self._commit_seconds += (max(elapsed, 0.0) - self._commit_seconds) / 4
        if lost:  # told first: whoever finds its record durable goes on at once, in whichever thread
            for fence in {id(fence): fence for _, fence, _, _ in entries if fence.run_id in lost}.values():
                fence.on_lost()
        with self._guard:
            del self._pending[: len(entries)]
            self.durable = entries[-1][0]
        if self._waiters:
            self._tell_waiters()
        return True

    def give_up(self, error: StoreError) -> StoreFailedError:
        """Write nothing further until `reopen`, for the store failed in another hand; gives the error to raise."""
        with self._writing:
            return self.failure or self._fail(error, self._pending)

    def _fail(self, error: StoreError, entries: list[_Entry]) -> StoreFailedError:
        records = [record.step if isinstance(record, Received) else record for _, _, record, _ in entries]
        steps = [record for record in records if isinstance(record, StepRecord)]
        keys = [step.key for step in steps if step.done is not None]
        failure = StoreFailedError(
            f"{error} Nothing further is executed. Results not known to be recorded: {listed(keys) or 'none'}."
        )
        failure.__cause__ = error
        self.failure = failure
        logger.error("store failed", extra={"url": self.store.url, "unrecorded": keys})
        for fence in {id(fence): fence for _, fence, _, _ in entries}.values():
            fence.on_lost()
        self._tell_waiters()
        return failure

    def reopen(self, store: Store) -> None:
        """Go on with a store that was opened again after a failure: what was not recorded is written now."""
        with self._writing:
            self.store, self.failure = store, None
            while self._pending:
                self._write(wait=True)

    def disown(self) -> None:
        """In a forked child: the runs are the parent's, so nothing is written here, and nobody waits for it."""
        self._guard, self._writing, self._wake = threading.Lock(), threading.Lock(), threading.Event()
        self._pending, self._waiters = [], []
        self.durable = sys.maxsize
        self._closed = True

    def _tell_waiters(self) -> None:
        done: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        with self._guard:
            waiting, self._waiters = self._waiters, []
            for waiter in waiting:
                ticket, loop, future = waiter
                if ticket <= self.durable or self.failure is not None:
                    done.setdefault(loop, []).append(future)
                else:
                    self._waiters.append(waiter)
        for loop, futures in done.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle, futures, self.failure)

    def _rouse(self) -> None:
        with self._guard:
            if self._flusher is None and not self._closed:
                self._flusher = threading.Thread(target=self._flush_in_background, name="durable-journal", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter ends: whoever needs durability flushes
                    self._flusher.start()
        self._asleep = False
        self._wake.set()

    def _flush_in_background(self) -> None:
        seen, looks = -1, 0
        while not self._closed:
            time.sleep(_POLL)
            if self._has_work():
                looks = 0
                with contextlib.suppress(StoreError):  # whoever needs durability is told by `failure`
                    if self._waiters:
                        self.flush(self._appended)
                    elif seen == self.durable:
                        self.try_flush(wait=True)  # to queue up behind a thread that writes would make it slower
                seen = self.durable
                continue
            looks += 1
            self._look_for_requests()
            if looks > _IDLE_LOOKS:
                self._sleep_until_woken()
                looks = 0

    def _has_work(self) -> bool:
        return self.failure is None and self.durable < self._appended

    def _sleep_until_woken(self) -> None:
        """Wait for something to write, and look now and then for what others ask."""
        self._wake.clear()
        self._asleep = True
        while not (self._has_work() or self._wake.wait(_CHANGES_EVERY if self.listeners else _REQUESTS_EVERY)):
            self._look_for_requests()

    def _look_for_requests(self) -> None:
        """Ask the store if another process may have written: now and then twice in a row, but not more often in all."""
        now = time.monotonic()
        if self.on_request is None or now < self._due - _REQUESTS_EVERY:
            return
        try:
            changes = self.store.changes()
            pause = _REQUESTS_EVERY if self._is_unsettled else _REQUESTS_AT_LEAST
            if changes is not None and changes == self._changes and now - self._asked < pause:
                return
            # asked again after the last change: a file's time may be the same for two changes that follow each other
            self._is_unsettled = changes != self._changes
            self._changes, self._asked, self._due = changes, now, max(self._due, now) + _REQUESTS_EVERY
            requests = self.store.requests()
        except StoreError:
            logger.debug("requests could not be read", exc_info=True)
            return
        if requests:
            self.on_request(requests)

    def close(self) -> None:
        """Write what is left and stop the background thread."""
        try:
            if self.failure is None:
                self.flush_all()
        finally:
            self._closed = True
            self._wake.set()


def _settle(futures: list[asyncio.Future[None]], failure: StoreError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _batch(entries: list[_Entry]) -> Batch:
    if len(entries) <= 2:  # noqa: PLR2004 -- the result of a step and the intent of the next: the common case
        (_, fence, first, _), (_, other, last, _) = entries[0], entries[-1]
        if fence is other and isinstance(first, StepRecord) and isinstance(last, StepRecord):
            return Batch((), (first, last) if first.seq != last.seq else (last,), (), fence.alone)
    fence = entries[0][1]
    records = [record for _, other, record, _ in entries if other is fence and isinstance(record, StepRecord)]
    if len(records) == len(entries):  # steps of one run, of which the last record of each counts
        return Batch((), tuple({record.seq: record for record in records}.values()), (), fence.alone)
    steps: dict[tuple[str, int], StepRecord] = {}
    created: dict[str, RunRecord] = {}
    ended: dict[str, RunRecord] = {}
    fences: dict[str, tuple[int, str]] = {}
    received = []
    for _, fence, record, is_new in entries:
        fences[fence.run_id] = fence.stamp
        if isinstance(record, Received):
            steps[record.step.run_id, record.step.seq] = record.step
            received.append(record)
        elif isinstance(record, StepRecord):
            steps[record.run_id, record.seq] = record
        elif is_new:
            created[record.id] = record
        else:
            ended[record.id] = record
    return Batch(tuple(created.values()), tuple(steps.values()), tuple(ended.values()), fences, tuple(received))
