"""Bodies in other processes: whichever process dies, only what had begun is in doubt, and nothing is executed twice."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, reach
from tests.patience import until

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

COUNT = 12


def _pay(number: int) -> int:
    did(f"begin {number}")
    if os.environ.get("KILL_WORKER") == str(number):
        os.kill(os.getpid(), signal.SIGKILL)
    while os.environ.get("KILL_PARENT") == str(number):
        time.sleep(1)
    did(f"end {number}")
    return number


@task(executor="processes", idempotent=False, key="{number}")
def pay(number: int) -> int:
    return _pay(number)


@task(executor="processes", idempotent=False, key="{number}")
async def pay_async(number: int) -> int:
    return _pay(number)


@task
def kill_when_begun(number: str) -> None:
    until(lambda: f"begin {number}" in effects())
    reach("all begun")


@workflow(run_id="payments")
def payments() -> list[int]:
    did("submitting")
    found = pay.map(range(COUNT), concurrency=8).futures
    if "KILL_PARENT" in os.environ:
        kill_when_begun(os.environ["KILL_PARENT"])
    durable.wait(found)
    return [future.result() for future in found if future.exception() is None]


@workflow(run_id="payments")
async def async_payments() -> list[int]:
    found = [pay_async.submit(number) for number in range(COUNT)]
    await durable.wait_async(found)
    return [future.result() for future in found if future.exception() is None]


def _doubts() -> list[str]:
    return [step.key for step in durable.get_run("payments").steps if step.status in ("started", "failed", "in doubt")]


def _begun_and_not_ended(scene: Scene) -> list[str]:
    ended = {effect.split()[1] for effect in scene.ledger if effect.startswith("end")}
    begun = [effect.split()[1] for effect in scene.ledger if effect.startswith("begin")]
    assert len(begun) == len(set(begun))
    return [number for number in begun if number not in ended]


@pytest.mark.parametrize("program", [payments, async_payments], ids=["sync", "async"])
def test_a_worker_that_dies_takes_only_what_runs_along(scene: Scene, program: object) -> None:
    """A worker process that is killed in a body fails it and those in the other workers; all others are executed, once."""
    found = scene.start(program, KILL_WORKER="3").value  # type: ignore[arg-type]  # they are workflows
    failed = [key.partition(":")[2] for key in scene.start(_doubts).value]
    assert "3" in failed
    assert len(failed) <= (os.cpu_count() or 1)
    assert set(_begun_and_not_ended(scene)) <= set(failed)
    assert sorted(map(str, found)) == sorted({str(number) for number in range(COUNT)} - set(failed))


def test_only_what_had_begun_is_in_doubt(scene: Scene) -> None:
    """Killed while its workers execute bodies, a run is in doubt about those bodies, and executes the others."""
    assert scene.is_killed(payments, KILL_PARENT="5", KILL_AT="all begun")
    doubts = {key.partition(":")[2] for key in scene.start(_doubts).value if key.startswith("pay:")}
    assert "5" in doubts
    assert len(doubts) <= (os.cpu_count() or 1)
    assert set(_begun_and_not_ended(scene)) <= doubts
    for number in doubts:
        happened = durable.happened(-1)
        scene.start(_resolve, f"pay:{number}", happened)
    found = scene.start(payments).value
    assert sorted(found) == sorted(-1 if str(number) in doubts else number for number in range(COUNT))
    assert set(_begun_and_not_ended(scene)) <= doubts


def _resolve(step: str, outcome: durable.Happened) -> None:
    durable.get_run("payments").resolve(step, outcome)
