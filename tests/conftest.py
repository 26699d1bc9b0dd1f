from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import durable
from durable.declarations import registry
from durable.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("untimed", deadline=None)  # other processes may have the processor for a while
settings.load_profile("untimed")

# the tests start hundreds of interpreters: those need not compile the package again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    """Runs of a test note only what was patched in it."""
    before = dict(registry.patched)
    yield
    registry.patched.clear()
    registry.patched.update(before)


@pytest.fixture
def memory_store() -> Iterator[MemoryStore]:
    """A store in memory that is the test's own."""
    store = MemoryStore()
    durable.configure(store)
    yield store
    durable.configure(None)
