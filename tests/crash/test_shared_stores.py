"""One store under forks, threads and many processes: nobody waits in vain, nothing runs twice, keys stay the same."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.runs import sessions
from tests.crash.effects import did
from tests.crash.orders import check_once, orders, orders_until_paid, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
_PROCESSES, _THREADS, _RUNS = 32, 50, 3
_DAY = 86_400.0


@task(idempotent=False)
def count(who: str, number: int) -> int:
    did(f"{who} {number}")
    return number


@workflow(run_id="count-{who}")
def counting(who: str) -> int:
    return sum(count(who, number) for number in range(4))


def _expected(names: list[str]) -> list[str]:
    return sorted(f"{who} {number}" for who in names for number in range(4))


def _in_forks(programs: list[Callable[[], object]]) -> list[int]:
    """Run each program in a fork of its own, all at once; gives how they ended."""
    children = []
    for program in programs:
        children.append(os.fork())
        if not children[-1]:
            try:
                program()
            except BaseException as error:
                did(f"failed: {error!r}")
                os._exit(1)
            os._exit(0)
    return [os.waitpid(child, 0)[1] for child in children]


def parent_and_children() -> list[list[str]]:
    """Fork between the runs of a process, and inside one of them."""
    counting("first")
    ended = _in_forks([lambda name=name: counting(name) for name in ("child 1", "child 2")])  # type: ignore[misc]  # bound here
    counting("second")
    with durable.run("around"):
        count("around", 0)
        ended += _in_forks([lambda: counting("child 3")])
        count("around", 1)
    assert ended == [0, 0, 0]
    counting("first")
    return [[step.key for step in run.steps] for run in durable.list_runs() if run.id.startswith("count-child")]


def test_forks(scene: Scene) -> None:
    """A process that forks goes on, and so do its children, each with runs of its own."""
    outcome = scene.start(parent_and_children)
    assert outcome.error == "", outcome
    names = ["first", "second", "child 1", "child 2", "child 3"]
    assert sorted(scene.ledger) == sorted([*_expected(names), "around 0", "around 1"])
    for name in names:
        assert scene.start(counting, name).value == 6
    assert len(scene.ledger) == 22
    assert len(outcome.value) == 3


def same_run_in_children() -> list[int]:
    """Call the run that the parent began and finished, in forks of it."""
    assert counting("same") == 6
    return _in_forks([lambda: counting("same")] * 3)


def test_forks_know_the_run(scene: Scene) -> None:
    """A forked child that makes the same call finds the same run with the same steps: nothing is executed."""
    assert scene.start(same_run_in_children).value == [0, 0, 0]
    assert sorted(scene.ledger) == _expected(["same"])


def with_a_pool() -> list[int]:
    counting("parent")
    names = [f"worker {number}" for number in range(8)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(counting, names))


def test_pool_of_processes(scene: Scene) -> None:
    """Workers that `multiprocessing` forks from a process with an open store have runs of their own."""
    assert scene.start(with_a_pool).value == [6] * 8
    assert sorted(scene.ledger) == _expected(["parent", *(f"worker {number}" for number in range(8))])


def with_threads() -> list[int]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(counting, [f"thread {number}" for number in range(_THREADS)]))


def test_threads(scene: Scene) -> None:
    """Fifty threads over one store each have a run of their own, and a second process finds all of them."""
    assert scene.start(with_threads).value == [6] * _THREADS
    assert sorted(scene.ledger) == _expected([f"thread {number}" for number in range(_THREADS)])
    assert scene.start(with_threads).value == [6] * _THREADS
    assert len(scene.ledger) == 4 * _THREADS


def in_processes() -> list[int]:
    """Start many processes at once, none of which has opened anything, and each of which ends as a program ends."""

    def work(number: int) -> None:
        counting(f"process {number}")
        sessions._close_all()

    return _in_forks([lambda number=number: work(number) for number in range(_PROCESSES)])  # type: ignore[misc]  # bound here


def test_short_processes(scene: Scene) -> None:
    """Thirty-two short processes over one new store all get through: none finds the database locked."""
    assert scene.start(in_processes).value == [0] * _PROCESSES, scene.ledger
    assert sorted(scene.ledger) == _expected([f"process {number}" for number in range(_PROCESSES)])


def same_run_in_processes() -> list[int]:
    def work() -> None:
        while True:
            try:
                assert counting("one") == 6
            except durable.RunInProgressError:
                time.sleep(0.005)
            else:
                return

    return _in_forks([work] * 8)


def test_one_run_in_many_processes(scene: Scene) -> None:
    """Of many processes that call the same run at once one executes it; the others are told, and find its result."""
    assert scene.start(same_run_in_processes).value == [0] * 8, scene.ledger
    assert sorted(scene.ledger) == _expected(["one"])


def at_another_time(program: Callable[[], object], shift: float) -> object:
    sessions.clock = lambda: time.time() + shift
    return program()


@pytest.mark.parametrize(("before", "after"), [(_DAY, 0.0), (_DAY, -_DAY), (-_DAY, _DAY)])
def test_clock_jumps(scene: Scene, before: float, after: float) -> None:
    """A clock that jumps by days between two executions changes nothing."""
    scene.kill("", at_another_time, orders_until_paid, before)
    check_once(scene, scene.start(at_another_time, settle, after))
    ledger = scene.ledger
    check_once(scene, scene.start(at_another_time, orders, before))
    assert scene.ledger == ledger
