"""SQLite: one flush a batch, one writer at a time over all processes, and no silent loss.

WAL with `synchronous=FULL`. Releases before 3.51.3 can lose committed rows when a writer and a checkpointer of two
processes race, so the write lock is held around every transaction, checkpoint and close.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, func, select, text
from sqlalchemy.pool import NullPool

from durable.errors import CorruptRecordError, StoreError, StoreFailedError, StoreUnusableError
from durable.records import Batch, Claim, History, RunFilter, RunRecord, RunStatus, RunSummary, StepQuery, StepRecord
from durable.stores.sql.files import BLOB_SIZE, Blobs, Owners, WriteLock
from durable.stores.sql.locations import prepare_location
from durable.stores.sql.migrations import migrate, read_format
from durable.stores.sql.statements import UPSERT_CHUNK, run_insert, run_update, step_select, step_upsert
from durable.stores.sql.tables import FORMAT, RUN_FIELDS, RUN_VALUES, STEP_FIELDS, STEP_VALUES, runs, steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

_CHECKPOINT_PAGES = 100
_FIXED_IN = (3, 51, 3)
_PAGE_BYTES = 8 * 1024 * 1024  # a page of steps stops after about so much
_open_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()


class SQLiteStore:
    """A store in one SQLite file; `path` is made if it is absent.

    Raises `StoreUnusableError` for a path that is a directory, not writable, not SQLite or on a network file system, and
    `StoreTooNewError` for a store of a newer release.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make the store."""
        self.path = Path(os.path.abspath(path))
        prepare_location(self.path)
        self._guard = threading.RLock()
        self._reading = threading.Lock()
        self._closed = False
        self._open()
        _open_stores.add(self)

    def _open(self) -> None:
        self._poison: StoreError | None = None
        try:
            self._lock = WriteLock(self._beside(".lock"))
            self._owners = Owners(self._beside(".owners"))
            self._blobs = Blobs(self._beside(".blobs"))
            self._engine = create_engine(
                URL.create("sqlite", database=str(self.path)), creator=self._connect, poolclass=NullPool
            )
            with self._lock.held():
                self._prepare()
                self._writer, self._write_db = self._take_connection()
                self._reader, self._read_db = self._take_connection()
        except sqlite3.DatabaseError as error:
            raise StoreUnusableError(
                f"{self.path} cannot be used as a store: {error}. Choose another path with DURABLE_DB."
            ) from error
        except OSError as error:
            raise StoreUnusableError(
                f"{self.path} cannot be used as a store: {error.strerror}: {error.filename}. Choose another path with "
                f"DURABLE_DB, or mend the permissions."
            ) from error
        status = os.stat(self.path)
        self._identity = (status.st_dev, status.st_ino)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=60)
        connection.execute("PRAGMA busy_timeout = 60000")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return connection

    def _take_connection(self) -> tuple[Any, sqlite3.Connection]:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        full = 2
        if (mode, level) != ("wal", full):
            raise StoreUnusableError(
                f"{self.path}: SQLite answers journal_mode={mode} and synchronous={level} instead of wal and {full} (FULL), "
                f"so a power cut could lose results. Choose a local disk with DURABLE_DB."
            )
        return pooled, connection

    def _prepare(self) -> None:
        is_new = not self.path.exists() or not self.path.stat().st_size
        with self._engine.connect() as connection:
            found = read_format(connection, str(self.path))
            if found == FORMAT:
                return
            if is_new:
                connection.execute(text("PRAGMA journal_mode = WAL"))
            connection.execute(text("BEGIN IMMEDIATE"))
            migrate(connection, read_format(connection, str(self.path)))
            connection.execute(text("COMMIT"))
        os.chmod(self.path, 0o600)

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"sqlite:///{self.path}"

    @property
    def owner(self) -> str:
        """Token of this process."""
        return self._owners.token

    # Writing

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        """See `Store.claim`."""
        with self._transaction() as db:
            before = self._load(db, run_id)
            if before is None:
                return None
            if before.owner and before.owner != self.owner and self._owners.is_alive(before.owner):
                return Claim(before, granted=False)
            history = self._history(db, run_id)
            db.execute(
                "UPDATE runs SET epoch = epoch + 1, owner = ?, host = ?, pid = ?, updated_at = ?, status = ?, mark = ?, "
                "request = NULL WHERE id = ?",
                (self.owner, host, pid, now, RunStatus.RUNNING, history.last_done, run_id),
            )
            run = self._load(db, run_id)
            assert run is not None
            return Claim(run, granted=True, previous=before, history=history)

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        """See `Store.write`."""
        if not self._guard.acquire(blocking=wait):
            return None
        try:
            self._check_open()
            if not self._lock.acquire(wait=wait):
                return None
            try:
                return self._write_locked(batch)
            finally:
                self._lock.release()
        finally:
            self._guard.release()

    def _write_locked(self, batch: Batch) -> frozenset[str]:
        db = self._write_db
        try:
            self._check_identity()
            rows = [self._step_row(batch, step) for step in batch.steps]
            if not batch.created and not batch.ended and len(rows) <= UPSERT_CHUNK:
                return self._upsert(db, rows)
            db.execute("BEGIN IMMEDIATE")
            lost = self._create(db, batch.created)
            for start in range(0, len(rows), UPSERT_CHUNK):
                chunk = [row for row in rows[start : start + UPSERT_CHUNK] if row[0] not in lost]
                lost |= self._upsert(db, chunk)
            for run in batch.ended:
                if run.id not in lost and not self._end(db, run, batch.fences[run.id]):
                    lost |= {run.id}
            db.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            if isinstance(error, (sqlite3.Error, OSError)):
                raise self._fail(error) from error
            raise
        return lost

    def _step_row(self, batch: Batch, step: StepRecord) -> tuple[Any, ...]:
        epoch, owner = batch.fences[step.run_id]
        if (step.value is not None and len(step.value) > BLOB_SIZE) or (
            step.error is not None and len(step.error) > BLOB_SIZE
        ):
            step = step._replace(value=self._shrink(step.value), error=self._shrink(step.error))
        return (step.run_id, epoch, owner, *step[1:])

    def _shrink(self, value: bytes | None) -> bytes | None:
        return self._blobs.put(value) if value is not None and len(value) > BLOB_SIZE else value

    def _upsert(self, db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> frozenset[str]:
        if not rows:
            return frozenset()
        values = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
        if db.execute(step_upsert(len(rows)), values).rowcount == len(rows):
            return frozenset()
        lost = set()
        for run_id, epoch, owner in {row[:3] for row in rows}:
            held = db.execute("SELECT epoch, owner FROM runs WHERE id = ?", (run_id,)).fetchone()
            if held != (epoch, owner):
                lost.add(run_id)
        return frozenset(lost)

    def _create(self, db: sqlite3.Connection, created: Sequence[RunRecord]) -> frozenset[str]:
        lost = set()
        for run in created:
            if not db.execute(run_insert(), self._run_row(run)).rowcount:
                held = db.execute("SELECT epoch, owner FROM runs WHERE id = ?", (run.id,)).fetchone()
                if held != (run.epoch, run.owner):
                    lost.add(run.id)
        return frozenset(lost)

    def _end(self, db: sqlite3.Connection, run: RunRecord, fence: tuple[int, str]) -> bool:
        if db.execute(run_update(), (*self._run_row(run), run.id, *fence)).rowcount:
            return True
        held = self._load(db, run.id)  # a repeated batch finds its own work
        return held is not None and (held.epoch, held.owner, held.status) == (run.epoch, run.owner, run.status)

    def _run_row(self, run: RunRecord) -> tuple[Any, ...]:
        return tuple(
            self._shrink(getattr(run, name)) if name in RUN_VALUES else getattr(run, name) for name in RUN_FIELDS
        )

    def _fail(self, error: Exception) -> StoreFailedError:
        failure = StoreFailedError(f"The store {self.path} could not be written: {error}.")
        self._poison = failure
        return failure

    def _check_open(self) -> None:
        if self._poison is not None:
            raise self._poison
        if self._closed:
            raise StoreFailedError(f"The store {self.path} is closed.")

    def _check_identity(self) -> None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise OSError(f"the file was removed while it was open: {self.path}") from None
        if (status.st_dev, status.st_ino) != self._identity:
            raise OSError(f"the file was replaced while it was open: {self.path}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            self._check_open()
            with self._lock.held():
                db = self._write_db
                try:
                    self._check_identity()
                    db.execute("BEGIN IMMEDIATE")
                    yield db
                    db.execute("COMMIT")
                except BaseException as error:
                    with contextlib.suppress(sqlite3.Error):
                        if db.in_transaction:
                            db.execute("ROLLBACK")
                    if isinstance(error, (sqlite3.Error, OSError)):
                        raise self._fail(error) from error
                    raise

    def post_request(self, run_id: str, request: str) -> None:
        """See `Store.post_request`."""
        with self._transaction() as db:
            db.execute("UPDATE runs SET request = ? WHERE id = ?", (request, run_id))

    def delete_run(self, run_id: str) -> None:
        """See `Store.delete_run`."""
        with self._transaction() as db:
            references = self._references(db, run_id)
            db.execute("DELETE FROM steps WHERE run = (SELECT pk FROM runs WHERE id = ?)", (run_id,))
            db.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            unused = [reference for reference in references if not self._is_referenced(db, reference)]
        for reference in unused:
            self._blobs.drop(reference)

    def _references(self, db: sqlite3.Connection, run_id: str) -> set[bytes]:
        found: set[bytes] = set()
        for table, columns, where in (
            ("runs", RUN_VALUES, "id = ?"),
            ("steps", STEP_VALUES, "run = (SELECT pk FROM runs WHERE id = ?)"),
        ):
            for column in columns:
                query = f"SELECT {column} FROM {table} WHERE {where} AND substr({column}, 1, 1) = x'00'"  # noqa: S608 -- our own names
                found.update(row[0] for row in db.execute(query, (run_id,)))
        return found

    def _is_referenced(self, db: sqlite3.Connection, reference: bytes) -> bool:
        return any(
            db.execute(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", (reference,)).fetchone()  # noqa: S608 -- our own names
            for table, columns in (("runs", RUN_VALUES), ("steps", STEP_VALUES))
            for column in columns
        )

    # Reading

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading:
            if self._closed:
                raise StoreFailedError(f"The store {self.path} is closed.")
            try:
                yield self._read_db
            except sqlite3.Error as error:
                raise CorruptRecordError(f"The store {self.path} could not be read: {error}. Nothing was executed.") from error

    def _load(self, db: sqlite3.Connection, run_id: str) -> RunRecord | None:
        row = db.execute(f"SELECT {', '.join(RUN_FIELDS)} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 -- our own names
        return RunRecord(*row) if row is not None else None

    def _history(self, db: sqlite3.Connection, run_id: str) -> History:
        row = db.execute(
            "SELECT count(*), coalesce(max(seq), 0), coalesce(max(done), 0), coalesce(sum(status = 'succeeded'), 0) "
            "FROM steps WHERE run = (SELECT pk FROM runs WHERE id = ?)",
            (run_id,),
        ).fetchone()
        return History(*row)

    def fetch(self, reference: bytes) -> bytes:
        """See `Store.fetch`."""
        return self._blobs.get(reference)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See `Store.load_run`."""
        with self._read() as db:
            return self._load(db, run_id)

    def runs(self, which: RunFilter) -> Sequence[RunSummary]:
        """See `Store.runs`."""
        columns = [runs.c[name] for name in RUN_FIELDS]
        query = select(runs.c.pk, *columns).order_by(runs.c.created_at.desc(), runs.c.pk.desc())
        for column, value in (("lineage", which.lineage), ("workflow", which.workflow), ("parent_run", which.parent_run)):
            if value is not None:
                query = query.where(runs.c[column] == value)
        if which.prefix is not None:
            query = query.where(runs.c.id >= which.prefix, func.substr(runs.c.id, 1, len(which.prefix)) == which.prefix)
        if which.statuses:
            query = query.where(runs.c.status.in_(which.statuses))
        if which.ended_before is not None:
            query = query.where(runs.c.ended_at < which.ended_before)
        with self._connection() as connection:
            found = connection.execute(query.limit(which.limit)).all()
            return [RunSummary(RunRecord(*row[1:]), self._count(connection, row[0])) for row in found]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        if self._closed:
            raise StoreFailedError(f"The store {self.path} is closed.")
        with self._read(), self._engine.connect() as connection:
            yield connection

    def _count(self, connection: Connection, pk: int) -> dict[str, int]:
        query = select(steps.c.status, func.count()).where(steps.c.run == pk).group_by(steps.c.status)
        return {status: count for status, count in connection.execute(query)}

    def steps(self, run_id: str, query: StepQuery) -> Sequence[StepRecord]:
        """See `Store.steps`."""
        sql, values = step_select(STEP_FIELDS, query)
        found, size = [], 0
        with self._read() as db:
            for row in db.execute(sql, (run_id, *values, query.limit)):
                found.append(StepRecord(run_id, *row))
                size += len(row[-3] or b"") + len(row[-2] or b"")
                if size > _PAGE_BYTES:
                    break
        return found

    def step_tasks(self, run_id: str, query: StepQuery) -> frozenset[str]:
        """See `Store.step_tasks`."""
        sql, values = step_select(("task",), query, distinct=True)
        with self._read() as db:
            return frozenset(task for (task,) in db.execute(sql, (run_id, *values)))

    def is_alive(self, owner: str) -> bool:
        """See `Store.is_alive`."""
        with self._guard, self._lock.held():
            return self._owners.is_alive(owner)

    def requests(self) -> Mapping[str, str]:
        """See `Store.requests`."""
        query = "SELECT id, request FROM runs WHERE owner = ? AND request IS NOT NULL"
        with self._read() as db:
            return dict(db.execute(query, (self.owner,)).fetchall())

    def report(self) -> Mapping[str, str]:
        """See `Store.report`."""
        with self._read() as db:
            mode = db.execute("PRAGMA journal_mode").fetchone()[0]
            level = db.execute("PRAGMA synchronous").fetchone()[0]
            integrity = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
        fault = (
            "none known"
            if version >= _FIXED_IN
            else "can lose committed rows when a writer and a checkpointer race (before 3.51.3); durable's write lock prevents it"
        )
        return {
            "store": self.url,
            "format": str(FORMAT),
            "sqlite": sqlite3.sqlite_version,
            "known faults": fault,
            "durability": f"journal_mode={mode}, synchronous={ {2: 'FULL', 3: 'EXTRA'}.get(level, level) }",
            "integrity": str(integrity),
            "folder permissions": oct(self.path.parent.stat().st_mode & 0o777),
            "file permissions": oct(self.path.stat().st_mode & 0o777),
        }

    # Closing

    def close(self) -> None:
        """See `Store.close`."""
        with self._guard, self._reading:
            if self._closed:
                return
            self._closed = True
            with self._lock.held():
                self._reader.close()
                self._writer.close()
            self._engine.dispose()
            self._owners.close()
            self._lock.close()

    def _abandon(self) -> None:
        """In a forked child: close copies of lock files, leave the parent's connections alone, and open anew."""
        self._guard, self._reading = threading.RLock(), threading.Lock()
        if self._closed:
            return
        _kept_from_parent.append((self._engine, self._writer, self._reader, self._write_db, self._read_db))
        self._lock.close()
        self._owners.close(forked=True)
        self._open()


_kept_from_parent: list[Any] = []  # closing a SQLite connection that was opened before a fork corrupts the database


def _reopen_after_fork() -> None:
    for store in list(_open_stores):
        with contextlib.suppress(StoreError):
            store._abandon()  # noqa: SLF001 -- the module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)


