"""Files beside a SQLite database: one lock for all writers, one lock per living process, one file per large value.

A process that dies gives its locks up, whatever it died of; a stopped one keeps them.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import lock_descriptor, unlock_descriptor

from durable.errors import CorruptRecordError, StoreFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB_SIZE = 256 * 1024  # bytes; larger values get a file of their own
_PATIENCE = 120.0  # seconds that a writer waits for another
_FIRST_POLL, _LONGEST_POLL = 0.0005, 0.01
_MODE = 0o600


def open_private(path: Path) -> int:
    """Open a file for reading and writing, made for its owner alone."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, _MODE)


class WriteLock:
    """The exclusive lock held around every write transaction of any process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_private(path)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; without `wait` False at once if another process holds it."""
        descriptor = self._descriptor
        if lock_descriptor(descriptor, blocking=False):
            return True
        if not wait:
            return False
        deadline = time.monotonic() + _PATIENCE
        poll = _FIRST_POLL
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() > deadline:
                raise StoreFailedError(
                    f"The lock {self._path} was held by another process for {_PATIENCE:g} s. Is one stopped in the middle "
                    f"of a write? Find it with: fuser {self._path}"
                )
            time.sleep(poll)
            poll = min(poll * 1.5, _LONGEST_POLL)
        return True

    def release(self) -> None:
        """Give the lock up."""
        unlock_descriptor(self._descriptor)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Close the file; in a forked child this leaves the parent's lock alone."""
        os.close(self._descriptor)


class Owners:
    """One locked file per living process; its name is the process's token."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.token = uuid.uuid4().hex
        self._descriptor = open_private(folder / self.token)
        lock_descriptor(self._descriptor, blocking=False)

    def is_alive(self, token: str) -> bool:
        """Whether the process with this token lives; ask under the write lock, since asking takes its lock."""
        if token == self.token:
            return True
        path = self._folder / token
        try:
            descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return False
        try:
            if not lock_descriptor(descriptor, blocking=False):
                return True
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        finally:
            os.close(descriptor)

    def close(self, *, forked: bool = False) -> None:
        """Give up the token; a forked child only closes its copy of the file."""
        if not forked:
            with contextlib.suppress(OSError):
                (self._folder / self.token).unlink()
        os.close(self._descriptor)


class Blobs:
    """Content-addressed files; a reference is a zero byte and the digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, value: bytes) -> bytes:
        """Store a value durably and give the reference to it."""
        digest = blake2b(value, digest_size=32).digest()
        path = self._path(digest)
        if not path.exists():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            descriptor = open_private(partial)
            try:
                with open(descriptor, "wb") as file:
                    file.write(value)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
            _sync_folder(self._folder)
            _sync_folder(self._folder.parent)
        return b"\0" + digest

    def get(self, reference: bytes) -> bytes:
        """Give the value of a reference, verified."""
        path = self._path(reference[1:])
        try:
            value = path.read_bytes()
        except OSError as error:
            raise CorruptRecordError(f"A stored value is gone: {path} ({error.strerror}). Nothing was executed.") from error
        if blake2b(value, digest_size=32).digest() != reference[1:]:
            raise CorruptRecordError(f"A stored value is damaged: {path} does not match its name. Nothing was executed.")
        return value

    def drop(self, reference: bytes) -> None:
        """Remove the file of a reference."""
        with contextlib.suppress(OSError):
            self._path(reference[1:]).unlink()

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
