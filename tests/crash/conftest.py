from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.faults import Disk, why_not_inject
from tests.crash.scenes import Scene
from tests.crash.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """Forks that have imported the test's module."""
    with Zygote(request.module.__name__) as zygote:
        yield zygote


@pytest.fixture
def scene(zygote: Zygote, tmp_path: Path) -> Scene:
    """An empty store and an empty ledger."""
    return Scene(zygote, tmp_path)


@pytest.fixture
def syscalls() -> None:
    """System calls can be made to fail here."""
    if reason := why_not_inject():
        pytest.skip(reason)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """One MB of disk where the scene's store will be."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    disk = Disk(folder)
    if not disk.mount("size=1m,mode=0700"):
        pytest.skip("needs the right to mount")
    try:
        yield disk
    finally:
        disk.unmount()


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[str]:
    """A folder where flushing costs nothing: it is processes that are killed here, not the machine."""
    if not Path("/dev/shm").is_dir():
        yield str(tmp_path)
        return
    path = tempfile.mkdtemp(dir="/dev/shm")
    yield path
    shutil.rmtree(path)
