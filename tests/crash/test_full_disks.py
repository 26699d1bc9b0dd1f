"""Where there is no room to record, nothing is executed; what was executed already is kept until there is room."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did
from tests.crash.faults import Disk, limit_file_size
from tests.crash.orders import check_once, orders, orders_until_paid, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Scene

_NOBODY = 65534


def test_full_before_anything(scene: Scene, disk: Disk) -> None:
    """On a disk that is full nothing is executed, and with room again the run begins."""
    ballast = disk.fill()
    outcome = scene.start(orders)
    assert outcome.error in ("StoreUnusableError", "StoreFailedError"), outcome
    assert str(scene.db) in outcome.message
    assert scene.ledger == []
    ballast.unlink()
    check_once(scene, scene.start(settle))


def test_full_before_going_on(scene: Scene, disk: Disk) -> None:
    """An interrupted run goes on as far as there is room in its log, and to the end with room again."""
    scene.kill("", orders_until_paid)
    ballast = disk.fill()
    outcome = scene.start(orders)
    assert outcome.error in ("StoreUnusableError", "StoreFailedError", ""), outcome
    ballast.unlink()
    check_once(scene, scene.start(settle))


@task(idempotent=False)
def upload(folder: str) -> str:
    did("upload")
    Disk(Path(folder)).fill()
    return "x" * 100_000


@task
def publish(address: str) -> int:
    did("publish")
    return len(address)


@workflow
def site(folder: str) -> int:
    try:
        address = upload(folder)
    except Exception:
        address = ""
    return publish(address)


def site_without_room(folder: str) -> str:
    with pytest.raises(durable.StoreFailedError) as failed:
        site(folder)
    (Path(folder) / "ballast").unlink()
    return str(failed.value)


def site_with_room_again(folder: str) -> tuple[str, int]:
    return site_without_room(folder), site(folder)


def test_full_after_the_body(scene: Scene, disk: Disk) -> None:
    """A result that found no room is named in the error and is recorded by the next call, once there is room."""
    outcome = scene.start(site_with_room_again, str(disk.folder))
    assert outcome.error == "", outcome
    message, length = outcome.value
    assert "not known to be recorded: upload" in message
    assert "Make room" in message
    assert length == 100_000
    assert scene.ledger == ["upload", "publish"]


def test_full_after_the_body_and_then_ended(scene: Scene, disk: Disk) -> None:
    """If the process ends before there is room the step is in doubt, and is not executed again."""
    assert scene.start(site_without_room, str(disk.folder)).error == ""
    outcome = scene.start(site, str(disk.folder))
    assert outcome.error == "StepInDoubtError"
    assert "upload" in outcome.message
    assert scene.ledger == ["upload"]


def orders_within(size: int) -> tuple[str, list[str]]:
    limit_file_size(size)
    said = ""
    try:
        orders()
    except durable.StoreError as error:
        said = str(error)
        did("failed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return said, orders()


@pytest.mark.parametrize("padding", [0, 300_000])
def test_limited_file_size(scene: Scene, padding: int) -> None:
    """Wherever a limit on file sizes strikes, nothing is executed after it; without it the same process goes on."""
    failed = 0
    for size in (1000, 20_000, 40_000, 60_000, 100_000, 200_000, 400_000):
        scene.db = scene.folder / str(size) / "durable.db"
        scene.forget()
        outcome = scene.start(orders_within, size, SIZE=str(padding))
        assert outcome.error == "", outcome
        said, receipts = outcome.value
        assert (str(scene.db) in said) == ("failed" in scene.ledger)
        failed += bool(said)
        outcome = scene.start(settle, SIZE=str(padding))
        check_once(scene, outcome)
        assert outcome.value == receipts
        before = scene.ledger.index("failed") if said else 0
        paid = [line.split()[1] for line in scene.ledger[:before] if line.startswith("pay")]
        got = [line.split()[1] for line in scene.ledger[:before] if line.startswith("got")]
        assert all(f"pay:{number}" in said for number in paid if number not in got)
    assert failed > 1


def test_read_only_disk(scene: Scene, disk: Disk) -> None:
    """On a disk that cannot be written nothing is executed, also if it was written before."""
    scene.kill("", orders_until_paid)
    ledger = scene.ledger
    assert disk.mount("remount,ro,size=1m")
    outcome = scene.start(orders)
    assert outcome.error == "StoreUnusableError", outcome
    assert str(scene.db) in outcome.message
    assert scene.ledger == ledger
    assert disk.mount("remount,rw,size=1m")
    check_once(scene, scene.start(settle))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("needs to become another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_nobody() -> list[str]:
    os.setuid(_NOBODY)
    return orders()


@pytest.mark.parametrize("unwritable", ["folder", "database", "log"])
def test_files_of_another_user(scene: Scene, open_folder: Path, unwritable: str) -> None:
    """Without the right to write the folder, the database or its log, nothing is executed and nothing is lost."""
    scene.folder = open_folder
    scene.db = open_folder / "durable.db"
    scene._ledger = open_folder / "ledger"
    scene.kill("", orders_until_paid)
    ledger = scene.ledger
    modes = {"folder": {open_folder: 0o755}, "database": {scene.db: 0o444}, "log": {Path(f"{scene.db}-wal"): 0o444}}
    for path in (open_folder, *open_folder.iterdir()):
        path.chmod(0o777)
    for path, mode in modes[unwritable].items():
        path.chmod(mode)
    outcome = scene.start(as_nobody)
    assert outcome.error == "StoreUnusableError", outcome
    assert str(scene.db) in outcome.message
    assert scene.ledger == ledger
    check_once(scene, scene.start(settle))
