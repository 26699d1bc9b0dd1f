from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crash.plays import Ledger
from tests.crash.zygote import Zygote
from tests.property.plans import Plan, Stage, perform

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

_names = (f"run-{number}" for number in itertools.count())
_letters = st.sampled_from("abc")
_leaves = st.one_of(
    st.tuples(st.just("job"), _letters),
    st.tuples(st.just("sync"), _letters),
    st.tuples(st.just("token")),
    st.tuples(st.just("pay")),
    st.tuples(st.just("fail"), _letters),
    st.tuples(st.just("attempts"), _letters, st.integers(0, 2)),
)


def _trees(parts: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    several = st.lists(parts, min_size=2, max_size=4)
    return st.one_of(
        several.map(lambda plans: ("seq", *plans)),
        several.map(lambda plans: ("gather", *plans)),
        st.tuples(st.just("loop"), st.integers(1, 3), parts),
        st.tuples(st.just("outer"), parts),
        st.tuples(st.just("scope"), _letters, parts),
        st.tuples(st.just("caught"), parts, parts),
        st.tuples(st.just("branch"), _letters, parts, parts),
    )


_plans = st.recursive(_leaves, _trees, max_leaves=12)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("tests.property.plans", "tenacity") as zygote:
        yield zygote


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder where flushing costs nothing: it is processes that are killed here, not the machine."""
    memory = Path("/dev/shm")
    path = tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path_factory.getbasetemp())
    yield path
    shutil.rmtree(path)


@settings(max_examples=150)
@given(plan=_plans, crashes=st.lists(st.integers(1, 40), min_size=1, max_size=2), is_async=st.booleans())
def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_not(
    zygote: Zygote, folder: str, plan: Plan, crashes: list[int], is_async: bool
) -> None:
    """Recorded steps are never executed again, recorded values never change, and the outcome is the undisturbed one."""
    undisturbed = zygote.run(perform, Stage(folder, next(_names), plan, is_async), 0, 0)
    stage = Stage(folder, next(_names), plan, is_async)
    for number, kill_at in enumerate(crashes):
        zygote.run(perform, stage, number, kill_at)
    outcome: Any = zygote.run(perform, stage, len(crashes), 0)
    assert outcome == undisturbed
    ledger = Ledger.read(stage.ledger)
    assert ledger.faults(unique=lambda name: name.startswith("pay")) == []
    paid = [name for _, name, _ in ledger.begun if name.startswith("pay")]
    assert len(paid) == len(set(paid))
