"""What the benchmark measures: each measure runs in a process of its own and prints its figures as one line of JSON.

Clocks run inside the measured code, so that neither the start of the interpreter nor the opening of a store counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sqlite3
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable import configure, task, workflow
from durable.records import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable.stores.protocol import Store

_BLOCK = 40  # steps between two changes from floor to subject
_SETTLING = 0.02  # seconds after which nothing is left to be written in the background
_MERGED = 4000  # records that the recording of a long run puts in one transaction

measured: dict[str, float] = {}


class ExpectedError(Exception):
    """Ends a run as failed, so that the next call resumes it."""


@task
def step(number: int) -> int:
    return number


@task(idempotent=False)
def risky_step(number: int) -> int:
    return number


@task
async def async_step(number: int) -> int:
    return number


@task
def failing_step() -> None:
    raise ExpectedError


async def plain_step(number: int) -> int:
    return number


def plain_function(number: int) -> int:
    return number


def _since(begun: float) -> float:
    return time.perf_counter() - begun


class Floor:
    """One insert and commit a step, as bare as `sqlite3` can with WAL and a flush a commit, on a fresh file."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE steps (seq INTEGER PRIMARY KEY, value BLOB)")
        self._database.execute("INSERT INTO steps VALUES (?, ?)", (-1, b"value"))

    def insert(self, numbers: range) -> None:
        for number in numbers:
            self._database.execute("INSERT INTO steps VALUES (?, ?)", (number, b"value"))


@dataclass
class Alternation:
    """Blocks of bare inserts before and after every block of steps: a disk that is slow for a while slows both."""

    folder: Path
    count: int
    floor_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    def blocks(self) -> Iterator[range]:
        """Give the numbers of the next block of steps, with the bare inserts done."""
        floor = Floor(self.folder)
        for start in range(0, self.count, _BLOCK):
            numbers = range(start, start + _BLOCK)
            self._insert(floor, numbers)
            begun = time.perf_counter()
            yield numbers
            self.step_seconds.append(_since(begun))
            time.sleep(_SETTLING)  # the last result is written in the background, not beside the next inserts
        self._insert(floor, range(self.count, self.count + _BLOCK))

    def _insert(self, floor: Floor, numbers: range) -> None:
        begun = time.perf_counter()
        floor.insert(numbers)
        self.floor_seconds.append(_since(begun))

    def report(self) -> None:
        """Give medians over the blocks, in seconds a step."""
        around = [(before + after) / 2 for before, after in itertools.pairwise(self.floor_seconds)]
        pairs = list(zip(self.step_seconds, around, strict=True))
        measured["floor"] = statistics.median(self.floor_seconds) / _BLOCK
        measured["ratio"] = statistics.median(steps / floor for steps, floor in pairs)
        measured["over"] = statistics.median(steps - floor for steps, floor in pairs) / _BLOCK


alternation: Alternation


@workflow
def sequential() -> None:
    step(-1)
    for block in alternation.blocks():
        for number in block:
            step(number)


@workflow
def sequential_risky() -> None:
    risky_step(-1)
    for block in alternation.blocks():
        for number in block:
            risky_step(number)


@workflow
async def sequential_async() -> None:
    await async_step(-1)
    for block in alternation.blocks():
        for number in block:
            await async_step(number)


def alternate(call: Callable[[], object], folder: Path, count: int) -> None:
    """Measure a workflow that executes the blocks of an alternation."""
    global alternation
    alternation = Alternation(folder, count)
    call()
    alternation.report()


@workflow
async def gathered(count: int) -> None:
    await async_step(-1)
    begun = time.perf_counter()
    await asyncio.gather(*[async_step(number) for number in range(count)])
    measured["seconds"] = _since(begun)


@workflow(max_workers=8)
def mapped(count: int) -> None:
    step(-1)
    begun = time.perf_counter()
    for _ in step.map(range(count), concurrency=8):
        pass
    measured["seconds"] = _since(begun)


@workflow
def failing(count: int) -> None:
    begun = time.perf_counter()
    for number in range(count):
        step(number)
    measured["seconds"] = _since(begun)
    failing_step()


@workflow
async def failing_async(count: int) -> None:
    begun = time.perf_counter()
    for number in range(count):
        await async_step(number)
    measured["seconds"] = _since(begun)
    failing_step()


@workflow
async def failing_gathered(count: int) -> None:
    begun = time.perf_counter()
    await asyncio.gather(*[async_step(number) for number in range(count)])
    measured["seconds"] = _since(begun)
    failing_step()


def select(folder: Path, count: int) -> None:
    """Read the rows of a recorded run in pages of 1,000, as bare as `sqlite3` can."""
    database = sqlite3.connect(folder / "runs.db", isolation_level=None)
    last, found = 0, 0
    begun = time.perf_counter()
    while rows := database.execute(
        "SELECT id, container, branch, content, occurrence, status, value FROM steps WHERE id > ? ORDER BY id LIMIT 1000",
        (last,),
    ).fetchall():
        last, found = rows[-1][0], found + len(rows)
    measured["seconds"] = _since(begun)
    assert found >= count, f"{found} rows instead of {count}"


def gather_beside_plain(_: Path, count: int) -> None:
    """Gather plain coroutines, then steps."""

    async def plain() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*[plain_step(number) for number in range(count)])
        return _since(begun)

    measured["plain_seconds"] = asyncio.run(plain())
    asyncio.run(gathered(count))


def map_beside_plain(_: Path, count: int) -> None:
    """Map a plain function over a pool of 8 threads, then a task."""
    with ThreadPoolExecutor(8) as pool:
        begun = time.perf_counter()
        for number in pool.map(plain_function, range(count)):
            assert number >= 0
        measured["plain_seconds"] = _since(begun)
    mapped(count)


class MergingStore:
    """A store that makes many batches durable in one transaction: the engine's own rows without a flush for each.

    Only for the recording of long runs: what is acknowledged here is not durable yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._steps: dict[tuple[str, int], Any] = {}
        self._fences: dict[str, tuple[int, str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        self._steps.update({(record.run_id, record.seq): record for record in batch.steps})
        self._fences.update(batch.fences)
        if not batch.created and not batch.ended and len(self._steps) < _MERGED:
            return frozenset()
        merged = Batch(batch.created, tuple(self._steps.values()), batch.ended, self._fences)
        self._steps, self._fences = {}, {}
        return self._store.write(merged)


def record(folder: Path, count: int) -> None:
    """Record a run that fails after `count` steps; flushed once in thousands of steps."""
    from durable.stores import open_store  # noqa: PLC0415 -- slow to import; no other measure needs it by name

    configure(MergingStore(open_store(f"sqlite:///{folder / 'runs.db'}")))
    _call_failing(lambda: failing(count))


def _call_failing(call: Callable[[], object]) -> None:
    try:
        call()
    except ExpectedError:
        return
    raise AssertionError("the run did not fail")


def _peak_memory() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, it knows nothing of the process that this one was started from
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resume(count: int) -> None:
    _call_failing(lambda: failing(count))
    measured["peak_bytes"] = _peak_memory()


MEASURES: dict[str, Callable[[Path, int], object]] = {
    "select": select,
    "sync": partial(alternate, sequential),
    "sync, idempotent=False": partial(alternate, sequential_risky),
    "async": partial(alternate, lambda: asyncio.run(sequential_async())),
    "gather": gather_beside_plain,
    "map": map_beside_plain,
    "record": record,
    "replay": lambda _, count: _resume(count),
    "replay async": lambda _, count: _call_failing(lambda: asyncio.run(failing_async(count))),
    "replay gather": lambda _, count: _call_failing(lambda: asyncio.run(failing_gathered(count))),
}


def main() -> None:
    """Take the name of a measure, a folder and a number of steps from the command line."""
    name, folder, count = sys.argv[1:]
    MEASURES[name](Path(folder), int(count))
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main()
