"""What sensitive steps give is not readable in the database, its write-ahead log or its blobs, nor in copies of them.

The key is the first of DURABLE_SECRET_KEY, else random and kept in a file of its own beside the store: whoever reads that
file can read the values too. A value is masked by the output of SHAKE-256 over the key and a nonce that is never used
again, and bears a keyed digest.
"""

from __future__ import annotations

import hmac
import os
from hashlib import blake2b, shake_256
from typing import TYPE_CHECKING

from durable.folders import sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NONCE, _DIGEST, _KEY = 16, 16, 32  # bytes


class Vault:
    """Locks bytes and unlocks them again; the key file is made when something is locked for the first time."""

    def __init__(self, keys: Sequence[bytes], path: Path | None) -> None:
        """Lock with the first key, unlock with any; without keys, with the one in the file; without a file, with one that
        ends with the process.
        """
        self._keys = [_derived(key) for key in keys]
        self._path = path

    def lock(self, data: bytes) -> bytes:
        """Give bytes that say nothing without the key."""
        if not self._keys:
            self._keys = [_derived(os.urandom(_KEY) if self._path is None else _made(self._path))]
        nonce = os.urandom(_NONCE)
        masked = _masked(self._keys[0], nonce, data)
        return nonce + _digest(self._keys[0], nonce, masked) + masked

    def unlock(self, locked: bytes) -> bytes:
        """Give what was locked; raises ValueError if it was locked with a key that is not here, or is damaged."""
        if not self._keys and self._path is not None and self._path.exists():
            self._keys = [_derived(self._path.read_bytes())]
        nonce, digest, masked = locked[:_NONCE], locked[_NONCE : _NONCE + _DIGEST], locked[_NONCE + _DIGEST :]
        for key in self._keys:
            if hmac.compare_digest(digest, _digest(key, nonce, masked)):
                return _masked(key, nonce, masked)
        raise ValueError("no key that is here fits")


def _derived(key: bytes) -> bytes:
    return blake2b(key, digest_size=_KEY, person=b"durable-vault").digest()


def _digest(key: bytes, nonce: bytes, masked: bytes) -> bytes:
    return blake2b(nonce + masked, key=key, digest_size=_DIGEST, person=b"digest").digest()


def _masked(key: bytes, nonce: bytes, data: bytes) -> bytes:
    size = len(data)
    mask = shake_256(b"durable mask" + key + nonce).digest(size)
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def _made(path: Path) -> bytes:
    """Read the key of a store, made by whoever comes first; it is on disk before anything is locked with it."""
    if not path.exists():
        _make(path)
    sync_folder(path.parent)  # whoever made it may have died before
    return path.read_bytes()


def _make(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(os.urandom(_KEY))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # never in the place of another one
    except FileExistsError:
        pass
    finally:
        draft.unlink()
