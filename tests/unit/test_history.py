from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from durable.identity.step_keys import Scope
from durable.steps.history import StepHistory
from durable.stores import open_store
from durable.stores.memory import MemoryStore
from durable.stores.sql.sqlite import SQLiteStore
from tests.unit.histories import RUN, make_step, store_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from durable.records import StepQuery, StepRecord
    from durable.stores.protocol import Store


class CountingStore(SQLiteStore):
    """Counts the rows that were read."""

    rows = 0

    def steps(self, run_id: str, query: StepQuery) -> Sequence[StepRecord]:
        found = super().steps(run_id, query)
        self.rows += len(found)
        return found


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = MemoryStore() if request.param == "memory" else open_store(tmp_path / "durable.db")
    yield opened
    opened.close()


def _open(
    store: Store, steps: Iterable[StepRecord], *, last: int = 1_000_000, page: int = 3
) -> tuple[StepHistory, Scope]:
    store_steps(store, steps)
    history = StepHistory(store, RUN, 0, last, page=page)
    return history, Scope("", "", history)


def _content(name: str) -> bytes:
    return make_step(1, name=name).content


def _seq(record: StepRecord | None) -> int | None:
    return None if record is None else record.seq


def test_every_record_is_used_once(store: Store) -> None:
    """The record of a scope, content and occurrence is given to one call and to no other."""
    history, scope = _open(store, [make_step(n, occurrence=n) for n in range(1, 8)])
    assert [_seq(history.take(scope, _content("job"), n)) for n in range(1, 8)] == [1, 2, 3, 4, 5, 6, 7]
    assert [history.take(scope, _content("job"), n) for n in range(1, 9)] == [None] * 8
    assert history.is_empty


def test_calls_in_any_order_find_their_records(store: Store) -> None:
    """Records far beyond the loaded pages are found by what the call says."""
    history, scope = _open(store, [make_step(n, name=f"job {n}") for n in range(1, 60)])
    order = list(range(1, 60))
    random.Random(1).shuffle(order)
    assert [_seq(history.take(scope, _content(f"job {n}"), 1)) for n in order] == order
    assert history.take(scope, _content("job 1"), 1) is None
    assert history.is_empty


def test_branches_that_say_the_same_find_their_own_records(store: Store) -> None:
    """However many branches make the same call, each finds what was recorded for it."""
    history, root = _open(store, [make_step(n, branch=f"branch:{n}") for n in range(1, 60)])
    for n in range(59, 0, -1):
        assert _seq(history.take(root.branched(f"branch:{n}"), _content("job"), 1)) == n


def test_only_what_was_recorded_below_the_step_counts(store: Store) -> None:
    """Steps of other bodies, and steps that this execution itself records, are not found."""
    steps = [
        make_step(1, name="outer"),
        make_step(2, parent=1),
        make_step(3, parent=9),
        make_step(4, parent=1, name="new"),
    ]
    store_steps(store, steps)
    history = StepHistory(store, RUN, 1, 3, page=3)
    scope = Scope("outer", "", history)
    inner = Scope("", "", history)
    assert history.take(scope, _content("job"), 1) is None
    assert _seq(history.take(inner, _content("job"), 1)) == 2
    assert history.take(inner, _content("new"), 1) is None


def test_siblings_come_first_and_other_containers_never() -> None:
    """A record of another branch is taken from a sibling before anybody else, and never from a named scope or step."""
    steps = [
        make_step(1, branch="far/a"),
        make_step(2, branch="near/b"),
        make_step(3, container="named", branch="near/b"),
    ]
    history, root = _open(MemoryStore(), steps, page=10)
    mine = root.branched("near").branched("c")
    assert history.take(mine, _content("job"), 1) is None
    assert _seq(history.take_elsewhere(mine, _content("job"))) == 2
    assert _seq(history.take_elsewhere(mine, _content("job"))) == 1
    assert history.take_elsewhere(mine, _content("job")) is None


def test_a_key_stays_occupied_by_the_call_that_took_it_over(store: Store) -> None:
    """A record that was taken from elsewhere keeps its key, so nothing else can get it."""
    history, root = _open(store, [make_step(1, branch="a")])
    other = root.branched("b")
    assert not history.is_occupied(other, _content("job"), 1)
    assert history.take_elsewhere(other, _content("job")) is not None
    assert history.is_occupied(root.branched("a"), _content("job"), 1)


def test_unused_steps_of_a_task_are_listed_wherever_they_stand(store: Store) -> None:
    """What the scope still holds is found in loaded and in unread pages, without what was used."""
    steps = [make_step(n, name=f"job {n}", task="job" if n % 2 else "other") for n in range(1, 21)]
    history, scope = _open(store, [*steps, make_step(30, branch="elsewhere", task="job")], page=8)
    history.take(scope, _content("job 1"), 1)
    history.take(scope, _content("job 15"), 1)
    unused = history.unused(lambda label: label == "job", where=("", ""))
    assert [record.seq for record in unused] == [3, 5, 7, 9, 11, 13, 17, 19]
    history.use(unused[0])
    history.use(unused[-1])
    unused = history.unused(lambda label: label == "job", where=("", ""))
    assert [record.seq for record in unused] == [5, 7, 9, 11, 13, 17]


def test_an_unused_step_that_was_left_running_is_never_overlooked(store: Store) -> None:
    """However many finished steps stand before it, a step in doubt is listed."""
    steps = [
        make_step(n, name=f"job {n}", task="job", status="started" if n == 50 else "succeeded") for n in range(1, 60)
    ]
    history, _scope = _open(store, steps)
    assert 50 in [record.seq for record in history.unused(lambda label: label == "job", where=("", ""))]


def test_a_used_record_is_exchanged_for_one_that_fits(store: Store) -> None:
    """The record that was given back is used by the next call."""
    history, scope = _open(store, [make_step(n, occurrence=n, value=str(n).encode()) for n in (1, 2)])
    first = history.take(scope, _content("job"), 1)
    assert first is not None
    assert _seq(history.exchange(first, lambda record: record.value == b"2")) == 2
    assert history.exchange(first, lambda record: record.value == b"3") is first
    assert _seq(history.take(scope, _content("job"), 1)) == 1


def _is_started(record: StepRecord) -> bool:
    return record.status == "started"


def test_unused_steps_are_listed_by_status(store: Store) -> None:
    """Steps that no call used are found by their status, the oldest first."""
    steps = [make_step(n, name=f"job {n}", status="started" if n % 3 == 0 else "succeeded") for n in range(1, 16)]
    history, scope = _open(store, steps)
    history.take(scope, _content("job 3"), 1)
    history.take(scope, _content("job 12"), 1)
    assert [record.seq for record in history.unused(lambda _: True, fits=_is_started)] == [6, 9, 15]


def test_the_oldest_call_that_was_not_made_is_awaited(store: Store) -> None:
    """Calls are awaited in their recorded order until they were made or given up."""
    history, scope = _open(store, [make_step(n, name=f"job {n}") for n in range(1, 8)])
    assert history.first_unused() == 1
    history.take(scope, _content("job 2"), 1)
    history.take(scope, _content("job 1"), 1)
    assert history.first_unused() == 3
    history.stop_awaiting(5)
    assert history.first_unused() in (6, None)
    assert _seq(history.take(scope, _content("job 4"), 1)) == 4


def _replay(history: StepHistory, scope: Scope, names: Iterable[Any]) -> None:
    for name in names:
        assert history.take(scope, _content(f"job {name}"), 1) is not None


def test_an_early_new_call_does_not_load_a_long_history(tmp_path: Path) -> None:
    """New calls before 20,000 recorded ones read a few pages and keep them no longer than they are needed."""
    store = CountingStore(tmp_path / "durable.db")
    history, scope = _open(store, (make_step(n, name=f"job {n}") for n in range(1, 20_001)), page=100)
    for n in range(20):
        assert history.take(scope, _content(f"new {n}"), 1) is None
        assert history.take_elsewhere(scope, _content(f"new {n}")) is None
        assert not history.is_occupied(scope, _content(f"new {n}"), 1)
    assert store.rows <= 300
    most = 0
    assert history.first_unused() == 1
    for n in range(1, 20_001):
        _replay(history, scope, [n])
        assert history._by_content is not None
        assert history._order is not None
        most = max(most, len(history._index), len(history._by_content), len(history._order))
    assert most <= 300
    assert store.rows <= 20_300
    store.close()
