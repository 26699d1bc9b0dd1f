"""Neither step keys nor results depend on the order in which the event loop lets ready tasks run."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

import durable
from durable import task, workflow
from tests.property.schedules import run_shuffled

SEEDS = range(125)  # two schedules each, for each of four workflows
_numbers = itertools.count()
executed: list[str] = []
is_broken = False


pytestmark = pytest.mark.usefixtures("memory_store")


@task
async def fetch(name: str) -> str:
    executed.append(name)
    await asyncio.sleep(0)
    return name


@task
async def count(word: str) -> int:
    for _ in word:
        await asyncio.sleep(0)
    return len(word)


@task
def note(*words: object) -> str:
    executed.append("note")
    return "-".join(map(str, words))


@task
def end(value: Any) -> Any:
    if is_broken:
        raise ValueError("end")
    return value


async def chain(name: str) -> str:
    first = await fetch(name)
    return note(first, await count(first))


@workflow(run_id="gathered-{number}")
async def gathered(number: int) -> Any:
    return end(await asyncio.gather(*(chain("x" * length) for length in (3, 1, 2, 1))))


@workflow(run_id="nested-{number}")
async def nested(number: int) -> Any:
    async def pair(name: str) -> Any:
        return await asyncio.gather(chain(name), chain(name + "!"))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(pair(name)) for name in ("a", "bb", "a")]
    return end([each.result() for each in tasks])


@workflow(run_id="submitted-{number}")
async def submitted(number: int) -> Any:
    first = [fetch.submit("x" * length) for length in (3, 1, 2, 1)]
    sizes = [count.submit(future) for future in first]
    last = note.with_options(after=first).submit(sizes[0], sizes[-1])
    return end([[await future for future in (*sizes, last)], await fetch.map("abc", concurrency=2)])


@workflow(run_id="mixed-{number}")
async def mixed(number: int) -> Any:
    async def branch(name: str) -> str:
        size = count.submit(fetch.submit(name))
        return note(await chain(name), await size)

    return end(await asyncio.gather(*(branch(name) for name in ("aa", "b", "aa"))))


@pytest.mark.parametrize("program", [gathered, nested, submitted, mixed], ids=lambda each: each.__name__)
def test_no_schedule_changes_a_key_or_a_result(program: Any) -> None:
    """A thousand random schedules in all: the same results under the same step keys each time, and a run that fails at its
    end and is resumed under another schedule executes nothing again."""
    global is_broken
    found = set()
    for seed in SEEDS:
        number = next(_numbers)
        is_broken = True
        with pytest.raises(ValueError, match="end"):
            run_shuffled(program(number), seed)
        is_broken = False
        executed.clear()
        result = run_shuffled(program(number), -seed - 1)
        steps = durable.get_run(f"{program.__name__}-{number}").steps
        values = sorted((step.key, step.status) for step in steps)
        found.add((repr(result), repr(values)))
        assert executed == []
    assert len(found) == 1
