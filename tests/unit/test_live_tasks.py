from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

import durable
from durable import task, workflow
from durable.runs.execution import FRAME

pytestmark = pytest.mark.usefixtures("memory_store")

BRANCHES = 200
FEW = 20


class Answer:
    """Something that a branch gives, whose end can be seen."""


@task
async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def branch(number: int) -> Answer:
    await fetch(number)
    return Answer()


@workflow
async def one_after_the_other() -> int:
    """Give how many answers of branches that have ended are still held when the last of them has."""
    held = [weakref.ref(await asyncio.create_task(branch(number))) for number in range(BRANCHES)]
    return sum(answer() is not None for answer in held)


async def test_branches_that_have_ended_are_let_go() -> None:
    """A run holds the results of a few branches that have ended, however many it creates."""
    assert await one_after_the_other() < FEW


@workflow
async def stopped_beside_branches() -> None:
    frame = FRAME.get()
    assert frame is not None
    for number in range(FEW):
        asyncio.create_task(branch(number))  # noqa: RUF006 -- nobody awaits it
    frame.body.execution.receive("cancel")
    await asyncio.sleep(0)
    await fetch(-1)


async def test_branches_that_the_end_of_their_run_ended_are_not_reported() -> None:
    """Nobody is told of each branch that failed because its run was cancelled: the run tells it."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with pytest.raises(durable.RunCancelledError):
        await stopped_beside_branches()
    gc.collect()
    assert reported == []


@workflow
async def gathers_and_goes_on() -> list[int]:
    found = await asyncio.gather(*(fetch(number) for number in range(FEW)))
    frame = FRAME.get()
    assert frame is not None
    assert not frame.body.execution.tasks.are_there()
    return [*found, await fetch(FEW)]


async def test_a_workflow_is_alone_again_when_its_branches_have_ended() -> None:
    """What a gather created does not count any more when it has ended."""
    assert await gathers_and_goes_on() == list(range(FEW + 1))
