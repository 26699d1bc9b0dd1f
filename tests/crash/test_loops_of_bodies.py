"""Code of a run that brings an event loop of its own: resumed, it neither waits for ever nor gets the results of others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

SITES, PARTS = 4, 3


@task
async def fetch(site: int, part: int) -> int:
    did(f"fetch {site} {part}")
    return part


async def follow(site: int, part: int) -> int:
    return await fetch(site, part) + await fetch(site, part + PARTS)


async def _crawl(site: int) -> list[int]:
    found = await asyncio.gather(*(follow(site, part) for part in range(PARTS)))
    if is_first_start():
        did("crawled")
        while effects().count("crawled") < SITES:
            await asyncio.sleep(0.001)
    saved("fetched")
    return found


@task
async def crawl(site: int) -> list[int]:
    return await _crawl(site)


@task(executor="threads")
async def crawl_in_thread(site: int) -> list[int]:
    return await _crawl(site)


@workflow(run_id="crawling", max_workers=SITES)
def submitted() -> list[list[int]]:
    return list(crawl.map(range(SITES)))


@workflow(run_id="crawling", max_workers=SITES)
async def on_threads() -> list[list[int]]:
    return await asyncio.gather(*(crawl_in_thread(site) for site in range(SITES)))


@pytest.mark.parametrize("program", [submitted, on_threads])
def test_what_many_loops_have_finished_is_replayed(scene: Scene, program: Any) -> None:
    """Killed when async bodies in loops of their own have finished all that they call, the resumed run replays that."""
    scene.kill("fetched", program, START="first")
    before = scene.ledger
    assert scene.start(program).value == [[3, 5, 7]] * SITES
    assert scene.ledger == before


@task
async def next_number() -> int:
    number = sum(effect.startswith("number") for effect in effects())
    did(f"number {number}")
    return number


async def bill(customer: str) -> tuple[str, int]:
    if (customer == "ada") == is_first_start():
        while not any(effect.startswith("billed") for effect in effects()):
            await asyncio.sleep(0.001)
    number = await next_number()
    did(f"billed {customer} {number}")
    return customer, number


async def bill_both() -> list[tuple[str, int]]:
    found = await asyncio.gather(bill("ada"), bill("bob"))
    saved("both")
    return list(found)


@task(executor="threads")
async def bill_on_executor() -> list[tuple[str, int]]:
    return await bill_both()


@task
def bill_in_task() -> list[tuple[str, int]]:
    return asyncio.run(bill_both())


@workflow(run_id="billing")
async def on_executor() -> list[tuple[str, int]]:
    return await bill_on_executor()


@workflow(run_id="billing")
def in_its_own_loop() -> list[tuple[str, int]]:
    return asyncio.run(bill_both())


@workflow(run_id="billing")
async def in_a_thread() -> list[tuple[str, int]]:
    return await asyncio.to_thread(bill_in_task)


def in_a_block() -> list[tuple[str, int]]:
    with asyncio.Runner() as runner:
        runner.get_loop()
        with durable.run("billing"):
            return runner.run(bill_both())


PROGRAMS = [on_executor, in_its_own_loop, in_a_thread, in_a_block]


@pytest.mark.parametrize("program", PROGRAMS)
def test_branches_keep_their_own_results_in_whichever_loop(scene: Scene, program: Any) -> None:
    """Branches in a loop that the code of a run starts by itself make equal calls: resumed, each gets its own result,
    whichever comes first."""
    scene.write_ledger(["begun"])
    scene.kill("both", program, START="first")
    assert scene.ledger[-1] == "billed ada 1"
    scene.write_ledger(["begun"])
    assert scene.start(program).value == [("ada", 1), ("bob", 0)]


async def wait_for_ever() -> None:
    durable.checkpoint("waiting")
    durable.get_run("stuck").cancel()
    await asyncio.get_running_loop().create_future()


@workflow(run_id="stuck")
def stuck() -> None:
    asyncio.run(wait_for_ever())


def test_a_loop_of_its_own_ends_when_the_run_is_cancelled(scene: Scene) -> None:
    """A sync workflow waits in its own event loop for what never comes: cancelling the run ends the wait."""
    assert scene.start(stuck).error == "RunCancelledError"


async def wait_and_tick() -> list[str]:
    me = durable.current().run_id
    await durable.send(me, "news", "told")
    told, _ = await asyncio.gather(durable.wait_for("news"), durable.sleep(0))
    await asyncio.gather(durable.wait_for("later"), tell_later(me))
    return [told]


async def tell_later(run_id: str) -> None:
    await asyncio.sleep(0)
    await durable.send(run_id, "later")


@workflow(run_id="waiting")
def waiting_in_its_own_loop() -> list[str]:
    found = asyncio.run(wait_and_tick())
    durable.sleep(0)
    return found


def test_waits_in_a_loop_of_its_own_are_awaited(scene: Scene) -> None:
    """In an event loop that a sync workflow starts, `sleep`, `wait_for` and `send` are awaited and hold up nothing else."""
    assert scene.start(waiting_in_its_own_loop).value == ["told"]


@task
def note(name: str) -> None:
    did(name)


async def note_async() -> None:
    note("async")


@workflow(run_id="mixed")
def mixed() -> None:
    asyncio.run(note_async())
    note.submit("submitted").result()
    saved("recorded")
    note.submit("new").result()


def test_tasks_are_submitted_after_a_loop_has_ended(scene: Scene) -> None:
    """A resumed sync workflow submits tasks when its own event loop is closed again."""
    scene.kill("recorded", mixed)
    assert scene.start(mixed).error == ""
    assert scene.ledger == ["async", "submitted", "new"]
