"""Two kinds of locked files beside a database: one lock for all writers, and one per living process.

A process that dies gives its locks up at once, whatever it died of; a stopped one keeps them.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import lock_descriptor, unlock_descriptor

from durable.errors import StoreFailedError, StoreUnusableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")
_PATIENCE = 120.0  # seconds that a writer waits for another
_FIRST_POLL, _LONGEST_POLL = 0.0005, 0.01
_MODE = 0o600


def open_private(path: Path) -> int:
    """Open a file for reading and writing, made for its owner alone."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), _MODE)


def is_raised_by_handler(error: BaseException) -> bool:
    """Whether a signal handler of the program raised an OSError, most often TimeoutError: those of the system have a number."""
    return isinstance(error, OSError) and error.errno is None


class WriteLock:
    """The exclusive lock held around every write transaction of any process.

    It does not exclude threads of one process from each other: the caller does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_private(path)

    def _await(self) -> bool:
        """Take the lock when the process that holds it gives it up."""
        descriptor = self._descriptor
        deadline = time.monotonic() + _PATIENCE
        poll = _FIRST_POLL
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() > deadline:
                raise StoreFailedError(
                    f"The lock {self._path} was held by another process for {_PATIENCE:g} s. Is one stopped in the "
                    f"middle of a write? Find it with: fuser {self._path}"
                )
            time.sleep(poll)
            poll = min(poll * 1.5, _LONGEST_POLL)
        return True

    def release(self) -> None:
        """Give the lock up; harmless if it is not held, so that an interrupted attempt can be undone blindly."""
        try:
            unlock_descriptor(self._descriptor)
        except OSError:
            if os.name != "nt":  # Windows refuses to unlock what is not locked
                raise

    def run(self, action: Callable[..., _T], *args: Any, wait: bool = True) -> _T | None:
        """Do something under the lock and give it up again, whatever a signal handler raises on the way."""
        try:
            if not (lock_descriptor(self._descriptor, blocking=False) or (wait and self._await())):
                return None
            return action(*args)
        finally:
            try:
                unlock_descriptor(self._descriptor)
            except BaseException as error:  # a signal, after which the lock may still be held
                self.release()
                if not isinstance(error, OSError) or is_raised_by_handler(error):
                    raise

    def close(self) -> None:
        """Close the file; in a forked child this leaves the parent's lock alone."""
        os.close(self._descriptor)


class Owners:
    """One locked file per living process; its name is the process's token.

    Whoever asks whether an owner lives takes its lock for a moment, so everything here but `close` is called under the
    write lock: otherwise one who asks would be taken for an owner by another.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.token = os.urandom(16).hex()
        self._path = folder / self.token
        self._descriptor = -1
        self._sign_on()

    def _sign_on(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = open_private(self._path)
        if not lock_descriptor(descriptor, blocking=False):
            os.close(descriptor)
            raise StoreUnusableError(f"{self._path} cannot be locked. Choose a path on a local disk with DURABLE_DB.")
        self._descriptor, previous = descriptor, self._descriptor
        if previous >= 0:
            os.close(previous)

    def is_signed_on(self) -> bool:
        """Whether others still find this process's file; asks without the write lock."""
        return self._path.exists()

    def sign_on_again(self) -> None:
        """Put this process's file back if somebody removed it: others would take this process for dead."""
        if not self.is_signed_on():
            self._sign_on()

    def is_alive(self, token: str) -> bool:
        """Whether the process with this token lives; the file of a dead one is removed."""
        if token == self.token:
            return True
        path = self._folder / token
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if not lock_descriptor(descriptor, blocking=False):
                return True
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        return False

    def is_alone(self) -> bool:
        """Whether no other process lives; the files of dead ones are removed."""
        return sum([self.is_alive(path.name) for path in self._folder.iterdir()]) <= 1

    def close(self, *, forked: bool = False) -> None:
        """Give up the token; a forked child only closes its copy of the file."""
        if not forked:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)
