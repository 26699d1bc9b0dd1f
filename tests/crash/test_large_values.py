"""Large values lie in files of their own: a record never refers to half a file, and files without a record can go."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.records import StepQuery
from durable.runs import sessions
from durable.stores.sql.blobs import Blobs
from tests.crash.effects import did
from tests.crash.faults import inject
from tests.crash.orders import check_once, orders, settle
from tests.crash.zygote import KILLED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.scenes import Scene

_SIZE = 300_000
_POINTS = range(1, 30, 2)  # calls of each kind at which the program is killed


def orders_under(rule: str) -> list[str]:
    inject(rule)
    return orders()


def killed_in_a_file(number: int) -> list[str]:
    """Be killed when half of the n-th large value is written."""
    put, count = os.write, 0
    write = Blobs._write

    def half(blobs: Blobs, path: Path, value: bytes) -> None:
        nonlocal count
        count += 1
        if count == number:
            partial = path.with_name(f".{path.name}.half")
            put(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600), value[: len(value) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(blobs, path, value)

    Blobs._write = half  # type: ignore[assignment]  # the only way to stop in the middle of a file
    return orders()


def references() -> set[str]:
    """Read every large value and give the names of their files."""
    store = sessions.current().store
    found = set()
    for run in durable.list_runs():
        for step in store.steps(run.id, StepQuery()):
            if step.value is not None and step.value[:1] == b"\0":
                assert len(store.fetch(step.value)) > _SIZE
                found.add(step.value[1:].hex())
    return found


def _files(scene: Scene) -> set[str]:
    folder = scene.db.with_name("durable.db.blobs")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _check_files(scene: Scene) -> None:
    outcome = scene.start(references)
    assert outcome.error == "", outcome
    assert outcome.value <= _files(scene)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_in_a_file(scene: Scene, number: int) -> None:
    """Killed when half of a file is written: no record refers to it, and it is gone at the next opening."""
    assert scene.risk(killed_in_a_file, number, SIZE=str(_SIZE)) == KILLED
    assert any(name.endswith(".half") for name in _files(scene))
    _check_files(scene)
    check_once(scene, scene.start(settle, SIZE=str(_SIZE)))
    assert scene.start(references).value == _files(scene)


@pytest.mark.usefixtures("syscalls")
@pytest.mark.parametrize("call", ["fsync", "rename", "fdatasync"])
def test_killed_around_a_file(scene: Scene, call: str) -> None:
    """Killed at any flush or renaming while large values are recorded: every value that is referred to can be read."""
    for number in _POINTS:
        scene.db = scene.folder / str(number) / "durable.db"
        scene.forget()
        outcome = scene.risk(orders_under, f"{call}:signal=SIGKILL:when={number}", SIZE=str(_SIZE))
        _check_files(scene)
        check_once(scene, scene.start(settle, SIZE=str(_SIZE)))
        if outcome != KILLED:
            break
    assert number > 2


@task
def draw(name: str) -> bytes:
    did(name)
    return os.urandom(_SIZE)


@workflow
def drawing(name: str) -> int:
    return len(draw(name))


def killed_before_the_row() -> int:
    """Be killed when the file of a value is complete and its record is not written."""
    write = Blobs._write

    def then_die(blobs: Blobs, path: Path, value: bytes) -> None:
        write(blobs, path, value)
        os.kill(os.getpid(), signal.SIGKILL)

    Blobs._write = then_die  # type: ignore[assignment]  # see above
    return drawing("lost")


def test_files_without_a_record(scene: Scene) -> None:
    """`durable gc` removes complete files that no record refers to, and nothing else."""
    assert scene.start(drawing, "kept").value == _SIZE
    assert scene.risk(killed_before_the_row) == KILLED
    kept = scene.start(references).value
    assert len(kept) == 1
    assert len(_files(scene)) == 2
    (scene.db.with_name("durable.db.blobs") / "note.txt").write_text("of the user")
    done = scene.cli("gc", "--older-than", "30d")
    assert done.returncode == 0, done.stderr
    assert re.search(r"0 runs removed", done.stdout + done.stderr)
    assert _files(scene) == {*kept, "note.txt"}
    assert scene.start(drawing, "lost").value == scene.start(drawing, "kept").value == _SIZE
    assert scene.ledger == ["kept", "lost", "lost"]
