"""Where a SQLite store may lie: a private folder on a local disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from durable.errors import StoreUnusableError

_NETWORK = ("nfs", "cifs", "smb", "afs", "9p", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "lustre", "ceph", "glusterfs")


def prepare_location(path: Path) -> None:
    """Make the folder of a store if it is absent, and refuse a place that cannot keep one."""
    if path.is_dir():
        raise StoreUnusableError(f"{path} is a directory, not a store. Give the path of a file, such as {path / 'durable.db'}.")
    folder = path.parent
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
        if folder.name == ".durable":
            _ignore_in_git(folder)
    except OSError as error:
        raise StoreUnusableError(
            f"The folder {folder} for the store cannot be made: {error.strerror}. Choose another path with DURABLE_DB."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise StoreUnusableError(f"{path} is not writable. Mend the permissions, or choose another path with DURABLE_DB.")
    if (kind := _network_file_system(folder)) is not None:
        raise StoreUnusableError(
            f"{path} lies on a network file system ({kind}), where locks and flushes cannot be relied on. Choose a path on "
            f"a local disk with DURABLE_DB."
        )


def _ignore_in_git(folder: Path) -> None:
    mark = folder / ".gitignore"
    if not mark.exists():
        mark.write_text("*\n")


def _network_file_system(folder: Path) -> str | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    real, best, kind = os.path.realpath(folder), "", ""
    for line in mounts:
        fields = line.split(" ")
        point = fields[1].encode().decode("unicode_escape")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind if kind.startswith(_NETWORK) else None
