from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import durable
from durable.stores import open_store
from tests.integration.cli.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The folder of a store that is the test's own."""
    opened = open_store(tmp_path / "durable.db")
    durable.configure(opened)
    yield tmp_path
    durable.configure(None)
    opened.close()


@pytest.fixture
def durable_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)
