"""Many processes over one file on a real disk: they wait for each other, and none ever hears that it is locked."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import traceback
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

pytestmark = pytest.mark.slow

PROCESSES = 16
RUNS = 200  # of each process
LIMIT = 250  # seconds after which they are taken to hang


def _did(name: str, number: int) -> None:
    """Write to the ledger; nothing is killed here, so it need not be flushed."""
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as ledger:
        ledger.write(f"{name} {number}\n")


@task
def fetch(number: int) -> int:
    _did("fetch", number)
    return number + 1


@task(idempotent=False, key="{number}")
def pay(number: int, cents: int) -> int:
    _did("pay", number)
    return cents * 2


@task
def send(number: int, cents: int) -> str:
    _did("send", number)
    return f"{number}: {cents}"


@workflow(run_id="order-{number}")
def order(number: int) -> str:
    return send(number, pay(number, fetch(number)))


@task
async def async_fetch(number: int) -> int:
    _did("fetch", number)
    return number + 1


@task(idempotent=False, key="{number}")
async def async_pay(number: int, cents: int) -> int:
    _did("pay", number)
    return cents * 2


@task
async def async_send(number: int, cents: int) -> str:
    _did("send", number)
    return f"{number}: {cents}"


@workflow(run_id="order-{number}")
async def async_order(number: int) -> str:
    return await async_send(number, await async_pay(number, await async_fetch(number)))


async def _async_orders(numbers: range) -> list[str]:
    """Make ten orders at a time."""
    found: list[str] = []
    for start in range(0, len(numbers), 10):
        found += await asyncio.gather(*map(async_order, numbers[start : start + 10]))
    return found


def _work(process: int) -> None:
    numbers = range(process * RUNS, (process + 1) * RUNS)
    found = asyncio.run(_async_orders(numbers)) if process % 2 else [order(number) for number in numbers]
    assert found == [f"{number}: {2 * number + 2}" for number in numbers]


def _work_together() -> list[int]:
    """Fork all processes at once; gives how they ended."""
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=2)
    forks = []
    for process in range(PROCESSES):
        fork = os.fork()
        if not fork:
            try:
                _work(process)
            except BaseException:
                _did(traceback.format_exc(), process)
            os._exit(0)
        forks.append(fork)
    return [os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) for fork in forks]


def _recorded() -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """Count the statuses of the runs, and what their steps are."""
    runs = durable.list_runs()
    tasks = Counter(tuple(f"{step.status} {step.attempts}" for step in run.steps) for run in runs)
    return Counter(run.status for run in runs), tasks


def test_many_processes_share_one_file(scene: Scene) -> None:
    """16 processes with 200 runs each, half of them sync, half async ten at a time: every result is right, every run
    succeeded, every step was executed and recorded once."""
    outcome = scene.start(_work_together)
    orders = range(PROCESSES * RUNS)
    assert Counter(scene.ledger) == Counter(
        f"{name} {number}" for name in ("fetch", "pay", "send") for number in orders
    )
    assert outcome.value == [0] * PROCESSES, outcome
    statuses, steps = scene.start(_recorded).value
    assert statuses == {"succeeded": len(orders)}
    assert steps == {("succeeded 1",) * 3: len(orders)}
