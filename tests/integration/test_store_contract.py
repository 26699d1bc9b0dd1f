"""Every store that comes with the library keeps the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable.stores import open_store
from durable.testing import StoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from durable.stores import Store


class TestMemoryStore(StoreContract):
    """Keeps everything for as long as its process lives."""

    def make_store(self) -> Store:
        return open_store("memory:")

    def open_again(self, store: Store) -> Store | None:
        return None


class TestSQLiteStore(StoreContract):
    """Keeps everything in a file."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._made = (tmp_path / f"{number}.db" for number in range(100))

    def make_store(self) -> Store:
        return open_store(next(self._made))

    def open_again(self, store: Store) -> Store | None:
        return open_store(store.url)
