"""A SQLite store opens what is its own, migrates what is older, and refuses the rest untouched."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from durable import StoreTooNewError, StoreUnusableError
from durable.records import Batch, Request, StepQuery
from durable.stores import open_store
from durable.stores.sql.columns import FORMAT
from durable.stores.sql.locations import find_mount, is_network
from durable.testing import make_run, make_step
from tests.integration.sqlite_formats import read_schema, write_format_1


def test_directory(tmp_path: Path) -> None:
    """A directory is refused with the path of a file to use instead."""
    with pytest.raises(StoreUnusableError, match="durable.db"):
        open_store(tmp_path)


def test_folder_under_a_file(tmp_path: Path) -> None:
    """A path below a file is refused."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusableError, match="DURABLE_DB"):
        open_store(tmp_path / "file" / "durable.db")


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_not_sqlite(tmp_path: Path, content: bytes) -> None:
    """A file that is no SQLite database is refused and keeps its bytes."""
    path = tmp_path / "durable.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnusableError, match="DURABLE_DB"):
        open_store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mark", ["application_id = 7", "user_version = 1", "cache_size = 10"])
def test_database_of_another_program(tmp_path: Path, mark: str) -> None:
    """A SQLite database that is not a store is refused and keeps its bytes."""
    path = tmp_path / "durable.db"
    connection = sqlite3.connect(path)
    connection.executescript(f"CREATE TABLE runs (id TEXT); PRAGMA {mark};")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(StoreUnusableError, match="another program"):
        open_store(path)
    assert path.read_bytes() == content


def test_newer_format(tmp_path: Path) -> None:
    """A store of a newer release is refused and keeps its bytes, also those that only its WAL holds."""
    path = tmp_path / "durable.db"
    store = open_store(path)
    store.write(Batch(created=(make_run(owner=store.owner),)))
    newer = sqlite3.connect(path, isolation_level=None)
    newer.execute(f"PRAGMA user_version = {FORMAT + 1}")
    store.close()
    contents = [path.read_bytes(), Path(f"{path}-wal").read_bytes()]
    assert len(contents[1]) > 0
    with pytest.raises(StoreTooNewError, match=f"format {FORMAT + 1}.*up to {FORMAT}"):
        open_store(path)
    assert [path.read_bytes(), Path(f"{path}-wal").read_bytes()] == contents
    newer.close()
    content = path.read_bytes()
    with pytest.raises(StoreTooNewError):
        open_store(path)
    assert path.read_bytes() == content


def test_format_1(tmp_path: Path) -> None:
    """A store of format 1 is migrated: its records stay, and it is then like a new one."""
    path, new = tmp_path / "old.db", tmp_path / "new.db"
    write_format_1(path)
    store, fresh = open_store(path), open_store(new)
    assert store.steps("run", StepQuery()) == [make_step(1)]
    claim = store.claim("run", host="here", pid=7, now=2000.0)
    assert claim is not None
    assert claim.previous == make_run()
    store.post_request("run", "cancel")
    assert store.requests() == {"run": Request("cancel")}
    store.close()
    fresh.close()
    assert read_schema(path) == read_schema(new)


def test_empty_file(tmp_path: Path) -> None:
    """An empty file becomes a store."""
    (tmp_path / "durable.db").touch()
    store = open_store(tmp_path / "durable.db")
    store.write(Batch(created=(make_run(owner=store.owner),)))
    assert store.load_run("run") == make_run(owner=store.owner)
    store.close()


@pytest.mark.parametrize("name", ["with space.db", "per%20cent.db", "que?stion#.db", "ünï.db", "quo'te.db"])
def test_names(tmp_path: Path, name: str) -> None:
    """A store's file may have any name, and its URL opens it again."""
    store = open_store(tmp_path / name)
    store.write(Batch(created=(make_run(owner=store.owner),)))
    again = open_store(store.url)
    assert again.load_run("run") == store.load_run("run")
    assert (tmp_path / name).exists()
    again.close()
    store.close()


def test_durability_in_force(tmp_path: Path) -> None:
    """The report says what SQLite answers: WAL and a flush at every commit."""
    store = open_store(tmp_path / "durable.db")
    report = store.report()
    assert report["durability"] == "journal_mode=wal, synchronous=FULL"
    assert report["integrity"] == "ok"
    assert report["file permissions"] == "0o600"
    store.close()


_MOUNTS = r"""/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ada/local\040disk xfs rw 0 0
//server/share /mnt/share cifs rw 0 0
ada@host: /mnt/ssh fuse.sshfs rw 0 0
tmpfs /homework tmpfs rw 0 0
/dev/sdc1 /mnt/share ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/lib", "ext4", False),
        ("/", "ext4", False),
        ("/home/ada", "nfs4", True),
        ("/home", "nfs4", True),
        ("/home/ada/local disk/project", "xfs", False),
        ("/homework/project", "tmpfs", False),
        ("/mnt/ssh/project", "fuse.sshfs", True),
        ("/mnt/share/project", "ext4", False),  # what was mounted last hides what was there
    ],
)
def test_file_systems(path: str, kind: str, network: bool) -> None:
    """The mount with the longest matching path counts, whole names only, and network file systems are known."""
    assert find_mount(path, _MOUNTS) == kind
    assert is_network(kind) is network


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "lustre"])
def test_network_file_systems(kind: str) -> None:
    """Network file systems are refused."""
    assert is_network(kind)


def test_unknown_mounts() -> None:
    """Without a list of mounts nothing is known and nothing refused."""
    assert find_mount("/home", "") == ""
    assert not is_network("")
