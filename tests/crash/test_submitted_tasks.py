"""Submitted tasks whose process is killed: what has finished stays finished, and only the rest is executed."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from durable import task, workflow
from durable.runs import sessions
from tests.crash import graphs
from tests.crash.effects import did, effects, is_first_start
from tests.crash.zygote import KILLED, Zygote
from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

COUNT = 1000
KILLS = 50  # at random moments, in each of two tests
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@pytest.mark.slow
@both_kinds
def test_a_thousand_tasks_killed_at_any_moment(memory_folder: str, is_async: bool) -> None:
    """A thousand dependent tasks with random failures, killed at fifty random moments: they end as if nothing had
    happened, no finished step is executed again, and never more than eight are executed at once."""
    seed = random.Random(is_async)
    found: list[str] = []
    kills = 0
    with Zygote("tests.crash.graphs") as zygote:
        for number in count(1):
            stage = graphs.Stage(memory_folder, f"graph-{number}", COUNT, is_async)
            begun = time.monotonic()
            while kills < KILLS and time.monotonic() - begun < 60:
                blow = (seed.uniform(0.02, 0.25), signal.SIGKILL)
                if zygote.run(graphs.perform, stage, blow=blow) != KILLED:
                    break
                kills += 1
            found += graphs.faults(stage, zygote.run(graphs.perform, stage))
            if kills >= KILLS:
                break
    assert found == []


@task
def part(number: int) -> int:
    did(f"part {number}")
    return number


@workflow(max_workers=1)
def batch() -> int:
    return sum(part.map(range(1, 8), concurrency=1))


@task
def merge(numbers: list[int]) -> int:
    did("merge")
    return sum(numbers)


@workflow
def fan_out() -> int:
    return merge.submit([part.submit(number) for number in (1, 2, 3)]).result()


def test_killed_in_mid_batch(scene: Scene) -> None:
    """A batch that is killed in its fourth item executes the rest alone."""
    scene.kill("part 4", batch)
    scene.forget()
    assert scene.start(batch).value == 28
    assert scene.ledger == [f"part {number}" for number in (4, 5, 6, 7)]


@task
def last_of(number: int) -> int:
    did(f"item {number}")
    return number


@workflow(max_workers=1)
def three_ways() -> list[int]:
    futures = [last_of.submit(number) for number in (1, 2, 3)]
    futures[0].result()
    sessions.current().journal.flush_all()  # so that the first is recorded
    if is_first_start():
        os.kill(os.getpid(), signal.SIGKILL)
    return [future.result() for future in futures]


def test_a_fan_out_of_three_killed_after_the_first(scene: Scene) -> None:
    """Killed when the first of three has ended, exactly the two others are executed."""
    scene.kill("item 2", three_ways)
    scene.forget()
    assert scene.start(three_ways).value == [1, 2, 3]
    assert scene.ledger == ["item 2", "item 3"]


def test_a_fan_out_waits_for_all_branches(scene: Scene) -> None:
    """What merges a fan-out is executed once, after all branches, wherever the run was killed."""
    for point in ("part 1", "part 2", "part 3", "merge"):
        there = scene.beside(point)
        there.kill(point, fan_out)
        assert there.start(fan_out).value == 6
        assert there.ledger[-1] == "merge"
        assert there.ledger.count("merge") == 1 + (point == "merge")


@task(executor="processes")
def remote(name: str) -> int:
    did(f"{name} {os.getpid()}")
    if is_first_start():
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@task(executor="processes", idempotent=False)
def remote_payment(name: str) -> int:
    did(f"{name} {os.getpid()}")
    if is_first_start():
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@workflow
def remote_work() -> int:
    return remote("work")


@workflow
def remote_pay() -> int:
    return remote_payment.submit("pay").result()


@workflow
def remote_retry() -> Any:
    return remote.with_options(attempts=2)("work")


def test_a_worker_process_that_dies_is_a_failure(scene: Scene) -> None:
    """When the process that executes an idempotent body is killed, the step fails and is executed again on resume."""
    assert scene.start(remote_work, START="first").error == "BrokenProcessPool"
    again = scene.start(remote_work)
    assert [line.split()[0] for line in scene.ledger] == ["work", "work"]
    assert scene.ledger[-1] == f"work {again.value}"


def test_a_payment_whose_worker_process_dies_is_in_doubt(scene: Scene) -> None:
    """When the process that executes a body that is not idempotent is killed, nobody knows: it is not executed again."""
    assert scene.start(remote_pay, START="first").error == "BrokenProcessPool"
    assert scene.start(remote_pay).error == "StepInDoubtError"
    assert len(scene.ledger) == 1


def test_attempts_after_a_worker_process_died(scene: Scene) -> None:
    """Further attempts get a new pool of processes."""
    outcome = scene.start(remote_retry, START="first")
    assert outcome.error == "BrokenProcessPool"
    assert len(scene.ledger) == 2


def test_worker_processes_end_with_the_process_of_the_run(scene: Scene) -> None:
    """When the process of a run is killed, a body that runs in a worker process does not outlive it for long."""
    scene.kill("waiting", remote_wait)
    pid = int(effects_of(scene)[0].split()[1])
    until(lambda: not _is_alive(pid))


def effects_of(scene: Scene) -> list[str]:
    return [line for line in scene.ledger if line.startswith("begun")]


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@task(executor="processes")
def wait_remotely() -> None:
    did(f"begun {os.getpid()}")
    time.sleep(LIMIT)


@task
def kill_when_begun() -> None:
    until(lambda: any(effect.startswith("begun") for effect in effects()))
    did("waiting")


@workflow
def remote_wait() -> None:
    did("submitting")
    wait_remotely.submit()
    kill_when_begun()
