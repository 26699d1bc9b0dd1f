from __future__ import annotations

import asyncio

import pytest

import durable
from durable import task, workflow

executed: list[str] = []


@pytest.fixture(autouse=True)
def nothing_executed(memory_store: object) -> None:
    """A store and a list of effects for each test."""
    executed.clear()


@task
async def ask(name: str) -> str:
    executed.append(name)
    for _ in range(20):
        await asyncio.sleep(0)
    if name == "refused":
        raise ConnectionError(name)
    if name == "cancelled" and len(executed) == 1:
        raise asyncio.CancelledError
    return f"{name} {len(executed)}"


@workflow
async def request(name: str) -> str:
    return await ask(name)


@workflow(after_success="rerun")
async def periodic(name: str) -> str:
    return await ask(name)


@workflow(run_id="one-id")
async def named(name: str) -> str:
    return await ask(name)


async def test_a_failure_is_shared() -> None:
    """Calls that join a run which fails get its exception; none of them tries again, a later call does."""
    joined = request.with_options(on_running="join")
    outcomes = await asyncio.gather(*(joined("refused") for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert executed == ["refused"]
    with pytest.raises(ConnectionError):
        await joined("refused")
    assert executed == ["refused"] * 2


async def test_a_result_is_shared_though_a_later_call_is_a_new_run() -> None:
    """With `after_success="rerun"` calls that join get the result of the run they joined; a later call is a new run."""
    joined = periodic.with_options(on_running="join")
    assert await asyncio.gather(*(joined("a") for _ in range(3))) == ["a 1"] * 3
    assert await joined("a") == "a 2"


async def test_a_cancelled_run_goes_on() -> None:
    """A call that joins a run which is cancelled resumes it."""
    joined = request.with_options(on_running="join")
    outcomes = await asyncio.gather(joined("cancelled"), joined("cancelled"), return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1] == "cancelled 2"


async def test_a_run_with_other_inputs_is_not_joined() -> None:
    """Under one run id only calls with the same inputs get the result."""
    joined = named.with_options(on_running="join")
    first, second = await asyncio.gather(joined("a"), joined("b"), return_exceptions=True)
    assert first == "a 1"
    assert isinstance(second, durable.InputsChangedError)
    assert executed == ["a"]
