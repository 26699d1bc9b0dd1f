from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.command_line import executed, fails, reached, released

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_executed(store: Path) -> None:
    """A store of its own for each test, with nothing executed yet."""
    executed.clear()
    fails.clear()
    reached.clear()
    released.clear()
