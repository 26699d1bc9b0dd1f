"""Where a SQLite store may lie: a private folder on a local disk."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from durable.errors import StoreUnusableError

_NETWORK = ("nfs", "cifs", "smb", "afs", "9p", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "lustre", "ceph", "glusterfs")
_MOUNTS = Path("/proc/self/mounts")  # Linux


def prepare_location(path: Path) -> None:
    """Make the folder of a store if it is absent, and refuse a place that cannot keep one."""
    if path.is_dir():
        raise StoreUnusableError(
            f"{path} is a directory, not a store. Give the path of a file, such as {path / 'durable.db'}."
        )
    if path.exists() and not path.is_file():
        raise StoreUnusableError(f"{path} is a device or a pipe, not a store. Choose a file with DURABLE_DB.")
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.name == ".durable":
            _ignore_in_git(folder)
    except OSError as error:
        raise StoreUnusableError(
            f"The folder {folder} for the store cannot be made: {error.strerror}. Choose another path with DURABLE_DB."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise StoreUnusableError(
            f"{path} is not writable. Mend the permissions, or choose another path with DURABLE_DB."
        )
    kind = _kind_of_file_system(folder)
    if is_network(kind):
        raise StoreUnusableError(
            f"{path} lies on a network file system ({kind}), where locks and flushes cannot be relied on. Choose a "
            f"path on a local disk with DURABLE_DB."
        )


def _ignore_in_git(folder: Path) -> None:
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as mark:
        mark.write("*\n")


def _kind_of_file_system(folder: Path) -> str:
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return ""
    return find_mount(os.path.realpath(folder), mounts)


def find_mount(path: str, mounts: str) -> str:
    """Give the kind of file system that an absolute path lies on, from the text of /proc/self/mounts; "" if unknown."""
    longest, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 -- device, mount point, kind
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]).rstrip("/")
        if (path == point or path.startswith(point + "/")) and len(point) >= longest:
            longest, kind = len(point), fields[2]
    return kind


def is_network(kind: str) -> bool:
    """Whether a kind of file system is one over a network."""
    return kind.startswith(_NETWORK)
