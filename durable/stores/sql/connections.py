"""Connections to a SQLite file: WAL, every commit flushed, and both read back before the first use.

Opening, migrating and closing may checkpoint, so all of it happens under the write lock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from durable.errors import StoreTooNewError, StoreUnusableError
from durable.stores.sql.columns import APPLICATION_ID, FORMAT
from durable.stores.sql.locks import open_private
from durable.stores.sql.schema import create
from durable.stores.sql.settling import LONG, Writer, carry_over, settle_held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")
_FULL = 2  # how SQLite answers to synchronous=FULL
_BUSY_MS = 60_000  # patience with programs that do not know of the write lock
_SECOND = 10**9
_TICK = _SECOND // 10  # nanoseconds; two changes of a folder that are further apart differ in its time of change


class FilesChangedError(Exception):
    """A file of the store was removed or replaced while it was open; does not leave the store."""


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
        _prepare(path)
        self._held: list[Writer] = []
        try:
            self.writer = self._take()
            self.reader = self._take()
            self.identity = self._identify()
            if os.path.getsize(self._wal):
                carry_over(self.writer)  # after a flush that failed the log may have, on disk only, a hole nobody sees
        except BaseException:
            self.close()
            raise

    def _take(self) -> Writer:
        connection = _connect(self._path)
        self._held.append(connection)
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()  # makes the WAL file
        if (mode, level) != ("wal", _FULL):
            raise StoreUnusableError(
                f"{self._path}: SQLite answers journal_mode={mode} and synchronous={level} instead of wal and {_FULL} "
                f"(FULL), so a power cut could lose results. Choose a local disk with DURABLE_DB."
            )
        return connection

    def _identify(self) -> Identity:
        database, wal = os.stat(self._path), os.stat(self._wal)
        return Identity((database.st_dev, database.st_ino), (wal.st_dev, wal.st_ino))

    def use(self, action: Callable[..., _T], *args: Any) -> _T:
        """Do something with the connection that writes, unless its files were removed or replaced: writes go nowhere.

        Neither can happen without a change of their folder. To ask for it is quicker than to ask for the files, and
        newer kernels make each write to a file dearer whose times were asked for since the one before.
        """
        try:
            folder = os.stat(self._folder)
            state = (folder.st_dev, folder.st_ino, folder.st_mtime_ns)
            if state != self._checked:
                if self._identify() != self.identity:
                    raise FilesChangedError(f"a file was replaced while it was open: {self._path} or {self._wal}")
                self._checked = state if _is_settled(folder.st_mtime_ns) else None
        except FileNotFoundError as error:
            raise FilesChangedError(f"a file was removed while it was open: {error.filename}") from None
        writer = self.writer
        if writer.pages >= LONG:
            carry_over(writer)
        return action(writer, *args)

    def settle_and_close(self) -> None:
        """Close both, under the write lock; the last one of all processes to do so checkpoints and removes the WAL."""
        with contextlib.suppress(sqlite3.Error):
            settle_held(self.writer)
        self.close()

    def close(self) -> None:
        """Close both without the lock."""
        for connection in reversed(self._held):
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _is_settled(changed: int) -> bool:
    """Whether a folder that changes once more will show another time; some file systems know whole seconds only."""
    return bool(changed % _SECOND) and time.time_ns() - changed > _TICK


def _connect(path: Path) -> Writer:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000, factory=Writer
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cell_size_check = ON")  # finds damaged pages earlier
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `settling`
    return connection


def _prepare(path: Path) -> None:
    """Make the tables of a new store, migrate an older one, refuse what is not ours without touching it."""
    if not path.exists():
        os.close(open_private(path))
    # Closing a connection that only reads checkpoints nothing; but a process that was killed while it made the store
    # may have left a journal, which has to be rolled back first.
    mode = "rw" if os.path.exists(f"{path}-journal") else "ro"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_MS / 1000)) as connection:
        found = _read_format(connection, str(path))
    if not found:
        create(lambda: _connect(path))
    elif found != FORMAT:
        from durable.stores.sql.migrations import migrate  # noqa: PLC0415 -- SQLAlchemy is slow, and seldom needed

        migrate(lambda: _connect(path), found)


def _read_format(connection: sqlite3.Connection, url: str) -> int:
    """Give the format of a database, 0 for an empty one; refuse what is not ours or newer. Changes nothing."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application != APPLICATION_ID:
        if application or found or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreUnusableError(
                f"{url} is a SQLite database of another program; it was not touched. Choose another path with "
                f"DURABLE_DB."
            )
        return 0
    if found > FORMAT:
        raise StoreTooNewError(
            f"{url} has store format {found}, and this release of durable knows formats up to {FORMAT}. Nothing was "
            f"read or changed. Upgrade durable, or choose another store with DURABLE_DB."
        )
    return found
