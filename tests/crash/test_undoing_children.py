"""A workflow that was called is undone with its caller, and executed again when that is called again, whatever is killed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
