"""Stores in trouble, or made by somebody else: other runs go on, nothing is executed unsaved, or it just works."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.stores.memory import MemoryStore
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from durable.records import Batch, Claim
    from tests.crash.scenes import Scene


@task
def part(name: str) -> str:
    did(name)
    return f"result of {name}"


@task
def refused(name: str) -> str:
    did(name)
    raise ValueError(name)


@workflow(run_id="run-{name}")
def parts(name: str) -> list[str]:
    with contextlib.suppress(ValueError):
        refused(f"{name} 1")
    found = [part(f"{name} 2")]
    saved(f"{name} half")
    return [*found, part(f"{name} 3")]


@pytest.mark.parametrize(
    "damage", ["substr({0}, 1, length({0}) / 2)", "substr({0}, 1, length({0}) - 1) || x'07'", "x''"]
)
@pytest.mark.parametrize(("table", "column"), [("steps", "value"), ("steps", "error"), ("runs", "result")])
def test_a_damaged_record_is_an_error(scene: Scene, table: str, column: str, damage: str) -> None:
    """A truncated or corrupt record: a typed error that names the run, nothing executed; other runs list and resume."""
    if column == "result":
        scene.start(parts, "ada")
    else:
        scene.kill("ada half", parts, "ada")
    scene.kill("bob half", parts, "bob")
    with contextlib.closing(sqlite3.connect(scene.db)) as db, db:
        whose = "id = 'run-ada'" if table == "runs" else "id >> 32 = (SELECT pk FROM runs WHERE id = 'run-ada')"
        changed = damage.format(column)
        db.execute(f"UPDATE {table} SET {column} = CAST({changed} AS BLOB) WHERE {whose} AND {column} IS NOT NULL")
    scene.forget()
    for _ in range(2):
        outcome = scene.start(parts, "ada")
        assert outcome.error == "CorruptRecordError"
        assert "run-ada" in outcome.message
    assert scene.start(_all_runs).value == ["run-ada", "run-bob"]
    assert scene.start(parts, "bob").value == ["result of bob 2", "result of bob 3"]
    assert scene.ledger == ["bob 3"]


@pytest.mark.parametrize("damage", ["arguments = CAST(x'fb' || substr(arguments, 2) AS BLOB)", "outcome = '{'"])
def test_a_damaged_run_is_an_error(scene: Scene, damage: str) -> None:
    """What a run notes of itself cannot be read: a typed error that names the run, nothing executed."""
    scene.kill("ada half", parts, "ada")
    with contextlib.closing(sqlite3.connect(scene.db)) as db, db:
        db.execute(f"UPDATE runs SET {damage}")
    scene.forget()
    outcome = scene.start(parts, "ada")
    assert outcome.error == "CorruptRecordError"
    assert "run-ada" in outcome.message
    assert scene.ledger == []


def _all_runs() -> list[str]:
    return sorted(run.id for run in durable.list_runs())


@task
def large(name: str) -> bytes:
    did(name)
    return os.urandom(300_000)


@workflow(run_id="large")
def with_a_large_value() -> int:
    size = len(large("large"))
    saved("large value")
    return size


@pytest.mark.parametrize("is_gone", [False, True], ids=["truncated", "gone"])
def test_a_damaged_large_value_is_an_error(scene: Scene, is_gone: bool) -> None:
    """The file of a large value is truncated or gone: a typed error that names the run, nothing executed."""
    scene.kill("large value", with_a_large_value)
    [file] = (path for path in scene.db.parent.rglob("*") if path.is_file() and path.stat().st_size > 290_000)
    if is_gone:
        file.unlink()
    else:
        os.truncate(file, 1000)
    outcome = scene.start(with_a_large_value)
    assert outcome.error == "CorruptRecordError"
    assert "run 'large'" in outcome.message
    assert scene.ledger == ["large"]


@workflow
def on_a_full_disk(is_full: bool) -> list[str]:
    found = [part("a")]
    saved("a")
    if is_full and "FULL" in os.environ:
        log = Path(os.environ["DURABLE_DB"] + "-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
    with contextlib.suppress(Exception):
        found.append(part("b"))
    return [*found, part("c")]


def test_a_save_that_fails_stops_the_run(scene: Scene) -> None:
    """A disk without space: the run stops with an error and nothing after it is executed; with space it goes on."""
    outcome = scene.start(on_a_full_disk, True, FULL="yes")
    assert outcome.error == "StoreFailedError"
    assert scene.ledger == ["a"]
    assert scene.start(on_a_full_disk, True).value == ["result of a", "result of b", "result of c"]
    assert scene.ledger == ["a", "b", "c"]


def _as_nobody() -> list[str]:
    if os.geteuid() == 0:
        os.setuid(65534)
    return parts("ada")


@pytest.mark.skipif(os.name == "nt", reason="modes of folders are POSIX's")
def test_a_read_only_folder_is_refused(scene: Scene) -> None:
    """A folder that cannot be written: an error before anything is executed, never a run that is not saved."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        outcome = scene.start(_as_nobody, DURABLE_DB=f"{folder}/durable.db")
        assert outcome.error == "StoreUnusableError"
        assert folder in outcome.message
        assert os.listdir(folder) == []
    assert scene.ledger == []


def test_a_newer_store_is_refused(scene: Scene) -> None:
    """A store of a newer format is refused by calls and commands, and nothing is executed."""
    scene.kill("ada half", parts, "ada")
    with contextlib.closing(sqlite3.connect(scene.db)) as db:
        [found] = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {found + 1}")
    scene.forget()
    outcome = scene.start(parts, "ada")
    assert outcome.error == "StoreTooNewError"
    assert f"format {found + 1}" in outcome.message
    listed = scene.cli("ls")
    assert listed.returncode > 0
    assert "Upgrade durable" in listed.stderr
    assert scene.ledger == []


class FileStore(MemoryStore):
    """A store of the user's own: everything in one file, written anew at each change."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        if self._path.exists():
            self._runs, self._steps = pickle.loads(self._path.read_bytes())

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        with self._guard:
            lost = super().write(batch, wait=wait)
            self._save()
            return lost

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        with self._guard:
            claim = super().claim(run_id, host=host, pid=pid, now=now)
            self._save()
            return claim

    def _save(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_bytes(pickle.dumps((self._runs, self._steps)))
        new.replace(self._path)


def _with_own_store(name: str) -> list[str]:
    durable.configure(FileStore(os.environ["OWN"]))
    return parts(name)


def test_a_store_of_the_users_own(scene: Scene) -> None:
    """A store that the user wrote is plugged in: absent runs are begun, killed ones resumed, finished ones returned."""
    own = str(scene.folder / "own")
    for name in ("ada", "bob"):
        scene.kill(f"{name} half", _with_own_store, name, OWN=own)
    for _ in range(2):
        assert scene.start(_with_own_store, "ada", OWN=own).value == ["result of ada 2", "result of ada 3"]
    assert scene.ledger == ["ada 1", "ada 2", "bob 1", "bob 2", "ada 3"]
    assert not scene.db.exists()
