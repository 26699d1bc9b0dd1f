from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

import durable
from durable.declarations import registry
from durable.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

# the same examples each time, however busy the machine is: a failure concerns what was changed
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# the tests start hundreds of interpreters: those need not compile the package again each time
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests wait for disks and for other processes half of their time."""
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


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
