"""A SQLite store loses nothing over large values, failed writes and closing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import CorruptRecordError, StoreFailedError
from durable.records import Batch, RunFilter, StepQuery
from durable.stores import open_store
from durable.testing import make_run, make_step

if TYPE_CHECKING:
    from durable.records import RunRecord, StepRecord
    from durable.stores import Store


def _begun(store: Store, run_id: str = "run") -> RunRecord:
    run = make_run(run_id, owner=store.owner)
    assert store.write(Batch(created=(run,))) == frozenset()
    return run


def _record(store: Store, run: RunRecord, *steps: StepRecord) -> None:
    assert store.write(Batch(steps=steps, fences={run.id: (run.epoch, run.owner)})) == frozenset()


def test_large_value_is_on_disk_before_its_row(tmp_path: Path) -> None:
    """The file of a large value is complete, under its final name and private when the batch is durable."""
    store = open_store(tmp_path / "durable.db")
    value = os.urandom(300_000)
    _record(store, _begun(store), make_step(1, value=value))
    (step,) = store.steps("run", StepQuery())
    (file,) = (tmp_path / "durable.db.blobs").iterdir()
    assert step.value is not None
    assert step.value[1:].hex() == file.name
    assert file.read_bytes() == value == store.fetch(step.value)
    store.close()


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 300_000, None])
def test_damaged_large_value(tmp_path: Path, damage: bytes | None) -> None:
    """A file that was damaged or removed raises CorruptRecordError with its path; recording the value again mends it."""
    store = open_store(tmp_path / "durable.db")
    run, value = _begun(store), os.urandom(300_000)
    _record(store, run, make_step(1, value=value))
    (step,) = store.steps("run", StepQuery())
    (file,) = (tmp_path / "durable.db.blobs").iterdir()
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert step.value is not None
    with pytest.raises(CorruptRecordError, match=file.name):
        store.fetch(step.value)
    if damage is None or len(damage) != len(value):
        _record(store, run, make_step(2, value=value))
        assert store.fetch(step.value) == value
    store.close()


def test_files_go_with_the_last_run(tmp_path: Path) -> None:
    """The file of a shared value stays until the last run that refers to it is deleted."""
    store = open_store(tmp_path / "durable.db")
    value = b"shared" * 100_000
    for run_id in ("one", "two"):
        run = _begun(store, run_id)
        _record(store, run, make_step(1, run_id, value=value), make_step(2, run_id, error=value))
    store.delete_run("one")
    assert len(list((tmp_path / "durable.db.blobs").iterdir())) == 1
    store.delete_run("two")
    assert list((tmp_path / "durable.db.blobs").iterdir()) == []
    store.close()


def test_what_killed_writers_left(tmp_path: Path) -> None:
    """Unfinished files are removed at the next opening."""
    open_store(tmp_path / "durable.db").close()
    (tmp_path / "durable.db.blobs").mkdir(exist_ok=True)
    (tmp_path / "durable.db.blobs" / ".abc.def").write_bytes(b"unfinished")
    open_store(tmp_path / "durable.db").close()
    assert list((tmp_path / "durable.db.blobs").iterdir()) == []


def test_pages_are_bounded_by_size(tmp_path: Path) -> None:
    """A page of large rows ends early, and pages together give every row once."""
    store = open_store(tmp_path / "durable.db")
    run = _begun(store)
    for first in range(1, 401, 100):
        _record(store, run, *(make_step(seq, value=b"v" * 200_000) for seq in range(first, first + 100)))
    seen: list[int] = []
    while page := store.steps("run", StepQuery(after=seen[-1] if seen else 0)):
        assert sum(len(step.value or b"") for step in page) < 40_000_000
        seen += [step.seq for step in page]
    assert seen == list(range(1, 401))
    store.close()


# Failure and closing


def test_text_that_cannot_be_stored(tmp_path: Path) -> None:
    """A label that is no valid text is refused with the store's own error, and nothing of the batch is written."""
    store = open_store(tmp_path / "durable.db")
    run = _begun(store)
    with pytest.raises(StoreFailedError):
        _record(store, run, make_step(1), make_step(2, label="\udcff"))
    assert store.steps("run", StepQuery()) == []
    with pytest.raises(StoreFailedError):
        _record(store, run, make_step(1))
    store.close()


def test_closing_beside_writers(tmp_path: Path) -> None:
    """Threads that use a store while it is closed get StoreFailedError or a durable batch, nothing else."""
    for attempt in range(5):
        store = open_store(tmp_path / "durable.db")
        run = _begun(store, f"run {attempt}")
        written: list[int] = []
        odd: list[BaseException] = []

        def work(first: int, store: Store = store, run: RunRecord = run, written: list[int] = written) -> None:
            try:
                for seq in range(first, first + 10_000):
                    _record(store, run, make_step(seq, run.id))
                    written.append(seq)
                    store.requests()
                    store.steps(run.id, StepQuery(limit=3))
            except StoreFailedError:
                pass
            except BaseException as error:
                odd.append(error)

        threads = [threading.Thread(target=work, args=(first,)) for first in (1, 100_000, 200_000)]
        for thread in threads:
            thread.start()
        while len(written) < 5 * attempt:
            pass
        store.close()
        for thread in threads:
            thread.join()
        assert odd == []
        store = open_store(tmp_path / "durable.db")
        assert {step.seq for step in store.steps(run.id, StepQuery(limit=100_000))} >= set(written)
        store.close()


def test_nothing_stays_open_after_closing(tmp_path: Path) -> None:
    """A closed store leaves no WAL, no owner's file and no open file descriptor behind."""
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    store = open_store(tmp_path / "durable.db")
    _begun(store)
    store.runs(RunFilter())
    store.close()
    assert list((tmp_path / "durable.db.owners").iterdir()) == []
    assert not Path(f"{tmp_path}/durable.db-wal").exists()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(("steps", "size"), [(1, 10), (1, 100_000), (64, 10)])
def test_the_log_stays_short(tmp_path: Path, steps: int, size: int) -> None:
    """The log is carried over before it is long, whatever a step holds; what is in the database alone is counted."""
    path = tmp_path / "durable.db"
    store = open_store(path)
    run = _begun(store)
    for first in range(1, 250 * steps, steps):
        _record(store, run, *(make_step(first + n, value=os.urandom(size)) for n in range(steps)))
        assert os.path.getsize(f"{path}-wal") < 250 * 4096
    shutil.copy(path, tmp_path / "alone.db")
    with closing(sqlite3.connect(tmp_path / "alone.db")) as alone:
        [present] = alone.execute("SELECT count(*) FROM steps").fetchone()
        [counted] = alone.execute("SELECT steps FROM kept").fetchone()
    assert 100 < present == counted
    store.close()


@given(
    place=st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=9)] * 2),
    content=st.binary(min_size=16, max_size=16),
    numbers=st.tuples(*[st.integers(0, 2**32 - 1)] * 4),
)
@settings(max_examples=50)
def test_what_was_written_is_whole(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], content: bytes, numbers: tuple[int, ...]
) -> None:
    """Whatever a step is called and counts, its record is not taken for a damaged one when the run is claimed."""
    store = open_store(tmp_path_factory.mktemp("store") / "durable.db")
    parent, occurrence, flags, done = numbers
    step = make_step(
        2**32 - 1,
        content=content,
        parent=parent,
        container=place[0],
        branch=place[1],
        occurrence=occurrence,
        flags=flags,
        done=done or None,
    )
    _record(store, _begun(store), step, make_step(7))
    assert store.steps("run", StepQuery()) == [make_step(7), step]
    claim = store.claim("run", host="here", pid=7, now=2000.0)
    assert claim is not None
    assert claim.history.steps == 2
    store.close()
