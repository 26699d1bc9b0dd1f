"""Costs and budgets where tasks run at the same time in an event loop."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

begun: list[int] = []
ended: list[int] = []


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Iterator[None]:
    """A store of its own for each test."""
    begun.clear()
    ended.clear()
    durable.configure(tmp_path / "durable.db")
    yield
    durable.configure(None)


@task
async def ask(number: int) -> int:
    begun.append(number)
    for _ in range(3 * number):
        await asyncio.sleep(0.001)
    durable.spend(usd=1)
    ended.append(number)
    return number


async def branches(count: int) -> list[int]:
    async def branch(number: int) -> list[int]:
        return [await ask(number), await ask(number + count // 2)]

    found = await asyncio.gather(*map(branch, range(count // 2)))
    return [first for first, _ in found] + [second for _, second in found]


async def in_groups(count: int) -> list[int]:
    async def pair(number: int) -> list[int]:
        return [await ask(number), await ask(number + 1)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pair(number)) for number in range(0, count, 2)]
    return [number for each in tasks for number in each.result()]


async def mapped(count: int) -> list[int]:
    return await ask.map(range(count), concurrency=3)


async def one_after_the_other(count: int) -> list[int]:
    limit = asyncio.Semaphore(3)

    async def limited(number: int) -> int:
        async with limit:
            return await ask(number)

    return await asyncio.gather(*map(limited, range(count)))


@pytest.mark.parametrize("program", [branches, in_groups, mapped, one_after_the_other])
def test_paid_calls_under_way_are_kept(program: Callable[[int], Coroutine[Any, Any, list[int]]]) -> None:
    """When the budget is spent no body starts, and those under way end and are recorded: none is paid for twice."""
    asks = workflow(name=program.__name__, budget=3)(program)
    with pytest.raises(durable.BudgetExceededError):
        asyncio.run(asks(12))
    first = list(begun)
    assert sorted(ended) == sorted(first)
    [run] = durable.list_runs()
    assert run.cost.usd == len(first) >= 3
    assert asyncio.run(asks.with_options(budget=100)(12)) == list(range(12))
    assert sorted(begun) == list(range(12))
    assert run.cost.usd == 12


def test_nested_calls_at_the_limit_do_not_wait_for_each_other() -> None:
    """Bodies that call further paid tasks when the budget is spent are not waited for: the run ends."""

    @task
    async def outer(number: int) -> int:
        durable.spend(usd=1)
        ended.append(number)
        while len(ended) < 4:
            await asyncio.sleep(0.001)
        return await ask(number)

    @workflow(name="nested", budget=2)
    async def nested() -> None:
        await asyncio.gather(*map(outer, range(4)))

    async def within() -> None:
        async with asyncio.timeout(30):
            await nested()

    with pytest.raises(durable.BudgetExceededError):
        asyncio.run(within())
    [run] = durable.list_runs()
    assert run.cost.usd == Decimal(4)
    assert begun == []


def test_an_async_price() -> None:
    """`cost=` prices what was awaited."""

    @task(cost=lambda result: result)
    async def pay() -> int:
        return 3

    @workflow(name="pays")
    async def pays() -> int:
        return await pay()

    assert asyncio.run(pays()) == 3
    [run] = durable.list_runs()
    assert run.cost.usd == 3
