from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import durable
from durable.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("untimed", deadline=None)  # other processes may have the processor for a while
settings.load_profile("untimed")

# the tests start hundreds of interpreters: those need not compile the package again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def memory_store() -> Iterator[MemoryStore]:
    """A store in memory that is the test's own."""
    store = MemoryStore()
    durable.configure(store)
    yield store
    durable.configure(None)
