"""A body on an executor comes to its end although its caller is cancelled: what it gave is known, and counts."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

from durable import task, workflow
from tests.crash.effects import did, effects

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def refund(receipt: str, name: str) -> None:
    did(f"refund {name} {receipt}")


async def _pay(name: str) -> str:
    did(f"begin {name}")
    while "failed" not in effects() and "FAIL" in os.environ:
        time.sleep(0.001)  # noqa: ASYNC251 -- in a thread for bodies, which nobody can stop
    did(f"pay {name}")
    return f"receipt {name}"


pay = task(idempotent=False, executor="threads")(_pay)
charge = task(idempotent=False, executor="threads", undo=refund)(_pay)


async def _begun() -> None:
    await asyncio.sleep(0.001)
    while "begin a" not in effects():
        await asyncio.sleep(0.001)


@task
async def check() -> None:
    if "FAIL" in os.environ:
        raise ConnectionError


@workflow(run_id="order")
async def together() -> str:
    paying = asyncio.create_task((charge if "UNDO" in os.environ else pay)("a"))
    await _begun()
    try:
        await check()
    except ConnectionError:
        paying.cancel()
        did("failed")  # only now the body ends
        raise
    return await paying


def test_a_payment_that_came_to_its_end_is_known(scene: Scene) -> None:
    """The sibling of a payment fails and the run with it, while the payment is under way elsewhere: called again, the run has
    its receipt, asks nobody, and pays nothing."""
    scene.write_ledger([])
    assert scene.start(together, FAIL="1").error == "ConnectionError"
    assert scene.start(together).value == "receipt a"
    assert scene.ledger.count("pay a") == 1


def test_a_payment_that_came_to_its_end_is_undone(scene: Scene) -> None:
    """With a compensation, it is undone with the run that fails."""
    scene.write_ledger([])
    assert scene.start(together, FAIL="1", UNDO="1").error == "ConnectionError"
    assert scene.ledger[-2:] == ["pay a", "refund a receipt a"]


@task(idempotent=False)
async def pay_otherwise() -> str:
    did("pay otherwise")
    return "otherwise"


@workflow(run_id="order")
async def given_up() -> str:
    paying = asyncio.create_task(pay("a"))
    await _begun()
    paying.cancel()
    did("failed")
    try:
        receipt = await paying
    except asyncio.CancelledError:
        receipt = await pay_otherwise()
    await check()
    return receipt


@pytest.mark.parametrize("starts", [1, 2])
def test_a_run_that_went_on_without_it_takes_the_same_way(scene: Scene, starts: int) -> None:
    """A payment was given up and the run paid otherwise: called again, it does not take the receipt of the first one."""
    scene.write_ledger([])
    for _ in range(starts):
        assert scene.start(given_up, FAIL="1").error == "ConnectionError"
    assert scene.start(given_up).value == "otherwise"
    assert [effect for effect in scene.ledger if effect.startswith("pay")] == ["pay a", "pay otherwise"]
