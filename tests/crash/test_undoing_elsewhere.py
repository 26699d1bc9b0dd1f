"""Compensations that run on executors or submit tasks are steps like all others, whatever kills them."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import durable
from durable import task, workflow
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task(executor="processes")
def release(result: str, name: str) -> None:
    did(f"release {result} {'here' if multiprocessing.parent_process() is None else 'elsewhere'}")


@task(undo=release)
def reserve(name: str) -> str:
    did(f"reserve {name}")
    return name.upper()


@task
def refund(cents: int) -> int:
    did(f"refund {cents}")
    return cents


@task
def refund_all(result: int) -> None:
    assert list(refund.map([1, 2], concurrency=1)) == [1, result]
    saved("refunded")


@task(undo=refund_all)
def charge(count: int) -> int:
    did(f"charge {count}")
    return count


@workflow
def child() -> None:
    reserve("below")


@workflow(run_id="trip", max_workers=2)
def trip() -> None:
    reserve("a")
    child()
    charge.submit(2).result()
    raise ConnectionError("no van")


def _left() -> list[str]:
    return [step.key for run in durable.list_runs() for step in run.steps if step.status != "undone"]


def test_compensations_on_executors_and_such_that_submit(scene: Scene) -> None:
    """A compensation runs on its own executor, also below a workflow that was called, and may submit tasks though the run
    that had submitted some has ended; killed in the middle, what it did is not done again."""
    scene.kill("refunded", trip)
    assert scene.start(trip).error == "ConnectionError"
    refunded = ["reserve a", "reserve below", "charge 2", "refund 1", "refund 2"]
    assert scene.ledger == [*refunded, "release BELOW elsewhere", "release A elsewhere"]
    assert all("~undo" in key for key in scene.start(_left).value)
