"""What is written to the tables: each function is one transaction and leaves none open, whatever interrupts it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from durable.records import Batch, Claim, Message, RunRecord, RunStatus, StepRecord
from durable.stores.sql.columns import RUN_FIELDS, RUN_VALUES, STEP_VALUES
from durable.stores.sql.integrity import check_absence, damaged, whole_history
from durable.stores.sql.reading import load_run
from durable.stores.sql.rows import step_row
from durable.stores.sql.settling import settle
from durable.stores.sql.statements import UPSERT_CHUNK, run_insert, run_update, step_ids, step_upsert

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable.stores.sql.blobs import Blobs
    from durable.stores.sql.settling import Writer

_Row = tuple[Any, ...]
_ROWS = 10  # in a page, about
_PAGES = 4  # that a transaction of several statements writes, about
_T = TypeVar("_T")


def write_batch(db: Writer, blobs: Blobs, batch: Batch) -> frozenset[str]:
    """Write a batch and give the runs whose fence no longer holds."""
    created, steps, ended, fences, received = batch
    if created or ended or received or len(steps) > UPSERT_CHUNK:
        return frozenset(in_transaction(db, lambda: _write_whole(db, blobs, batch)))
    if db.in_transaction:
        _roll_back(db)
    return _upsert(db, blobs, steps, fences)  # one statement is its own transaction, and half the price


def in_transaction(db: Writer, action: Callable[[], _T]) -> _T:
    """Do something in a transaction; anything raised on the way rolls it back."""
    try:
        if db.in_transaction:
            _roll_back(db)
        db.execute("BEGIN IMMEDIATE")
        db.pages += _PAGES
        outcome = action()
        db.execute("COMMIT")
    except BaseException:
        try:
            _roll_back(db)
        except BaseException:  # a second signal: `sqlite3.Error` does not get here
            _roll_back(db)
            raise
        raise
    return outcome


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error:
        pass  # SQLite has rolled back by itself, or cannot: the store accepts no write after a failure


def _write_whole(db: Writer, blobs: Blobs, batch: Batch) -> set[str]:
    lost = {run.id for run in batch.created if not _create(db, blobs, run)}
    lost |= {run.id for run in batch.ended if not _holds(db, run.id, batch.fences[run.id])}
    for start in range(0, len(batch.steps), UPSERT_CHUNK):
        chunk = [step for step in batch.steps[start : start + UPSERT_CHUNK] if step.run_id not in lost]
        lost |= _upsert(db, blobs, chunk, batch.fences)
    for step, message in batch.received:
        if step.run_id not in lost:
            db.execute("UPDATE messages SET step = ?, payload = x'' WHERE number = ?", (step.seq, message))
    for run in batch.ended:
        if run.id not in lost:
            db.execute(run_update(), (*_run_row(blobs, run), run.id))
            settle(db, run.id)
    return lost - {run.id for run in batch.ended if run.id in lost and _is_written(db, run)}


def _run_row(blobs: Blobs, run: RunRecord) -> _Row:
    return tuple(blobs.shrink(getattr(run, name)) if name in RUN_VALUES else getattr(run, name) for name in RUN_FIELDS)


def _upsert(
    db: Writer, blobs: Blobs, steps: Sequence[StepRecord], fences: Mapping[str, tuple[int, str]]
) -> frozenset[str]:
    values: list[Any] = []
    for step in steps:
        values += step_row(step, fences, blobs, db)
    db.pages += 1 + len(steps) // _ROWS
    if not steps or db.execute(step_upsert(len(steps)), values).rowcount == len(steps):
        return frozenset()
    return frozenset(run_id for run_id in {step.run_id for step in steps} if not _holds(db, run_id, fences[run_id]))


def _holds(db: sqlite3.Connection, run_id: str, fence: tuple[int, str]) -> bool:
    held: tuple[int, str] | None = db.execute("SELECT epoch, owner FROM runs WHERE id = ?", (run_id,)).fetchone()
    return held == fence


def _create(db: sqlite3.Connection, blobs: Blobs, run: RunRecord) -> bool:
    if db.execute(run_insert(), _run_row(blobs, run)).rowcount:
        return True
    return _holds(db, run.id, (run.epoch, run.owner))  # a batch that is written again finds its own work


def _is_written(db: sqlite3.Connection, run: RunRecord) -> bool:
    """Whether a batch that is written again finds this end of a run, which gave the fence up."""
    held = load_run(db, run.id)
    return held is not None and (held.epoch, held.owner, held.status) == (run.epoch, run.owner, run.status)


def claim_run(
    db: Writer, run_id: str, owner: str, is_alive: Callable[[str], bool], about: tuple[str, int, float]
) -> Claim | None:
    """Make a process the owner of a run unless another one that lives is; `about` is its host, its pid and the time."""

    def claim() -> Claim | None:
        before = load_run(db, run_id)
        if before is None:
            check_absence(db, run_id)
            return None
        if before.owner and before.owner != owner and is_alive(before.owner):
            return Claim(before, granted=False)
        history = whole_history(db, run_id)
        db.execute(
            "UPDATE runs SET epoch = epoch + 1, owner = ?, host = ?, pid = ?, updated_at = ?, status = ?, mark = ?, "
            "request = NULL WHERE id = ?",
            (owner, *about, RunStatus.RUNNING, history.last_done, run_id),
        )
        run = load_run(db, run_id)
        assert run is not None
        return Claim(run, granted=True, previous=before, history=history)

    try:
        return in_transaction(db, claim)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT or "UTF-8" in str(error):
            raise damaged(run_id) from error
        raise


def post_message(db: Writer, blobs: Blobs, message: Message) -> int:
    """Add a message for a run and give its number; see `Store.post_message`."""
    payload = blobs.shrink(message.payload)

    def post() -> int:
        pk, status = db.execute("SELECT pk, status FROM runs WHERE id = ?", (message.run_id,)).fetchone() or (None, None)
        earlier = db.execute("SELECT number FROM messages WHERE run = ? AND key = ?", (pk, message.key)).fetchone()
        if earlier is not None:
            return int(earlier[0])
        if pk is None or status in (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED):
            return 0
        sent = db.execute(
            "INSERT INTO messages (run, name, payload, sent_at, key) VALUES (?, ?, ?, ?, ?)",
            (pk, message.name, payload, message.sent_at, message.key),
        )
        return sent.lastrowid or 0

    return in_transaction(db, post)


def delete_run(db: Writer, run_id: str) -> set[bytes]:
    """Delete a run with its steps and give the references that nothing holds any more."""

    def delete() -> set[bytes]:
        pk = db.execute("SELECT pk FROM runs WHERE id = ?", (run_id,)).fetchone()
        if pk is None:
            return set()
        steps = step_ids(pk[0])
        references = _references(db, pk, steps)
        db.execute("DELETE FROM messages WHERE run = ?", pk)
        db.execute("DELETE FROM steps WHERE id BETWEEN ? AND ?", steps)
        db.execute("DELETE FROM kept WHERE run = ?", pk)
        db.execute("DELETE FROM runs WHERE pk = ?", pk)
        return references - all_references(db) if references else references

    return in_transaction(db, delete)


def all_references(db: sqlite3.Connection) -> set[bytes]:
    """Give every reference to a large value."""
    return _references(db, (), ())


def _references(db: sqlite3.Connection, run: tuple[int, ...], steps: tuple[int, ...]) -> set[bytes]:
    found: set[bytes] = set()
    for table, which, values, columns in (
        ("runs", "pk = ?", run, RUN_VALUES),
        ("steps", "id BETWEEN ? AND ?", steps, STEP_VALUES),
        ("messages", "run = ?", run, ("payload",)),
    ):
        for column in columns:
            sql = f"SELECT {column} FROM {table} WHERE {which if values else 'true'} AND substr({column}, 1, 1) = x'00'"  # noqa: S608 -- our own names
            found.update(reference for (reference,) in db.execute(sql, values).fetchall())
    return found
