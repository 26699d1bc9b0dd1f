"""Async bodies that bring an event loop of their own, in threads of the run: resumed, they neither wait for ever nor swap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

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


@task(executor="threads")
async def bill_both() -> list[tuple[str, int]]:
    found = await asyncio.gather(bill("ada"), bill("bob"))
    saved("both")
    return list(found)


@workflow(run_id="billing")
async def billing() -> list[tuple[str, int]]:
    return await bill_both()


def test_branches_on_another_loop_keep_their_own_results(scene: Scene) -> None:
    """Branches of an async body on an executor make equal calls: each gets its own results again, whichever comes first."""
    scene.write_ledger(["begun"])
    scene.kill("both", billing, START="first")
    assert scene.ledger[-1] == "billed ada 1"
    scene.write_ledger(["begun"])
    assert scene.start(billing).value == [("ada", 1), ("bob", 0)]
