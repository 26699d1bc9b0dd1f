"""What was finished before a fork's point is not executed again, also where it was executed anew after an undoing."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, reach

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def refund(receipt: str, name: str) -> None:
    assert receipt
    did(f"refund {name}")


@task(undo=refund, idempotent=False, key="{name}")
def charge(name: str) -> str:
    did(f"charge {name}")
    return durable.idempotency_key()


@task
def through(name: str) -> str:
    found = charge(name)
    durable.checkpoint(f"in {name}")
    did(f"through {name}")
    return found


@task(idempotent=False, key="{name}", no_effect_on=ConnectionError)
def pay(name: str) -> str:
    did(f"pay {name}")
    if "BROKE" in os.environ:
        raise ConnectionError(name)
    return name


@task
def ship() -> str:
    reach("before ship")
    did("ship")
    if "SOLD_OUT" in os.environ:
        raise ValueError("sold out")
    return "shipped"


@workflow(run_id="order")
def order() -> list[str]:
    found = [charge("a"), charge("a"), through("n")]
    durable.checkpoint("charged")
    return [*found, charge("b"), ship()]


def _fork(point: str) -> Any:
    return durable.get_run("order").fork(from_=point).resume()


def _refork() -> Any:
    fork = durable.get_run("order").fork(from_="charged")
    fork.resume()
    return fork.fork(from_="ship").resume()


@pytest.mark.parametrize(
    ("point", "again"),
    [
        ("charged", ["charge b", "ship"]),
        ("in n", ["through n", "charge b", "ship"]),
        ("ship", ["ship"]),
        ("#5", ["charge n", "through n", "charge b", "ship"]),
        ("charge:a~5", ["charge a", "charge a", "charge n", "through n", "charge b", "ship"]),
    ],
)
def test_what_was_done_anew_is_kept(scene: Scene, point: str, again: list[str]) -> None:
    """Steps that were undone twice and executed anew before the point are kept; what comes behind it is executed."""
    for _ in range(2):
        assert scene.start(order, SOLD_OUT="1").error == "ValueError"
    found = scene.start(order).value
    assert found[-1] == "shipped"
    scene.forget()
    forked = scene.start(_fork, point).value
    assert scene.ledger == again
    kept = 5 - sum(effect.startswith(("charge", "ship")) for effect in again)
    assert forked[:kept] == found[:kept]
    assert all(ours != theirs for ours, theirs in zip(forked[kept:-1], found[kept:-1], strict=True))


def test_a_fork_of_a_fork_keeps_it_too(scene: Scene) -> None:
    """What a fork kept of steps that were executed anew is kept by a fork of it."""
    scene.start(order, SOLD_OUT="1")
    found = scene.start(order).value
    scene.forget()
    assert scene.start(_refork).value[:3] == found[:3]
    assert scene.ledger == ["charge b", "ship", "ship"]


def test_a_doubt_about_what_was_done_anew_stays_one(scene: Scene) -> None:
    """Killed in a charge that takes the place of a refunded one, a fork from a point behind it has the doubt, not a charge."""
    scene.start(order, SOLD_OUT="1")
    scene.kill("charge n", order)
    scene.forget()
    assert scene.start(_fork, "charged").error == "StepInDoubtError"
    assert scene.ledger == []


def _take() -> dict[str, Any]:
    return durable.get_run("order").snapshot()


def _hydrate(snapshot: dict[str, Any]) -> Any:
    return order.with_options(snapshot=snapshot, trust_snapshot=True)()


def _fork_by_command(scene: Scene) -> str:
    return scene.cli("fork", "order", "--from", "charged").stderr


def test_nothing_begins_with_what_is_being_undone(scene: Scene) -> None:
    """A run that was killed while it was undone cannot be forked or hydrated before that has ended; then what was undone is
    executed again."""
    scene.kill("refund n", order, SOLD_OUT="1")
    refused = scene.start(_fork, "charged")
    assert (refused.error, "is being undone" in refused.message) == ("RunError", True)
    assert "is being undone" in _fork_by_command(scene)
    taken = scene.start(_take).value
    refused = scene.beside("elsewhere").start(_hydrate, taken)
    assert (refused.error, "was being undone" in refused.message) == ("SnapshotError", True)
    assert scene.start(order).error == "ValueError"
    assert scene.beside("later").start(_hydrate, scene.start(_take).value).value[-1] == "shipped"
    scene.forget()
    assert scene.start(_fork, "charged").value[-1] == "shipped"
    assert scene.ledger == ["charge a", "charge a", "charge n", "through n", "charge b", "ship"]


def _handling(paying: Any) -> str:
    try:
        paying("x")
    except ConnectionError:
        did("handled")
    durable.checkpoint("paid")
    return ship()


@workflow(run_id="order")
def handles() -> str:
    return _handling(pay)


@workflow(run_id="order")
def handles_doubt() -> str:
    return _handling(pay.with_options(no_effect_on=()))


def _decide() -> None:
    durable.get_run("order").resolve("pay", durable.happened("x"))


def _retry() -> str:
    return handles.with_options(retry_failed=True)()


def test_what_was_tried_again_is_kept(scene: Scene) -> None:
    """A handled failure that was tried again with success, before a checkpoint recorded earlier, is kept by a fork."""
    assert scene.start(handles, BROKE="1", SOLD_OUT="1").error == "ValueError"
    assert scene.start(_retry).value == "shipped"
    assert scene.ledger == ["pay x", "handled", "ship", "pay x", "ship"]
    scene.forget()
    assert scene.start(_fork, "paid").value == "shipped"
    assert scene.ledger == ["ship"]


def test_what_was_decided_is_kept(scene: Scene) -> None:
    """A payment whose handled failure was decided by a person after the checkpoint is kept by a fork from there."""
    assert scene.start(handles_doubt, BROKE="1", SOLD_OUT="1").error == "ValueError"
    scene.start(_decide)
    scene.forget()
    assert scene.start(_fork, "paid").value == "shipped"
    assert scene.ledger == ["ship"]


@task
async def wait_for_note() -> None:
    while "noted" not in effects():
        await asyncio.sleep(0.005)
    reach("before the end")


@task(idempotent=False)
async def pay_slowly() -> None:
    did("pay slowly")
    while "noted" not in effects():
        await asyncio.sleep(0.005)
    reach("in the payment")


@workflow
async def grandchild(name: str) -> str:
    return pay(name)


@workflow
async def child(name: str) -> str:
    paid = pay(name)
    found = await grandchild(f"{name} below")
    await (pay_slowly() if "DOUBT" in os.environ else wait_for_note())
    return paid + found


async def _noting() -> None:
    awaited = "pay slowly" if "DOUBT" in os.environ else "pay x below"
    while awaited not in effects():
        await asyncio.sleep(0.005)
    durable.checkpoint("noting")
    did("noted")


@workflow(run_id="order")
async def together() -> str:
    return (await asyncio.gather(child("x"), _noting()))[0]


def _fork_async(point: str) -> Any:
    return asyncio.run(_awaited(_fork(point)))


async def _awaited(value: Any) -> Any:
    return await value


def test_a_run_below_that_was_under_way_keeps_what_it_finished(scene: Scene) -> None:
    """A workflow called in the run was under way at the point: it is executed again, what it had paid is not, nor what the
    workflows that it had called did."""
    scene.write_ledger([])
    scene.kill("before the end", together)
    assert sorted(scene.ledger) == ["noted", "pay x", "pay x below"]
    scene.write_ledger(["pay x below"])
    assert scene.start(_fork_async, "noting").value == "xx below"
    assert scene.ledger == ["pay x below", "noted"]
    scene.write_ledger(["pay x below"])
    assert scene.start(_fork_async, "noting").value == "xx below"
    assert scene.ledger == ["pay x below", "noted"]


def test_a_doubt_in_a_run_below_stays_one(scene: Scene) -> None:
    """Killed in a payment of a workflow that was called before the point, a fork stops at that payment."""
    scene.write_ledger([])
    scene.kill("in the payment", together, DOUBT="1")
    assert sorted(scene.ledger) == ["noted", "pay slowly", "pay x", "pay x below"]
    scene.write_ledger(["pay slowly"])
    assert scene.start(_fork_async, "noting", DOUBT="1").error == "StepInDoubtError"
    assert [effect for effect in scene.ledger if effect != "noted"] == ["pay slowly"]
