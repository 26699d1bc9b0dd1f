"""A workflow that was called is undone with its caller, and executed again when that is called again, whatever is killed:
once, and as often as that fails.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did
from tests.crash.killing_stores import KillingStore

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def release(result: str) -> None:
    did(f"release {result}")


@task(undo=release)
def reserve(name: str) -> str:
    did(f"reserve {name}")
    return name


@workflow
def child() -> str:
    return reserve("seat")


@workflow(run_id="trip")
def trip() -> str:
    seat = child()
    if os.environ.get("SOLD_OUT"):
        raise ConnectionError
    return seat


def _trip(number: int) -> str:
    durable.configure(KillingStore(os.environ["DURABLE_DB"], "before", number))
    return trip()


def test_killed_between_all_commits(scene: Scene) -> None:
    """Called again after it was undone, the run has what it holds: reserved as often as released, and once more."""
    number = 1
    while (at := scene.beside(f"{number}")).is_killed(_trip, number, SOLD_OUT="1"):
        number += 1
        assert at.start(trip, SOLD_OUT="1").error == "ConnectionError"
        assert at.start(trip).value == "seat"
        assert at.ledger[-1] == "reserve seat"
        assert "release seat" in at.ledger
    assert number > 6


@task(idempotent=False, key="{name}")
def refund(_receipt: str, name: str) -> None:
    did(f"refund {name}")


@task(undo=refund, idempotent=False, key="{name}")
def charge(name: str) -> str:
    did(f"charge {name}")
    return name


@workflow(run_id="order")
def order() -> str:
    found = charge("ada") + reserve("seat")
    if os.environ.get("SOLD_OUT"):
        raise ConnectionError
    return found


@workflow
def paid() -> str:
    return charge("ada") + reserve("seat")


@workflow(run_id="calling")
def calling() -> str:
    found = paid()
    if os.environ.get("SOLD_OUT"):
        raise ConnectionError
    return found


@pytest.mark.parametrize("program", [order, calling])
def test_each_failure_is_undone(scene: Scene, program: durable.Workflow[[], str]) -> None:
    """A run fails twice, and is killed while it is undone the second time: each payment is refunded once, by a task that
    is not idempotent, in the run or in a workflow that it called."""
    assert scene.start(program, SOLD_OUT="1").error == "ConnectionError"
    scene.kill("release seat", program, SOLD_OUT="1")
    assert scene.start(program, SOLD_OUT="1").error == "ConnectionError"
    assert scene.start(program).value == "adaseat"
    begun, undone = ["charge ada", "reserve seat"], ["release seat", "refund ada"]
    assert scene.ledger == [*begun, *undone, *begun, "release seat", *undone, *begun]
