"""SQLite: one flush a batch, one writer at a time over all processes, and no silent loss.

WAL with `synchronous=FULL`. Releases before 3.51.3 can lose committed rows when a writer and a checkpointer of two
processes race, so the write lock is held around every transaction, checkpoint and close. No connection is open while
the process forks: in the child SQLite would take the parent's locks for its own, and others could remove a WAL that the
child still writes to.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from durable.errors import CorruptRecordError, StoreFailedError, StoreUnusableError
from durable.stores.sql import reading, writing
from durable.stores.sql.blobs import Blobs
from durable.stores.sql.columns import FORMAT
from durable.stores.sql.connections import Connections, FilesChangedError
from durable.stores.sql.locations import prepare_location
from durable.stores.sql.locks import Owners, WriteLock, is_raised_by_handler
from durable.stores.sql.wal import check_log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable.records import (
        Batch,
        Claim,
        Message,
        Replayed,
        Request,
        RunFilter,
        RunRecord,
        RunSummary,
        StepQuery,
        StepRecord,
    )
    from durable.stores.sql.settling import Writer

_FIXED_IN = (3, 51, 3)
_T = TypeVar("_T")
_BROKEN = (sqlite3.Error, OSError, FilesChangedError, UnicodeError, OverflowError)


class SQLiteStore:
    """A store in one SQLite file; `path` is made if it is absent.

    Raises `StoreUnusableError` for a path that is a directory, not writable, not SQLite or on a network file system,
    and `StoreTooNewError` for a store of a newer release.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make the store."""
        self.path = Path(os.path.abspath(path))
        prepare_location(self.path)
        self._blobs = Blobs(self._beside(".blobs"))
        self._log = self._beside("-wal")
        self._guard = threading.RLock()  # taken before `_reading` by whoever needs both
        self._reading = threading.RLock()
        self._is_taken = False
        self._is_closed = False
        self._poison = ""
        self._lock: WriteLock | None = None
        self._owners: Owners | None = None
        self._connections: Connections | None = None
        self._file: tuple[int, int] | None = None
        self._ensure_open()
        _open_stores.add(self)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _ensure_open(self) -> tuple[WriteLock, Owners, Connections]:
        """Open what is not open: everything at first and in a forked child, the connections after any fork."""
        with self._guard, self._reading:
            if self._is_closed:
                raise StoreFailedError(f"The store {self.path} is closed.")
            if self._lock is None or self._owners is None or self._connections is None:
                try:
                    self._lock = self._lock or WriteLock(self._beside(".lock"))
                    self._lock.run(self._connect)
                except _BROKEN as error:
                    if is_raised_by_handler(error):
                        raise
                    raise self._unusable(error) from error
            assert self._owners is not None
            assert self._connections is not None
            return self._lock, self._owners, self._connections

    def _connect(self) -> None:
        self._owners = self._owners or Owners(self._beside(".owners"))
        self._blobs.forget_partial()
        check_log(self.path, thorough=self._owners.is_alone())
        connections = Connections(self.path)
        if self._file not in (None, connections.identity.database):
            connections.close()
            raise StoreFailedError(f"The file was replaced while it was open: {self.path}. Start the program again.")
        self._file = connections.identity.database
        self._connections = connections

    def _unusable(self, error: Exception) -> StoreUnusableError:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        return StoreUnusableError(
            f"{self.path} cannot be used as a store: {reason}. Mend that, or choose another path with DURABLE_DB."
        )

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"sqlite:///{self.path}"

    @property
    def owner(self) -> str:
        """Token of this process."""
        owners = self._owners or self._ensure_open()[1]
        return owners.token

    def _locked(self, action: Callable[..., _T], *args: Any, wait: bool = True) -> _T | None:
        """Do something that no other thread or process may do at the same time; a failure poisons the store.

        The action takes the connection that writes and the arguments.
        """
        if not wait and self._is_taken:
            return None
        with self._guard:
            if self._poison:
                raise StoreFailedError(self._poison)
            lock, connections = self._lock, self._connections
            if lock is None or connections is None:
                lock, _, connections = self._ensure_open()
            try:
                self._is_taken = True
                return lock.run(connections.use, action, *args, wait=wait)
            except _BROKEN as error:
                if is_raised_by_handler(error):
                    raise
                self._poison = f"The store {self.path} could not be written: {error}. {_way_out(error)}"
                raise StoreFailedError(self._poison) from error
            finally:
                self._is_taken = False

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        """See `Store.write`."""
        return self._locked(writing.write_batch, self._blobs, batch, wait=wait)

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        """See `Store.claim`."""

        def claim(db: Writer) -> Claim | None:
            owners = self._ensure_open()[1]
            owners.sign_on_again()
            return writing.claim_run(db, run_id, owners.token, owners.is_alive, (host, pid, now))

        return self._locked(claim)

    def post_request(self, run_id: str, request: str) -> None:
        """See `Store.post_request`."""
        self._locked(lambda db: db.execute("UPDATE runs SET request = ? WHERE id = ?", (request, run_id)))

    def delete_run(self, run_id: str) -> None:
        """See `Store.delete_run`."""

        def delete(db: Writer) -> None:
            for reference in writing.delete_run(db, run_id):
                self._blobs.drop(reference)

        self._locked(delete)

    def sweep(self) -> int:
        """See `Store.sweep`."""
        return self._locked(lambda db: self._blobs.sweep(writing.all_references(db))) or 0

    def is_alive(self, owner: str) -> bool:
        """See `Store.is_alive`."""
        return bool(self._locked(lambda _: self._ensure_open()[1].is_alive(owner)))

    def _read(self, action: Callable[[Connections], _T]) -> _T:
        while True:
            with self._reading:
                if self._connections is not None:
                    try:
                        return action(self._connections)
                    except sqlite3.Error as error:
                        raise CorruptRecordError(
                            f"The store {self.path} could not be read: {error}. Nothing was executed. Look closer "
                            f"with: durable doctor"
                        ) from error
            self._ensure_open()

    def fetch(self, reference: bytes) -> bytes:
        """See `Store.fetch`."""
        return self._blobs.get(reference)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See `Store.load_run`."""
        return self._read(lambda open_: reading.load_run(open_.reader, run_id))

    def runs(self, which: RunFilter) -> Sequence[RunSummary]:
        """See `Store.runs`."""
        return self._read(lambda open_: reading.list_runs(open_.reader, which))

    def steps(self, run_id: str, query: StepQuery) -> Sequence[StepRecord]:
        """See `Store.steps`."""
        return self._read(lambda open_: reading.read_steps(open_.reader, run_id, query))

    def step_tasks(self, run_id: str, query: StepQuery) -> frozenset[str]:
        """See `Store.step_tasks`."""
        return self._read(lambda open_: reading.read_step_tasks(open_.reader, run_id, query))

    def replayed(self, run_id: str, parent: int, last: int, epoch: int) -> Replayed:
        """See `Store.replayed`."""
        return self._read(lambda open_: reading.count_replayed(open_.reader, run_id, parent, last, epoch))

    def requests(self) -> Mapping[str, Request]:
        """See `Store.requests`."""
        owners = self._owners or self._ensure_open()[1]
        if not owners.is_signed_on():  # somebody removed the file, and this method is called often
            self._locked(lambda _: owners.sign_on_again())
        return self._read(lambda open_: reading.read_requests(open_.reader, owners.token))

    def changes(self) -> object:
        """See `Store.changes`: every commit writes to the log."""
        try:
            log = os.stat(self._log)
        except OSError:
            return None
        return log.st_mtime_ns, log.st_size

    def post_message(self, message: Message) -> int:
        """See `Store.post_message`."""
        return self._locked(writing.post_message, self._blobs, message) or 0

    def next_message(self, run_id: str, name: str, *, after: int = 0) -> Message | None:
        """See `Store.next_message`."""
        return self._read(lambda open_: reading.read_message(open_.reader, run_id, name, after))

    def report(self) -> Mapping[str, str]:
        """See `Store.report`."""
        version = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
        race = "a race of a writer and a checkpointer loses rows before 3.51.3; durable's write lock prevents it"
        return {
            "store": self.url,
            "format": str(FORMAT),
            "sqlite": sqlite3.sqlite_version,
            "known faults": "none known" if version >= _FIXED_IN else race,
            **self._read(lambda open_: reading.read_state(open_.reader)),
            "folder permissions": oct(self.path.parent.stat().st_mode & 0o777),
            "file permissions": oct(self.path.stat().st_mode & 0o777),
        }

    def close(self) -> None:
        """See `Store.close`."""
        with self._guard, self._reading:
            if not self._is_closed:
                self._is_closed = True
                self._disconnect()
                self._leave(forked=False)

    def _disconnect(self) -> None:
        connections, self._connections = self._connections, None
        if connections is None or self._lock is None:
            return
        try:
            self._lock.run(connections.settle_and_close)
        except StoreFailedError:  # the lock's holder is stuck with the database open, so closing checkpoints nothing
            connections.close()

    def _leave(self, *, forked: bool) -> None:
        if self._owners is not None:
            self._owners.close(forked=forked)
        if self._lock is not None:
            self._lock.close()
        self._owners = self._lock = None

    def _pause(self) -> None:
        """Before a fork: let nobody else use SQLite and leave nothing of it open."""
        self._guard.acquire()
        self._reading.acquire()
        self._disconnect()

    def _resume(self) -> None:
        """After a fork, in the parent."""
        self._reading.release()
        self._guard.release()

    def _begin_anew(self) -> None:
        """After a fork, in the child: another owner, with locks of its own."""
        self._guard, self._reading = threading.RLock(), threading.RLock()
        self._is_taken = False
        self._leave(forked=True)


def _way_out(error: Exception) -> str:
    if "full" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
        return "Make room on the disk and start the program again: what was acknowledged is kept."
    if isinstance(error, FilesChangedError):
        return "Put back the files that were there, then start the program again: what was acknowledged is in them."
    return "Mend the cause and start the program again: what was acknowledged is kept."


_open_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_forking = threading.RLock()
_paused: list[SQLiteStore] = []


def _before_fork() -> None:
    _forking.acquire()
    for store in sorted(_open_stores, key=id):
        _paused.append(store)
        store._pause()  # noqa: SLF001 -- the module's own class


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop()._resume()  # noqa: SLF001 -- see above
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 -- other threads of the parent may be waiting for it
    _forking = threading.RLock()
    while _paused:
        _paused.pop()._begin_anew()  # noqa: SLF001 -- see above


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
