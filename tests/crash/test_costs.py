"""Amounts are never counted twice nor lost: wherever the process is killed, each attempt counts once, or as unknown.

The n-th attempt of a step, over all its executions, spends 10 to the power of n: the digits of what is recorded tell
which attempts counted, and how often.
"""

from __future__ import annotations

import asyncio
import os
import signal
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from tenacity import AsyncRetrying, Retrying, stop_after_attempt

import durable
from durable import task, workflow
from tests.crash.killing_stores import KillingStore
from tests.crash.zygote import KILLED, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 3
points = kill_at = 0
ledger_path = ""


def _point() -> None:
    global points
    points += 1
    if points == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def _write(*words: object) -> None:
    with open(ledger_path, "a", encoding="utf-8") as ledger:
        ledger.write(" ".join(map(str, words)) + "\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def _read(path: str) -> list[list[str]]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as ledger:
        return [line.split() for line in ledger]


def _spend() -> None:
    """Spend what the present attempt spends, in two parts."""
    key = durable.idempotency_key()
    number = sum(words == ["begin", key] for words in _read(ledger_path))
    _write("begin", key)
    _point()
    durable.spend(usd=Decimal(10) ** number / 2, calls=1)
    _point()
    durable.spend(usd=Decimal(10) ** number / 2, calls=1)
    _point()


def _ack(key: str) -> None:
    """Note that code got what a step gave, whose record is durable therefore."""
    _write("ack", key)
    _point()


@task
def pay(name: str) -> str:
    _spend()
    return durable.idempotency_key()


@task(cost=lambda result: {"usd": 0, "priced": 1})
def priced(name: str) -> str:
    _spend()
    return durable.idempotency_key()


@task(retry=Retrying(stop=stop_after_attempt(2), reraise=True))
def retried(name: str) -> str:
    _spend()
    _ack(pay(f"in {name}"))
    if durable.current().attempt < 2:
        raise ConnectionError(name)
    return durable.idempotency_key()


@task(idempotent=False, no_effect_on=ConnectionError)
def fails(name: str) -> None:
    _spend()
    raise ConnectionError(name)


@task
async def pay_async(name: str) -> str:
    _spend()
    await asyncio.sleep(0)
    _point()
    return durable.idempotency_key()


@task(retry=AsyncRetrying(stop=stop_after_attempt(2), reraise=True))
async def retried_async(name: str) -> str:
    _spend()
    _ack(await pay_async(f"in {name}"))
    if durable.current().attempt < 2:
        raise ConnectionError(name)
    return durable.idempotency_key()


@workflow
def child(name: str) -> str:
    _ack(pay(f"child {name}"))
    return name


@workflow(run_id="{run_id}")
def sequence(run_id: str) -> None:
    _ack(pay("a"))
    _ack(priced("b"))
    _ack(retried("c"))
    child(run_id)
    try:
        fails("d")
    except ConnectionError:
        _point()


@workflow(run_id="{run_id}")
async def gathered(run_id: str) -> None:
    async def branch(name: str) -> None:
        _ack(await pay_async(name))

    await asyncio.gather(branch("a"), branch("b"), retried_async("c"))


@workflow(run_id="{run_id}", budget=BUDGET)
def bounded(run_id: str) -> None:
    for number in range(2 * BUDGET):
        _ack(one(number))


@task
def one(number: int) -> str:
    _write("begin", durable.idempotency_key())
    _point()
    durable.spend(usd=1)
    _point()
    return durable.idempotency_key()


WORKFLOWS: dict[str, Callable[[str], Any]] = {"sequence": sequence, "gathered": gathered, "bounded": bounded}


def perform(folder: str, run_id: str, kind: str, point: int = 0, when: str = "", commit: int = 0) -> dict[str, Any]:
    """Execute a run to its end, killed at a point of its code or at a commit; gives what is recorded of its costs."""
    global points, kill_at, ledger_path
    points, kill_at, ledger_path = 0, point, f"{folder}/{run_id}"
    durable.configure(KillingStore(f"{folder}/durable.db", when, commit))
    for _ in range(9):
        try:
            called = WORKFLOWS[kind](run_id)
            if asyncio.iscoroutine(called):
                asyncio.run(called)
            break
        except durable.BudgetExceededError:
            break
        except durable.StepInDoubtError as doubt:
            _write("decided", doubt.idempotency_key)
            durable.get_run(run_id).resolve(doubt.step_key, durable.did_not_happen)
    run = durable.get_run(run_id)
    steps = run.steps + [step for each in durable.list_runs(parent=run_id) for step in each.steps]
    return {
        "total": run.cost,
        "steps": {step.idempotency_key: step.cost for step in steps if not step.name.endswith("child")},
    }


def _fault(folder: str, run_id: str, found: dict[str, Any], kills: int) -> list[str]:
    """Say what is wrong with the recorded costs of a run, by its ledger."""
    words = _read(f"{folder}/{run_id}")
    wrong = []
    for key, cost in found["steps"].items():
        begun = words.count(["begin", key])
        digits = [int(digit) for digit in reversed(str(int(cost.usd)))]
        counted = sum(digits)
        is_right = (
            set(digits) <= {0, 1}
            and len(digits) == begun  # the last attempt ended, so it counts
            and digits[-1] == 1
            and cost.units["calls"] == 2 * counted
            and begun - counted - words.count(["decided", key]) <= cost.unknown <= kills  # decided: nothing was spent
        )
        if not is_right:
            wrong.append(f"{run_id} {key}: {cost!r} after {begun} attempts")
    parts = found["steps"].values()
    if found["total"].usd != sum(cost.usd for cost in parts):
        wrong.append(f"{run_id}: {found['total']}")
    if len(parts) != len({key for kind, key in words if kind == "begin"}):
        wrong.append(f"{run_id}: {len(parts)} steps")
    return wrong


@pytest.mark.parametrize("kind", ["sequence", "gathered"])
def test_killed_at_every_boundary(zygote: Zygote, memory_folder: str, kind: str) -> None:
    """Killed before, between and behind what bodies spend: each attempt counts once, or is said to be unknown."""
    wrong = []
    for point in count(1, 2):
        run_id = f"point-{point}"
        if zygote.run(perform, memory_folder, run_id, kind, point) != KILLED:
            break
        found = zygote.run(perform, memory_folder, run_id, kind)
        wrong += _fault(memory_folder, run_id, found, 1)
    assert point > 20
    assert wrong == []


@pytest.mark.parametrize("kind", ["sequence", "gathered"])
def test_killed_at_every_commit(zygote: Zygote, memory_folder: str, kind: str) -> None:
    """Killed before or after every commit: amounts are committed with the results that they are for."""
    wrong = []
    for when in ("before", "after"):
        for commit in count(1):
            run_id = f"{when}-{commit}"
            if zygote.run(perform, memory_folder, run_id, kind, 0, when, commit) != KILLED:
                break
            found = zygote.run(perform, memory_folder, run_id, kind)
            wrong += _fault(memory_folder, run_id, found, 1)
    assert commit > 5
    assert wrong == []


def test_a_budget_holds_over_restarts(zygote: Zygote, memory_folder: str) -> None:
    """Killed anywhere, a run resumes with what it has spent: no body starts once that is the budget."""
    for point in count(1):
        run_id = f"point-{point}"
        if zygote.run(perform, memory_folder, run_id, "bounded", point) != KILLED:
            break
        for _ in range(2):
            found = zygote.run(perform, memory_folder, run_id, "bounded")
            words = _read(f"{memory_folder}/{run_id}")
            begun, acknowledged = ({key for kind, key in words if kind == which} for which in ("begin", "ack"))
            assert len(begun) == len(acknowledged) == BUDGET
            assert found["total"].usd == BUDGET
            assert found["total"].unknown == (len([kind for kind, _ in words if kind == "begin"]) > BUDGET)
    assert point > 3 * BUDGET
