"""Connections to a SQLite file: WAL, every commit flushed, and both read back before the first use.

Opening, migrating and closing may checkpoint, so all of it happens under the write lock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from durable.errors import StoreUnusableError
from durable.stores.sql.locks import open_private
from durable.stores.sql.migrations import migrate, read_format
from durable.stores.sql.tables import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine

CHECKPOINT_PAGES = 100
_FULL = 2  # how SQLite answers to synchronous=FULL
_BUSY_MS = 60_000  # patience with programs that do not know of the write lock
_SECOND = 10**9
_TICK = _SECOND // 10  # nanoseconds; two changes of a folder that are further apart differ in its time of change


class Identity(NamedTuple):
    """Which files are open: a path that leads elsewhere later was replaced."""

    database: tuple[int, int]
    wal: tuple[int, int]


class Connections:
    """One connection that writes and one that reads; both may be used by any thread, one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = f"{path}-wal"
        self._folder = str(path.parent)
        self._checked: tuple[int, int, int] | None = None
        engine = _engine(path, lambda: _connect(path))
        _prepare(path, engine)
        self._held: list[Connection] = []
        try:
            self.writer = self._take(engine)
            self.reader = self._take(engine)
            self.identity = self._identify()
            self._carry_over()
        except BaseException:
            self.close()
            raise

    def _take(self, engine: Engine) -> sqlite3.Connection:
        held = engine.connect()
        self._held.append(held)
        driver = held.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        mode = driver.execute("PRAGMA journal_mode").fetchone()[0]
        level = driver.execute("PRAGMA synchronous").fetchone()[0]
        driver.execute("SELECT 1 FROM runs LIMIT 1").fetchone()  # makes the WAL file
        if (mode, level) != ("wal", _FULL):
            raise StoreUnusableError(
                f"{self._path}: SQLite answers journal_mode={mode} and synchronous={level} instead of wal and {_FULL} "
                f"(FULL), so a power cut could lose results. Choose a local disk with DURABLE_DB."
            )
        return driver

    def _carry_over(self) -> None:
        """Copy the log to the database: after a flush that failed it may have, on disk only, a hole that nobody sees."""
        if os.path.getsize(self._wal):
            self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _identify(self) -> Identity:
        database, wal = os.stat(self._path), os.stat(self._wal)
        return Identity((database.st_dev, database.st_ino), (wal.st_dev, wal.st_ino))

    def check_identity(self) -> None:
        """Raise OSError if the files were removed or replaced since they were opened: writes would go nowhere.

        Neither can happen without a change of their folder. To ask for it is quicker than to ask for the files, and
        newer kernels make each write to a file dearer whose times were asked for since the one before.
        """
        try:
            folder = os.stat(self._folder)
            state = (folder.st_dev, folder.st_ino, folder.st_mtime_ns)
            if state == self._checked:
                return
            if self._identify() == self.identity:
                self._checked = state if _is_settled(folder.st_mtime_ns) else None
                return
        except FileNotFoundError as error:
            raise OSError(f"a file was removed while it was open: {error.filename}") from None
        raise OSError(f"a file was replaced while it was open: {self._path} or {self._wal}")

    def close(self) -> None:
        """Close both; the last one of all processes to do so checkpoints and removes the WAL."""
        for held in reversed(self._held):
            with contextlib.suppress(sqlite3.Error):
                held.invalidate()  # closes the driver's connection without any further statement
            held.close()


def _is_settled(changed: int) -> bool:
    """Whether a folder that changes once more will show another time; some file systems know whole seconds only."""
    return bool(changed % _SECOND) and time.time_ns() - changed > _TICK


def _engine(path: Path, creator: Callable[[], sqlite3.Connection]) -> Engine:
    return create_engine(URL.create("sqlite", database=str(path)), creator=creator, poolclass=NullPool)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cell_size_check = ON")  # finds damaged pages earlier
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    return connection


def _prepare(path: Path, engine: Engine) -> None:
    """Make the tables of a new store, migrate an older one, refuse what is not ours without touching it."""
    if not path.exists():
        os.close(open_private(path))
    found = _read_format(path)
    if found == FORMAT:
        return
    with engine.connect() as connection:
        connection.execute(text("PRAGMA journal_mode = WAL"))
        connection.execute(text("BEGIN IMMEDIATE"))
        migrate(connection, found)
        connection.execute(text("COMMIT"))


def _read_format(path: Path) -> int:
    # Closing a connection that only reads checkpoints nothing; but a process that was killed while it made the store
    # may have left a journal, which has to be rolled back first.
    mode = "rw" if os.path.exists(f"{path}-journal") else "ro"
    engine = _engine(path, lambda: sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_MS / 1000))
    with engine.connect() as connection:
        return read_format(connection, str(path))
