"""Calls from threads of the user's own, with copied contexts, come in another order each time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from durable import task, workflow
from tests.crash.plays import LONGEST_PAUSE, Ledger, Play

if TYPE_CHECKING:
    from tests.crash.zygote import Zygote

THREADS = 4
SEEDS = 8
POINTS = {"distinct": 16, "alike": 8}  # where it is killed: in the first half of its bodies
play: Play


@task
def work(number: int) -> str:
    name = f"work {number}"
    play.begin(name, name)
    return name


@task
def give_token() -> str:
    value = play.token()
    play.begin("token", value)
    return value


@workflow(run_id="{run_id}")
def distinct(run_id: str, paid: bool) -> list[str]:
    working = work.with_options(idempotent=not paid)

    def call(number: int) -> str:
        time.sleep(random.random() * LONGEST_PAUSE)
        return working(number)

    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(copy_context().run, call, number) for number in range(16)]
    return [future.result() for future in waiting]


@workflow(run_id="{run_id}")
def alike(run_id: str, paid: bool) -> list[str]:
    giving = give_token.with_options(idempotent=not paid)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(copy_context().run, giving) for _ in range(8)]
    return sorted({future.result() for future in waiting})


def perform(folder: str, kind: str, paid: bool, run_id: str, number: int, kill_at: int) -> Any:
    global play
    play = Play(f"{folder}/{run_id}.ledger", f"{run_id}:{number}", kill_at)
    program = {"distinct": distinct, "alike": alike}[kind]
    return play.perform(f"{folder}/durable.db", run_id, lambda: program(run_id, paid))


@pytest.mark.parametrize("paid", [False, True], ids=["idempotent", "paid"])
@pytest.mark.parametrize("kind", POINTS)
def test_no_order_of_threads_repeats_or_refuses_a_call(
    zygote: Zygote, memory_folder: str, kind: str, paid: bool
) -> None:
    """Killed once or twice: nothing finished is executed again, only what was in flight is in doubt, equal calls get a result
    each, and a call that comes before recorded ones of other threads is not taken for one of those."""
    faults = []
    for seed in range(SEEDS):
        run_id, points = f"run-{seed}", random.Random(seed)
        for number in range(1 + seed % 2):
            zygote.run(perform, memory_folder, kind, paid, run_id, number, points.randint(1, POINTS[kind]))
        found = zygote.run(perform, memory_folder, kind, paid, run_id, 9, 0)
        ledger = Ledger.read(f"{memory_folder}/{run_id}.ledger")
        faults += [f"{run_id}, execution {fault}" for fault in ledger.faults(unique=lambda name: name != "token")]
        if ledger.drifted or len(found) != POINTS[kind]:
            faults.append(f"{run_id}: drifted {ledger.drifted}, gave {found}")
    assert faults == []
