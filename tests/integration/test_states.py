"""`durable.state`: what steps and workflows change in it, what others see of it, and what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

fails: list[bool] = []
AT_ONCE = 100
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    fails.clear()


def numbers() -> Iterator[int]:
    yield 1


def stop() -> None:
    if not fails:
        fails.append(True)
        raise ConnectionError("stop here")


@task
def count(number: int) -> int:
    durable.state.add("n", 1)
    return number


@task
async def count_slowly(number: int) -> int:
    durable.state.add("n", 1)
    for _ in range(number % 3):
        await asyncio.sleep(0)
    return number


@workflow
async def counting_at_once() -> int:
    await asyncio.gather(*(count_slowly(number) for number in range(AT_ONCE)))
    stop()
    return int(durable.state["n"])


async def test_concurrent_changes_are_all_counted() -> None:
    """A hundred concurrent steps that add 1 make 100, and so do their replays."""
    with pytest.raises(ConnectionError):
        await counting_at_once()
    assert durable.list_runs()[0].state == {"n": AT_ONCE}
    assert await counting_at_once() == AT_ONCE


@workflow
def counting_in_threads() -> int:
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(copy_context().run, count, number) for number in range(AT_ONCE)]
    assert sorted(future.result() for future in waiting) == list(range(AT_ONCE))
    stop()
    return int(durable.state["n"])


def test_changes_from_threads_are_all_counted() -> None:
    """A hundred steps in eight threads that add 1 make 100, and so do their replays."""
    with pytest.raises(ConnectionError):
        counting_in_threads()
    assert counting_in_threads() == AT_ONCE
    assert durable.list_runs()[0].state == {"n": AT_ONCE}


@task(attempts=1)
def change_and_fail(what: str) -> None:
    del durable.state["kept"]
    durable.state["left"] = what
    count(1)
    raise ValueError(what)


@workflow
def failing() -> dict[str, Any]:
    durable.state["kept"] = 1
    with contextlib.suppress(ValueError):
        change_and_fail("x")
    stop()
    return dict(durable.state)


def test_a_failed_step_changes_nothing() -> None:
    """What a step that failed changed, and steps in it, is discarded; so it is when the failure is replayed."""
    with pytest.raises(ConnectionError):
        failing()
    assert failing() == {"kept": 1}
    assert durable.list_runs()[0].state == {"kept": 1}


seen: list[object] = []


@task(ignore="ready")
async def set_and_wait(name: str, ready: list[bool]) -> None:
    durable.state["who"] = name
    ready.append(True)
    while len(ready) < 2:
        await asyncio.sleep(0)
    seen.append(durable.state["who"])


@workflow
async def isolated() -> Any:
    ready: list[bool] = []
    await asyncio.gather(set_and_wait("a", ready), set_and_wait("b", ready))
    return durable.state["who"]


async def test_a_step_sees_its_own_changes_only() -> None:
    """What a step changes is seen by others when it has succeeded; of two that set one key the later to end counts."""
    seen.clear()
    last = await isolated()
    assert set(seen) == {"a", "b"}
    assert last == seen[-1]


@task
def use_everything() -> None:
    state = durable.state
    state["number"], state["gone"], state["text"] = Decimal("1.5"), 1, "a"
    del state["gone"]
    state.add("number", Decimal("0.5"))
    state.add("text", "b")
    state.add("rows", [{1, 2}])
    state.update(more=(1, 2))
    assert state.pop("more") == (1, 2)
    assert "gone" not in state
    assert state.setdefault("text", "c") == "ab"


@workflow
def everything() -> dict[str, Any]:
    use_everything()
    durable.state.add("rows", [3])
    stop()
    assert len(durable.state) == 3
    return dict(durable.state)


def test_a_state_is_a_mapping_of_whatever_can_be_stored() -> None:
    """Values of any kind that can be stored are set, added to and removed, and are replayed as they were."""
    with pytest.raises(ConnectionError):
        everything()
    expected = {"number": Decimal("2.0"), "text": "ab", "rows": [{1, 2}, 3]}
    assert everything() == expected
    assert durable.list_runs()[0].state == expected


@task
def mutate() -> None:
    durable.state["rows"] = rows = [1]
    rows.append(2)
    durable.state["rows"].append(3)
    stop()


@workflow
def mutating() -> Any:
    mutate()
    return durable.state["rows"]


def test_a_value_counts_as_it_was_when_it_was_set() -> None:
    """A value that is changed in place afterwards counts as it was; a change of what was read is warned of."""
    fails.append(True)
    with pytest.warns(durable.DurableWarning, match=r"durable.state\['rows'\].* was changed in place"):
        assert mutating() == [1]


@workflow
def mutating_by_itself() -> Any:
    durable.state["rows"] = [1]
    count(1)
    durable.state["rows"].append(2)
    return durable.state["n"]


def test_a_change_in_place_loses_no_result() -> None:
    """Where warnings are errors, the step or the run whose value was changed in place is recorded all the same."""
    fails.append(True)
    strict = mutating.with_options(run_id="strict")
    for call in (strict, mutating_by_itself):
        with pytest.raises(durable.DurableWarning, match="was changed in place"):
            call()
    assert (strict(), mutating_by_itself()) == ([1], 1)
    assert {step.attempts for run in durable.list_runs() for step in run.steps} == {1}


@task
def misuse(how: str) -> None:
    if how == "generator":
        durable.state["rows"] = {"sock": 1}, numbers()
    elif how == "key":
        durable.state[1] = 1  # type: ignore[index]  # the mistake under test
    elif how == "add":
        durable.state["text"] = "a"
        durable.state.add("text", 1)
    else:
        _ = durable.state["absent"]


@workflow
def misused(how: str) -> None:
    misuse(how)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("generator", durable.NotSerializableError, r"durable.state\['rows'\].*value\[1\] is a generator"),
        ("key", durable.ConfigurationError, "A key of durable.state is a string"),
        ("add", TypeError, "can only concatenate str"),
        ("absent", KeyError, "absent"),
    ],
)
def test_what_a_state_does_not_take(how: str, error: type[Exception], message: str) -> None:
    """Values that cannot be stored, other keys than strings and sums that make no sense are errors where they are made."""
    with pytest.raises(error, match=message):
        misused(how)
    assert durable.list_runs()[0].state == {}


def test_a_state_belongs_to_a_run() -> None:
    """Outside a run there is no state."""
    with pytest.raises(durable.OutsideRunError, match="belongs to a run"):
        durable.state["x"] = 1
    assert repr(durable.state) == "durable.state"


def test_a_state_where_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With DURABLE_DISABLE each run has a state in memory, so that programs that use one work all the same."""
    monkeypatch.setenv("DURABLE_DISABLE", "1")
    fails.append(True)
    assert everything()["rows"] == [{1, 2}, 3]
    durable.checkpoint("nothing")
    assert everything_is_new()


def test_the_state_of_a_block_and_of_a_workflow_that_it_calls() -> None:
    """A block has a state, a workflow called in it one of its own; a running one shows what holds now, and none can be set."""
    with durable.run("block") as run:
        durable.state["block"] = 1
        count(1)
        assert run.state == {"block": 1, "n": 1}
        assert everything_is_new()
    assert run.state == {"block": 1, "n": 1}
    with pytest.raises(TypeError):
        run.state["block"] = 2  # type: ignore[index]  # the mistake under test


@workflow
def everything_is_new() -> bool:
    return not durable.state


@task(idempotent=False, key="{number}")
def pay(number: int) -> object:
    durable.state.add("n", 1)
    return numbers() if number else None


@workflow
def paying(number: int) -> int:
    with contextlib.suppress(durable.NotSerializableError):
        pay(number)
    stop()
    return int(durable.state.get("n", 0))


@pytest.mark.parametrize(("number", "expected"), [(0, 1), (1, 0)])
def test_changes_belong_to_a_result(number: int, expected: int) -> None:
    """The changes of a step whose result could not be stored are discarded, each time; those of any other are kept."""
    with pytest.raises(ConnectionError):
        paying(number)
    assert paying(number) == expected


def test_a_sealed_store_seals_the_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a secret key the state is sealed like every value, and cannot be read with another one."""
    monkeypatch.setenv("DURABLE_SECRET_KEY", "first")
    durable.configure(tmp_path / "sealed.db")
    with durable.run("sealed") as run:
        count(1)
        durable.state["rows"] = [(1, 2)]
    assert run.state == {"n": 1, "rows": [(1, 2)]}
