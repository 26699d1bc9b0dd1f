"""Compensations that do what workflows do: submit, wait, call workflows and read generators; killed, they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Scene


@task
def give_back(part: str) -> str:
    did(f"give back {part}")
    return part


@task
async def tell(name: str) -> str:
    did(f"tell {name}")
    return name


@workflow
def close_account(name: str) -> str:
    return give_back(f"{name} account")


@task
def pages(count: int) -> Iterator[int]:
    yield from range(count)


def refund(_result: str, name: str) -> None:
    parts = list(give_back.map([f"{name} {number}" for number in pages(2)]))
    assert tell.submit(name).result() == name
    assert close_account(name) == f"{name} account"
    durable.sleep(0)
    durable.wait_for("confirmed")
    did(f"refunded {len(parts)}")


async def refund_async(_result: str, name: str) -> None:
    parts = await give_back.map([f"{name} {number}" for number in range(2)])
    await tell(name)
    assert close_account(name) == f"{name} account"
    await durable.wait_for("confirmed")
    did(f"refunded {len(parts)}")


@task(undo=refund)
def charge(name: str) -> str:
    return name


@task(undo=refund_async)
async def charge_async(name: str) -> str:
    return name


@task
def fail() -> None:
    durable.send(durable.current().run_id, "confirmed")
    raise ConnectionError


@workflow(run_id="account")
def sync_run() -> None:
    charge.submit("ada").result()
    fail()


@workflow(run_id="account")
async def async_run() -> None:
    await asyncio.gather(charge_async.submit("ada"))
    fail()


@workflow(run_id="account")
def outer_run() -> None:
    charged()
    fail()


@workflow
def charged() -> None:
    charge("ada")
    durable.send(durable.current().run_id, "confirmed")


EFFECTS = ["give back ada 0", "give back ada 1", "give back ada account", "refunded 2", "tell ada"]


@pytest.mark.parametrize("point", ["give back ada 0", "give back ada account", "refunded 2"])
@pytest.mark.parametrize("program", [sync_run, async_run, outer_run])
def test_a_compensation_that_is_killed_goes_on(scene: Scene, program: Any, point: str) -> None:
    """What a compensation had finished below it is not executed again; that its run had submitted tasks changes nothing."""
    scene.kill(point, program)
    assert scene.start(program).error == "ConnectionError"
    assert sorted(set(scene.ledger)) == EFFECTS
    repeated = {effect for effect in scene.ledger if scene.ledger.count(effect) > 1}
    assert point in repeated
    assert repeated <= {point, *(["give back ada 1"] if point == "give back ada 0" else [])}
    assert scene.start(_statuses).value.count("undone") == 1 + (program is outer_run)


def _statuses() -> list[str]:
    return [step.status for run in durable.list_runs() for step in run.steps]
