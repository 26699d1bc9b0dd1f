"""Payments to a receiver that knows an idempotency key for a day, resumed sooner and later than that."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

import durable
from durable import task, workflow
from durable.runs import sessions
from tests.crash.effects import did

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

DAY = 24 * 3600


def sent_before(order: str) -> Any:
    did(f"asked about {order} {durable.idempotency_key()}")
    return durable.happened("found")


@task(key="{order}", idempotent=timedelta(hours=24))
def pay(order: str) -> str:
    did(f"paid {order} {durable.idempotency_key()}")
    return f"paid {order}"


@task(key="{order}", idempotent=timedelta(hours=24))
async def pay_async(order: str) -> str:
    did(f"paid {order} {durable.idempotency_key()}")
    return f"paid {order}"


@task(key="{order}", idempotent=timedelta(hours=24))
def pay_without_an_answer(order: str) -> str:
    did(f"paid {order}")
    raise TimeoutError("no answer")


@task(
    key="{order}",
    idempotent=timedelta(hours=24),
    retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(2 * DAY)),
)
def pay_again_in_two_days(order: str) -> str:
    did(f"paid {order}")
    raise TimeoutError("no answer")


@workflow(run_id="order")
def order() -> str:
    return (pay.with_options(reconcile=sent_before) if "ASK" in os.environ else pay)("42")


@workflow(run_id="order")
async def order_async() -> str:
    return await pay_async("42")


@workflow(run_id="order")
def order_without_an_answer() -> str:
    return pay_without_an_answer("42")


@workflow(run_id="order")
def order_again_in_two_days() -> str:
    return pay_again_in_two_days("42")


def shop(kind: str, late: float = 0) -> Any:
    go_on(late)
    match kind:
        case "async":
            return order_async()
        case "no answer":
            return order_without_an_answer()
        case "two days":
            return order_again_in_two_days()
    return order()


def go_on(late: float) -> None:
    """Let so many seconds have passed."""
    begun = time.time()
    sessions.clock = lambda: begun + late


def decide(late: float) -> None:
    go_on(late)
    run = durable.get_run("order")
    assert [step.in_doubt for step in run.steps] == [True]
    run.resolve("pay:42", durable.did_not_happen)


def payment(scene: Scene, kind: str = "sync") -> str:
    """Give the effect that a first execution leaves: its key follows from run and step."""
    probe = scene.beside("probe")
    probe.start(shop, kind)
    return probe.ledger[0]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_within_the_window_the_key_protects(scene: Scene, kind: str) -> None:
    """A payment that was interrupted is made again with the same key as long as the receiver knows it."""
    scene.kill(payment(scene, kind), shop, kind)
    assert scene.start(shop, kind, DAY - 60).value == "paid 42"
    assert len(scene.ledger) == 2
    assert len(set(scene.ledger)) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_after_the_window_the_step_is_in_doubt(scene: Scene, kind: str) -> None:
    """A payment that was interrupted is not made again when the receiver has forgotten its key; the message says so."""
    scene.kill(payment(scene, kind), shop, kind)
    outcome = scene.start(shop, kind, DAY + 60)
    assert outcome.error == "StepInDoubtError"
    assert "until the receiver forgot its idempotency key" in outcome.message
    assert len(scene.ledger) == 1


def test_the_window_begins_with_the_first_use(scene: Scene) -> None:
    """The window is not begun anew by each execution: the second crash within it does not lengthen it."""
    scene.kill(payment(scene), shop, "sync")
    scene.kill(scene.ledger[0], shop, "sync", DAY - 60)
    assert scene.start(shop, "sync", DAY + 60).error == "StepInDoubtError"
    assert len(scene.ledger) == 2


def test_a_decision_begins_a_window(scene: Scene) -> None:
    """A payment of which somebody says that it did not happen is made, and its key counts from then."""
    scene.kill(payment(scene), shop, "sync")
    assert scene.start(shop, "sync", 2 * DAY).error == "StepInDoubtError"
    assert scene.start(decide, 2 * DAY).error == ""
    scene.kill(scene.ledger[0], shop, "sync", 2 * DAY)
    assert scene.start(shop, "sync", 3 * DAY - 60).value == "paid 42"
    assert len(scene.ledger) == 3


def test_reconcile_is_asked_after_the_window(scene: Scene) -> None:
    """After the window the receiver is asked, where it can be."""
    scene.kill(payment(scene), shop, "sync")
    assert scene.start(shop, "sync", DAY + 60, ASK="yes").value == "found"
    assert [effect.split()[0] for effect in scene.ledger] == ["paid", "asked"]


def test_a_failure_without_proof_counts_too(scene: Scene) -> None:
    """A payment without an answer is tried again within the window, and is in doubt afterwards."""
    assert scene.start(shop, "no answer").error == "TimeoutError"
    assert scene.start(shop, "no answer", DAY - 60).error == "TimeoutError"
    assert scene.start(shop, "no answer", DAY + 60).error == "StepInDoubtError"
    assert scene.ledger == ["paid 42"] * 2


def test_no_attempt_follows_a_pause_beyond_the_window(scene: Scene) -> None:
    """An attempt that would be made after the window is not made: the failure is the last one."""
    assert scene.start(shop, "two days").error == "TimeoutError"
    assert scene.ledger == ["paid 42"]


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), 24, "a day"])
def test_what_is_no_window_is_refused(window: Any) -> None:
    """`idempotent` is a bool or a positive `timedelta`."""
    with pytest.raises(durable.DefinitionError, match="idempotent"):
        task(idempotent=window)(lambda: None)
