from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.scenes import Scene
from tests.crash.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """Forks that have imported the test's module."""
    with Zygote(request.module.__name__) as zygote:
        yield zygote


@pytest.fixture
def scene(zygote: Zygote, tmp_path: Path) -> Scene:
    """An empty store and an empty ledger."""
    return Scene(zygote, tmp_path)
