"""Bodies in other processes: whichever process dies, only what had begun is in doubt, and nothing is executed twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.records import StepFlag
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


PLACES = 2
own = ThreadPoolExecutor(PLACES)


def _make() -> Executor:
    return ThreadPoolExecutor(PLACES)


@workflow(run_id="payments")
async def own_payments(task_name: str, kind: str) -> list[int]:
    did("submitting")
    paying = (pay if task_name == "pay" else pay_async).with_options(executor=own if kind == "own" else _make)
    found = [*paying.map(range(0, COUNT, 2), concurrency=8).futures, *map(paying.submit, range(1, COUNT, 2))]
    if "KILL_PARENT" in os.environ:
        await kill_when_begun.submit(os.environ["KILL_PARENT"])
    await durable.wait_async(found)
    return [future.result() for future in found if future.exception() is None]


@workflow(run_id="payments", max_workers=8)
def payments_on_a_pool_of_its_own() -> list[int]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = pay.with_options(executor=pool).map(range(COUNT * 3)).futures
        durable.wait(found)
    if "KILL_WORKER" in os.environ:
        found[-1].result()
    return [future.result() for future in found if future.exception() is None]


def test_what_a_broken_pool_was_never_sent_is_not_in_doubt(scene: Scene) -> None:
    """A worker process of the user's own pool dies: what is refused by the pool from then on was not executed, and the next
    call of the run executes it; only what was on its way may have been."""
    assert scene.start(payments_on_a_pool_of_its_own, KILL_WORKER="3").error == "BrokenProcessPool"
    failed = scene.start(_failed).value
    begun = [effect.partition(" ")[2] for effect in scene.ledger if effect.startswith("begin")]
    assert len(failed) <= 8
    assert set(_begun_and_not_ended(scene)) <= set(failed)
    found = scene.start(_retry_all).value
    assert sorted(map(str, found)) == sorted({str(number) for number in range(COUNT * 3)} - set(failed))
    ended = [effect.partition(" ")[2] for effect in scene.ledger if effect.startswith("begin")]
    assert len(ended) == len(set(ended)) == COUNT * 3 - len(set(failed) - set(begun))


def _failed() -> list[str]:
    """Payments of which nobody knows."""
    records = durable.get_run("payments").step_records()
    return [
        step.label.partition(":")[2]
        for step in records
        if step.status == "failed" and not step.flags & StepFlag.NO_EFFECT
    ]


def _retry_all() -> list[int]:
    run = durable.get_run("payments")
    for number in _failed():
        run.resolve(f"pay:{number}", durable.happened(-1))
    found = payments_on_a_pool_of_its_own.with_options(retry_failed=True)()
    return [number for number in found if number >= 0]


@task(idempotent=False)
def send_mail(to: str) -> str:
    did(f"mail {to}")
    return to


@task(executor="processes")
def report(to: str) -> str:
    did(f"report {to}")
    return send_mail(to)


@workflow(run_id="reports")
def reports() -> str:
    return report("ada")


def test_what_must_not_be_repeated_is_not_called_in_a_body_elsewhere(scene: Scene) -> None:
    """A task that is not idempotent, called by a body in another process, could not be recorded: it is refused."""
    outcome = scene.start(reports)
    assert outcome.error == "OutsideRunError"
    assert "was not executed" in outcome.message
    assert scene.ledger == ["report ada"]


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


@pytest.mark.parametrize("kind", ["own", "made"])
@pytest.mark.parametrize("task_name", ["pay", "pay_async"])
def test_what_waits_for_a_place_on_an_executor_is_not_in_doubt(scene: Scene, task_name: str, kind: str) -> None:
    """Killed while two bodies run on an executor of that size, a run is in doubt about those alone."""
    assert scene.is_killed(own_payments, task_name, kind, KILL_PARENT="5", KILL_AT="all begun")
    doubts = {key.partition(":")[2] for key in scene.start(_doubts).value if key.startswith("pay")}
    assert "5" in doubts
    assert len(doubts) <= PLACES
    for number in doubts:
        scene.start(_resolve, f"{task_name}:{number}", durable.happened(-1))
    found = scene.start(own_payments, task_name, kind).value
    assert sorted(found) == sorted(-1 if str(number) in doubts else number for number in range(COUNT))
    assert set(_begun_and_not_ended(scene)) <= doubts


def _resolve(step: str, outcome: durable.Happened) -> None:
    durable.get_run("payments").resolve(step, outcome)
