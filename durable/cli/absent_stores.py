"""A command that looks for runs where there is no store yet finds none, and leaves no store behind.

A folder `.durable/` that was made by looking would become the store of every program below it.
"""

from __future__ import annotations

import os

from durable.stores.memory import MemoryStore

_SQLITE = "sqlite:///"


class AbsentStore(MemoryStore):
    """Stands for a store that nobody has made yet."""

    def __init__(self, location: str) -> None:
        """Stand for the store that would be made here."""
        super().__init__()
        self._location = location

    @property
    def url(self) -> str:
        """Where the first run will make it."""
        return f"{self._location} (not there yet)"


def is_absent(location: str) -> bool:
    """Whether a location names a file that does not exist."""
    path = location.removeprefix(_SQLITE)
    if not path or "://" in path or path.startswith("memory:") or os.path.lexists(path):
        return False
    return not os.path.exists(f"{path}-wal")  # whose database is gone, as opening it will say
