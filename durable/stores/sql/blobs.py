"""Large values as content-addressed files: a file is complete and on disk before any row refers to it.

Everything but `get` is called under the write lock, so that nobody removes a file that another is about to refer to.
"""

from __future__ import annotations

import contextlib
import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError
from durable.folders import sync_folder
from durable.stores.sql.locks import open_private

if TYPE_CHECKING:
    from pathlib import Path

BLOB_SIZE = 256 * 1024  # bytes; larger values get a file of their own


class Blobs:
    """A folder of values; a reference is a zero byte and the digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def shrink(self, value: bytes | None) -> bytes | None:
        """Give what goes into the row: the value, or a reference if it is large."""
        return value if value is None or len(value) <= BLOB_SIZE else self.put(value)

    def put(self, value: bytes) -> bytes:
        """Have a large value on disk, and give the reference that goes into its row."""
        digest = blake2b(value, digest_size=32).digest()
        path = self._path(digest)
        if not (path.exists() and path.stat().st_size == len(value)):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._write(path, value)
        # Also for a file that was found: whoever made it may have been killed before its name was on disk.
        sync_folder(self._folder)
        sync_folder(self._folder.parent)
        return b"\0" + digest

    def _write(self, path: Path, value: bytes) -> None:
        partial = path.with_name(f".{path.name}.{os.urandom(16).hex()}")
        try:
            with os.fdopen(open_private(partial), "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def get(self, reference: bytes) -> bytes:
        """Give the value of a reference, verified."""
        path = self._path(reference[1:])
        try:
            value = path.read_bytes()
        except OSError as error:
            raise CorruptRecordError(
                f"A stored value is gone: {path} ({error.strerror}). Nothing was executed. Put the file back, or begin "
                f"again with DURABLE_FRESH=1."
            ) from error
        if blake2b(value, digest_size=32).digest() != reference[1:]:
            raise CorruptRecordError(
                f"A stored value is damaged: {path} does not match its name. Nothing was executed. Restore the file "
                f"from a backup, or begin again with DURABLE_FRESH=1."
            )
        return value

    def drop(self, reference: bytes) -> None:
        """Remove the file of a reference."""
        with contextlib.suppress(OSError):
            self._path(reference[1:]).unlink()

    def sweep(self, held: set[bytes]) -> int:
        """Remove the files that no reference in `held` leads to; gives their number."""
        names = {reference[1:].hex() for reference in held}
        orphans = [path for path in self._folder.glob("[0-9a-f]" * 64) if path.name not in names]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)

    def forget_partial(self) -> None:
        """Remove what writers that were killed have left behind."""
        for path in self._folder.glob(".*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()
