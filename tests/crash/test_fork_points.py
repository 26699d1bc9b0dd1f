"""What stands before a checkpoint is kept by a fork from it, also what a later execution of the source called first there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import durable
from durable import task, workflow
from tests.crash.effects import did, is_first_start, reach

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def refund(_result: str, name: str) -> None:
    did(f"refund {name}")


@task(undo=refund, idempotent=False, key="{name}")
def pay(name: str) -> str:
    did(f"pay {name}")
    return name


@task
def look_up(name: str) -> str:
    did(f"look up {name}")
    if "OFFLINE" in os.environ:
        raise ConnectionError(name)
    return name


@task
def book(name: str) -> str:
    look_up(name)
    return pay(name)


@task
def ship() -> str:
    reach("before ship")
    did("ship")
    if "SOLD_OUT" in os.environ:
        raise ValueError("sold out")
    return "shipped"


@workflow(run_id="order")
def order() -> list[str]:
    found = [pay("first")]
    try:
        look_up("a")
        found += [pay("online"), str(durable.now())]
        durable.checkpoint("online")
        found.append(pay("more"))
    except ConnectionError:
        found.append("offline")
    if not is_first_start():
        found.append(pay("inserted"))
    try:
        found.append(book("inside"))
    except ConnectionError:
        found.append("not booked")
    durable.checkpoint("paid")
    if not is_first_start():
        found.append(pay("behind"))
    durable.checkpoint("all")
    return [*found, ship()]


def _retry() -> list[str]:
    return order.with_options(retry_failed=True)()


def _fork(point: str) -> list[str]:
    found: list[str] = durable.get_run("order").fork(from_=point).resume()
    return found


def _refork(point: str) -> list[str]:
    found: list[str] = durable.get_run("order-fork-1").fork(from_=point).resume()
    return found


def _source(scene: Scene) -> list[str]:
    """Get to the end in three executions; the second one takes another way before the checkpoints, and is killed."""
    scene.kill("before ship", order, START="first", OFFLINE="1")
    scene.kill("before ship", _retry)
    found: list[str] = scene.start(order).value
    paid = ["online", "more", "inserted", "inside", "behind"]
    assert [effect for effect in scene.ledger if effect.startswith("pay")] == [
        f"pay {name}" for name in ["first", *paid]
    ]
    scene.forget()
    return found


def test_what_a_later_execution_called_before_a_checkpoint_is_kept(scene: Scene) -> None:
    """A failure that was handled is tried again, and the run calls what it had not called, before an old checkpoint: a fork
    from there keeps it, and a fork of that one too; what came behind is executed again."""
    found = _source(scene)
    assert scene.start(_fork, "paid").value == found
    assert scene.ledger == ["pay behind", "ship"]
    scene.forget()
    assert scene.start(_refork, "paid").value == found
    assert scene.ledger == ["pay behind", "ship"]
    scene.forget()
    assert scene.start(_fork, "all").value == found
    assert scene.ledger == ["ship"]
    scene.forget()
    assert scene.start(_fork, "ship").value == found
    assert scene.ledger == ["ship"]


def test_a_new_checkpoint_among_old_ones(scene: Scene) -> None:
    """A fork from a checkpoint that a later execution came to first keeps nothing that this one called first behind it."""
    found = _source(scene)
    assert scene.start(_fork, "online").value == found
    assert scene.ledger == ["pay more", "pay inserted", "pay behind", "ship"]


def test_what_was_called_in_a_step_that_was_tried_again_is_undone(scene: Scene) -> None:
    """A fork that fails undoes what a later execution called inside a step that stands before its point."""
    _source(scene)
    assert scene.start(_fork, "all", SOLD_OUT="1").error == "ValueError"
    names = ["behind", "inside", "inserted", "more", "online", "first"]
    assert scene.ledger == ["ship", *(f"refund {name}" for name in names)]
