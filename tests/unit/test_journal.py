from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from durable.errors import StoreFailedError
from durable.journal import Fence, Journal
from durable.records import StepQuery
from durable.stores.memory import MemoryStore
from tests.unit.histories import RUN, make_run, make_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import Batch, RunRecord, StepRecord

THREADS, EACH = 8, 200


class WatchedStore(MemoryStore):
    """A memory store that keeps the batches it was given, can be held back, busy and broken."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.busy = False
        self.broken = False

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        self.entered.set()
        self.open.wait()
        if self.broken:
            raise StoreFailedError("disk full")
        if self.busy and not wait:
            return None
        self.batches.append(batch)
        return super().write(batch, wait=wait)

    @property
    def written(self) -> list[StepRecord]:
        return [step for batch in self.batches for step in batch.steps]

    @property
    def kept(self) -> list[StepRecord]:
        return list(self.steps(RUN, StepQuery(limit=100_000)))


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def journal(store: WatchedStore) -> Iterator[Journal]:
    journal = Journal(store)
    yield journal
    store.open.set()
    store.broken = False
    journal.close()


lost: list[str] = []


@pytest.fixture
def fence(store: WatchedStore, journal: Journal) -> Fence:
    lost.clear()
    fence = Fence(RUN, 1, store.owner, lambda: lost.append(RUN))
    journal.flush(journal.append(fence, make_run(store), created=True))
    store.batches.clear()
    store.entered.clear()
    return fence


def test_what_is_flushed_is_in_the_store(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """Once `flush` returns, everything up to the ticket is in the store."""
    tickets = [journal.append(fence, make_step(seq)) for seq in (1, 2, 3)]
    assert tickets == sorted(tickets)
    journal.flush(tickets[1])
    assert journal.durable >= tickets[1]
    assert [step.seq for step in store.kept][:2] == [1, 2]
    journal.flush_all()
    assert [step.seq for step in store.kept] == [1, 2, 3]


def test_what_nobody_waits_for_is_written_too(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """A record is on its way to the store once it is appended, also from a sleeping journal."""
    for seq in (1, 2):
        store.entered.clear()
        journal.append(fence, make_step(seq))
        assert store.entered.wait(60)
        journal.flush_all()
    assert [step.seq for step in store.kept] == [1, 2]


def test_records_of_all_threads_are_written_once_in_order(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """Whatever many threads append and flush is written exactly once, each thread's records in its order."""
    missing: list[int] = []

    def append(thread: int) -> None:
        for number in range(EACH):
            seq = 1 + thread * EACH + number
            journal.flush(journal.append(fence, make_step(seq)))
            if seq not in {step.seq for step in store.steps(RUN, StepQuery(after=seq - 1, limit=1))}:
                missing.append(seq)

    threads = [threading.Thread(target=append, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    counts = Counter(step.seq for step in store.written)
    assert counts == dict.fromkeys(range(1, 1 + THREADS * EACH), 1)
    for number in range(THREADS):
        mine = [step.seq for step in store.written if (step.seq - 1) // EACH == number]
        assert mine == sorted(mine)


def test_records_that_come_during_a_write_share_the_next(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """While one writes, the records of the others gather and become durable in one transaction."""
    store.open.clear()
    first = threading.Thread(target=journal.flush, args=(journal.append(fence, make_step(1)),))
    first.start()
    store.entered.wait()
    last = [journal.append(fence, make_step(seq)) for seq in range(2, 102)][-1]
    store.open.set()
    journal.flush(last)
    first.join()
    assert [len(batch.steps) for batch in store.batches] == [1, 100]


def test_of_two_versions_of_a_step_the_last_counts(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """An intent and its result that are written together become one row: the result."""
    store.open.clear()
    blocking = journal.append(fence, make_step(9))
    writer = threading.Thread(target=journal.flush, args=(blocking,))
    writer.start()
    store.entered.wait()
    for status in ("started", "succeeded"):
        for seq in (1, 2):
            ticket = journal.append(fence, make_step(seq, status=status))
    store.open.set()
    journal.flush(ticket)
    writer.join()
    assert [(step.seq, step.status) for step in store.kept] == [(1, "succeeded"), (2, "succeeded"), (9, "succeeded")]


def test_try_flush_does_not_wait(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """`try_flush` writes what is there, and gives False at once where another thread or process writes."""
    assert journal.try_flush()
    store.open.clear()
    ticket = journal.append(fence, make_step(1))
    store.entered.wait()  # the background thread writes
    assert not journal.try_flush()
    store.busy = True
    store.open.set()
    journal.flush(ticket)
    assert [step.seq for step in store.kept] == [1]


def test_a_store_that_another_process_holds_keeps_the_records_pending(store: WatchedStore) -> None:
    """What could not be written without waiting is written by the next flush."""
    journal = Journal(store)
    journal._flusher = threading.current_thread()  # nobody writes in the background
    fence = Fence(RUN, 1, store.owner, lambda: None)
    ticket = journal.append(fence, make_run(store), created=True)
    store.busy = True
    assert not journal.try_flush()
    assert journal.durable < ticket
    store.busy = False
    assert journal.try_flush()
    assert journal.durable == ticket


def test_a_failing_store_poisons(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """After a failed write every flush raises, names what is not recorded, and the runs are told; nothing is retried."""
    store.broken = True
    ticket = journal.append(fence, make_step(1, name="charge", done=2))
    with pytest.raises(StoreFailedError, match=r"disk full.*Results not known to be recorded: charge"):
        journal.flush(ticket)
    store.broken = False
    for again in (journal.flush_all, journal.try_flush, lambda: journal.flush(journal.append(fence, make_step(2)))):
        with pytest.raises(StoreFailedError, match="disk full"):
            again()
    assert journal.failure is not None
    assert (store.kept, lost) == ([], [RUN])


def test_a_store_that_was_opened_again_gets_what_was_not_recorded(
    store: WatchedStore, journal: Journal, fence: Fence
) -> None:
    """After `reopen` the records that failed and those appended since are written, in their order."""
    store.broken = True
    ticket = journal.append(fence, make_step(1))
    with pytest.raises(StoreFailedError):
        journal.flush(ticket)
    last = journal.append(fence, make_step(2))
    store.broken = False
    journal.reopen(store)
    assert journal.failure is None
    assert journal.durable >= last
    assert [step.seq for step in store.kept] == [1, 2]


def test_who_lost_a_run_is_told_before_anybody_goes_on(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """No thread finds its record durable, and begins a body, while the run that was lost is not told so."""
    durable_then: list[int] = []
    unaware = Fence(RUN, 1, store.owner, lambda: durable_then.append(journal.durable))
    store.claim(RUN, host="", pid=1, now=1.0)
    ticket = journal.append(unaware, make_step(1))
    journal.flush(ticket)
    assert journal.durable >= ticket
    assert [ticket > number for number in durable_then] == [True]


def test_who_lost_a_run_is_told(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """When another claim has shut a run out, its records are dropped, it is told, and other runs are written."""
    other = Fence("other", 1, store.owner, lambda: lost.append("other"))
    run: RunRecord = make_run(store, id="other")
    journal.flush(journal.append(other, run, created=True))
    store.claim(RUN, host="", pid=1, now=1.0)
    journal.append(fence, make_step(1))
    journal.append(other, make_step(1, run_id="other"))
    journal.flush_all()
    assert (store.kept, set(lost)) == ([], {RUN})
    assert [step.seq for step in store.steps("other", StepQuery())] == [1]


def test_closing_writes_the_rest(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """What was appended before `close` is in the store afterwards; closing twice does no harm."""
    journal.append(fence, make_step(1))
    journal.close()
    journal.close()
    assert [step.seq for step in store.kept] == [1]


async def test_waiters_of_a_loop_share_a_write(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """Futures are done once their records are durable; those of one pass of the loop share a transaction."""
    loop = asyncio.get_running_loop()
    futures = [journal.durable_in(loop, journal.append(fence, make_step(seq))) for seq in range(1, 51)]
    await asyncio.gather(*futures)
    assert [step.seq for step in store.kept] == list(range(1, 51))
    assert len(store.batches) < 10
    await journal.durable_in(loop, 1)


async def test_waiters_of_a_loop_are_told_of_a_failure(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """A failed write fails the futures that wait for it, and those that come later."""
    loop = asyncio.get_running_loop()
    store.broken = True
    for seq in (1, 2):
        with pytest.raises(StoreFailedError, match="disk full"):
            await journal.durable_in(loop, journal.append(fence, make_step(seq)))


async def test_a_waiter_that_was_cancelled_does_no_harm(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """A future that nobody waits for any more leaves the others and the records alone."""
    loop = asyncio.get_running_loop()
    given_up = journal.durable_in(loop, journal.append(fence, make_step(1)))
    given_up.cancel()
    await journal.durable_in(loop, journal.append(fence, make_step(2)))
    assert [step.seq for step in store.kept] == [1, 2]


async def test_a_slow_store_does_not_hold_the_loop(store: WatchedStore, journal: Journal, fence: Fence) -> None:
    """While another thread writes, the loop goes on and its waiters are served afterwards."""
    loop = asyncio.get_running_loop()
    store.open.clear()
    writer = threading.Thread(target=journal.flush, args=(journal.append(fence, make_step(1)),))
    writer.start()
    while not store.entered.is_set():
        await asyncio.sleep(0)
    waiting = journal.durable_in(loop, journal.append(fence, make_step(2)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    store.open.set()
    await waiting
    writer.join()
    assert [step.seq for step in store.kept] == [1, 2]
