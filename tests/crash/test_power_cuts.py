"""A power cut takes everything that was not flushed, and nothing that was acknowledged."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from durable.runs import sessions
from tests.crash.orders import check_once, orders, settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.scenes import Scene

_SHUT_DOWN, _WITHOUT_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN
_SIZE = 24 * 1024 * 1024


class CutDisk:
    """A small ext4 that can lose its power."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self._folder = folder

    def make(self) -> bool:
        """Make and mount it; False if that is not permitted here."""
        if not all(map(shutil.which, ("mkfs.ext4", "mount", "umount"))):
            return False
        with self._image.open("wb") as file:
            file.truncate(_SIZE)
        return _succeeds("mkfs.ext4", "-q", str(self._image)) and self.mount()

    def mount(self) -> bool:
        return _succeeds("mount", "-o", "loop", str(self._image), str(self._folder))

    def cut(self) -> None:
        """Lose the power, and get it back."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        os.close(descriptor)
        self.unmount()
        assert self.mount()

    def unmount(self) -> None:
        _succeeds("umount", str(self._folder))


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def cut_disk(tmp_path: Path) -> Iterator[CutDisk]:
    """A disk that can lose its power where the scene's store will be."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    disk = CutDisk(tmp_path / "image", folder)
    if not disk.make():
        pytest.skip("needs mkfs.ext4 and the right to mount a loop device")
    folder.chmod(0o700)
    try:
        yield disk
    finally:
        disk.unmount()


def killed_at(what: str, number: int) -> None:
    """Go on, and be killed at an effect that this process has."""
    os.environ["KILL_AT"] = f"{what} {number} receipt-{os.getpid()}-{number}"
    settle()


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize("what", ["pay", "got", "note"])
def test_power_cuts(scene: Scene, cut_disk: CutDisk, what: str, padding: int) -> None:
    """The power is cut three times during one run, and after it: payments are made once, and no receipt is lost."""
    size = str(padding)
    for number in (1, 2, 3):
        scene.kill("", killed_at, what, number, SIZE=size)
        cut_disk.cut()
    outcome = scene.start(settle, SIZE=size)
    check_once(scene, outcome)
    ledger = scene.ledger
    cut_disk.cut()
    assert scene.start(orders, SIZE=size).value == outcome.value
    assert scene.ledger == ledger


def orders_and_close() -> list[str]:
    receipts = orders()
    sessions.current().store.close()
    return receipts


def test_power_cut_after_closing(scene: Scene, cut_disk: CutDisk) -> None:
    """What a process recorded before it closed its store is there after a power cut; what nobody flushed is not."""
    outcome = scene.start(orders_and_close)
    ledger = scene.ledger
    unflushed = scene.db.with_name("unflushed")
    unflushed.write_text("lost")
    cut_disk.cut()
    assert not unflushed.exists()
    assert scene.start(settle).value == outcome.value
    assert scene.ledger == ledger
