"""A log that lost commits is noticed before SQLite opens it: what the shared-memory file promises, the log must hold.

SQLite ends a log silently at the first damaged frame, and takes an absent one for an empty one. It writes the
shared-memory file only after a commit is on disk, so that file never promises too much, whatever ended the process;
where both are gone nobody can tell. https://sqlite.org/walformat.html
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from durable.errors import StoreUnusableError

if TYPE_CHECKING:
    from pathlib import Path

_INDEX_HEADER = 48  # bytes; stands twice in the shared-memory file, and then comes the number of frames copied
_LOG_HEADER, _FRAME_HEADER = 32, 24
_LITTLE_ENDIAN, _BIG_ENDIAN = 0x377F0682, 0x377F0683
_MASK = 0xFFFFFFFF


class _Promise(NamedTuple):
    frames: int
    copied: int  # to the database already: whatever became of these
    salts: bytes
    checksum: tuple[int, int]  # of the last frame, over all before it


def check_log(database: Path, *, thorough: bool) -> None:
    """Raise StoreUnusableError if commits are gone from the log of a database, or the database from its log.

    `thorough` reads all of their frames.
    """
    if not os.path.lexists(database) and has_log(database):
        raise StoreUnusableError(
            f"{database} was moved or removed, and its log {database}-wal, which holds what was recorded last, is still "
            f"there. Nothing was executed or changed. Move the database back; or, to begin without what it held, delete "
            f"{database}-wal too"
        )
    if _is_empty(database) and has_log(database):  # SQLite would delete the log
        raise StoreUnusableError(
            f"{database} was emptied, and its log {database}-wal, which holds what was recorded last, is still there. Nothing "
            f"was executed or changed. Restore the database from a backup; or, to begin without what it held, delete "
            f"{database}-wal too"
        )
    promise = _read_promise(f"{database}-shm")
    if promise is None or promise.copied >= promise.frames:
        return
    try:
        with open(f"{database}-wal", "rb") as log:
            kept = _keeps(promise, log, thorough=thorough)
    except FileNotFoundError:
        kept = False
    if not kept:
        raise StoreUnusableError(
            f"{database}-wal is damaged or was removed, and with it commits that were on disk. Nothing was executed or "
            f"changed. Restore the database from a backup; or, to go on with what is left and execute again what "
            f"is lost, delete {database}-shm"
        )


def _is_empty(database: Path) -> bool:
    return database.exists() and not database.stat().st_size


def has_log(database: str | os.PathLike[str]) -> bool:
    """Whether there are commits, or what may be some, that SQLite would drop when it made the database anew."""
    try:
        return os.path.getsize(f"{os.fspath(database)}-wal") > 0
    except OSError:
        return False


def _keeps(promise: _Promise, log: BinaryIO, *, thorough: bool) -> bool:
    header = log.read(_LOG_HEADER)
    if len(header) < _LOG_HEADER:
        return False
    (magic,) = struct.unpack_from(">I", header)
    if magic not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
        return False  # a hole, as a log has that was emptied while it was open: its checksum is right
    order = ">" if magic == _BIG_ENDIAN else "<"
    seed: tuple[int, int] = struct.unpack(">II", header[24:])
    if _checksum(header[:24], order, (0, 0)) != seed:
        return False
    if header[16:24] != promise.salts:
        return True  # a later log: the promise is from before a power cut
    (page,) = struct.unpack_from(">I", header, 8)
    first = promise.copied if thorough else promise.frames - 1
    log.seek(_LOG_HEADER + max(first - 1, 0) * (_FRAME_HEADER + page))
    if first:
        seed = struct.unpack(">II", log.read(_FRAME_HEADER + page)[16:24])
    for _ in range(first, promise.frames):
        frame = log.read(_FRAME_HEADER + page)
        if len(frame) < _FRAME_HEADER + page or frame[8:16] != promise.salts:
            return False
        seed = _checksum(frame[_FRAME_HEADER:], order, _checksum(frame[:8], order, seed))
        if struct.pack(">II", *seed) != frame[16:24]:
            return False
    return seed == promise.checksum


def _read_promise(path: str) -> _Promise | None:
    try:
        with open(path, "rb") as file:
            data = file.read(2 * _INDEX_HEADER + 4)
    except OSError:
        return None
    header = data[:_INDEX_HEADER]
    if len(data) < 2 * _INDEX_HEADER + 4 or header != data[_INDEX_HEADER:-4]:
        return None
    if _checksum(header[:40], "=", (0, 0)) != struct.unpack_from("=II", header, 40):
        return None
    (frames,), (copied,) = struct.unpack_from("=I", header, 16), struct.unpack_from("=I", data, 2 * _INDEX_HEADER)
    return _Promise(frames, copied, header[32:40], struct.unpack_from("=II", header, 24))


def _checksum(data: bytes, order: str, seed: tuple[int, int]) -> tuple[int, int]:
    first, second = seed
    for one, other in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
