"""`durable.state` is never off by one: wherever the process is killed, steps have changed it as often as they finished."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from tenacity import AsyncRetrying, Retrying, stop_after_attempt

import durable
from durable import task, workflow
from tests.crash.effects import did, saved
from tests.crash.killing_stores import KillingStore
from tests.crash.zygote import KILLED, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene

COUNT = 4
points = kill_at = 0


def _point() -> None:
    global points
    points += 1
    if points == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def _count(name: str) -> int:
    """Count one step, and note its name, with a chance to be killed around each change."""
    _point()
    durable.state["last"] = name
    durable.state.add("names", [name])
    _point()
    durable.state.add("n", 1)
    _point()
    return int(durable.state["n"])


@task
def step(name: str) -> int:
    return _count(name)


@task
async def async_step(name: str) -> int:
    await asyncio.sleep(0)
    return _count(name)


@task(retry=Retrying(stop=stop_after_attempt(2), reraise=True))
def retried(name: str) -> int:
    seen = _count(name)
    assert step(f"in {name}") == seen + 1
    if durable.current().attempt % 2:
        raise ConnectionError(name)
    return int(durable.state["n"])


@task(retry=AsyncRetrying(stop=stop_after_attempt(2), reraise=True))
async def async_retried(name: str) -> int:
    seen = _count(name)
    await asyncio.gather(async_step(f"in {name}"), async_step(f"also in {name}"))
    if durable.current().attempt % 2:
        raise ConnectionError(name)
    return int(durable.state["n"]) - seen


@task
def fails(name: str) -> None:
    _count(name)
    step(f"in {name}")
    raise ValueError(name)


def _check(expected: int) -> None:
    assert durable.state.get("n", 0) == expected, (durable.state.get("n"), expected)
    _point()


@workflow(run_id="{run_id}")
def sync_sequence(run_id: str) -> Any:
    for number in range(COUNT):
        assert step(str(number)) == number + 1
        _check(number + 1)
        durable.state.add("seen", 1)
        assert durable.state["last"] == str(number)
    return dict(durable.state)


@workflow(run_id="{run_id}")
async def async_sequence(run_id: str) -> Any:
    for number in range(COUNT):
        assert await async_step(str(number)) == number + 1
        _check(number + 1)
        durable.state["seen"] = durable.state.get("seen", 0) + 1
    return dict(durable.state)


@workflow(run_id="{run_id}")
def nested(run_id: str) -> Any:
    for number in range(2):
        assert retried(str(number)) == 2 * number + 2
        _check(2 * number + 2)
        try:
            fails(f"fails {number}")
        except ValueError:
            _check(2 * number + 2)
    durable.state["seen"] = COUNT
    return dict(durable.state)


@workflow(run_id="{run_id}")
async def gathered(run_id: str) -> Any:
    async def branch(name: str) -> None:
        before = durable.state.get("n", 0)
        await async_step(name)
        assert durable.state["n"] > before
        _point()

    await asyncio.gather(*(branch(str(number)) for number in range(2)), async_retried("retried"))
    _check(5)
    durable.state["seen"] = COUNT
    return dict(durable.state)


WORKFLOWS: dict[str, tuple[Callable[..., Any], int]] = {
    "sync": (sync_sequence, COUNT),
    "async": (async_sequence, COUNT),
    "nested": (nested, 4),
    "gathered": (gathered, 5),
}
STEPS = {"nested": 3, "gathered": 2}  # how many points lie between two kills
every_kind = pytest.mark.parametrize("kind", WORKFLOWS)


def perform(folder: str, run_id: str, kind: str, point: int = 0, when: str = "", commit: int = 0) -> Any:
    """Execute a run to its end, killed at a point of its code or at a commit; gives its state, live and recorded."""
    global points, kill_at
    points, kill_at = 0, point
    durable.configure(KillingStore(f"{folder}/durable.db", when, commit))
    called = WORKFLOWS[kind][0](run_id)
    live = asyncio.run(_awaited(called)) if asyncio.iscoroutine(called) else called
    return live, dict(durable.get_run(run_id).state)


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _fault(zygote: Zygote, folder: str, run_id: str, kind: str) -> list[str]:
    """Let a run end, and say what is wrong with its state."""
    live, recorded = zygote.run(perform, folder, run_id, kind)
    expected = WORKFLOWS[kind][1]
    counts = live["n"], live["seen"], len(live["names"]), len(set(live["names"]))
    if counts != (expected, COUNT, expected, expected) or live != recorded:
        return [f"{run_id}: {live}, recorded {recorded}"]
    return []


@every_kind
def test_killed_at_every_boundary(zygote: Zygote, memory_folder: str, kind: str) -> None:
    """Killed around every change and behind every step, every other time twice: the state is what it would have been."""
    wrong = []
    for point in count(1, STEPS.get(kind, 1)):
        run_id = f"point-{point}"
        if zygote.run(perform, memory_folder, run_id, kind, point) != KILLED:
            break
        if point % 4 == 1:
            zygote.run(perform, memory_folder, run_id, kind, random.Random(point).randint(1, 12))
        wrong += _fault(zygote, memory_folder, run_id, kind)
    assert point > 3 * COUNT
    assert wrong == []


@every_kind
def test_killed_at_every_commit(zygote: Zygote, memory_folder: str, kind: str) -> None:
    """Killed before or after every commit: the state is what it would have been."""
    wrong = []
    for when in ("before", "after"):
        for commit in count(1):
            run_id = f"{when}-{commit}"
            if zygote.run(perform, memory_folder, run_id, kind, 0, when, commit) != KILLED:
                break
            wrong += _fault(zygote, memory_folder, run_id, kind)
    assert commit > 2
    assert wrong == []


@task
def counted(number: int) -> int:
    durable.state.add("n", 1)
    did(f"step {number}")
    return number


@workflow(run_id="counting")
def counting() -> list[int]:
    seen = []
    for number in range(4):
        seen.append(durable.state.get("n", 0))
        did(f"state {seen[-1]}")
        counted(number)
        saved(f"after {number}")
    return [*seen, durable.state["n"]]


def _recorded() -> dict[str, Any]:
    return dict(durable.get_run("counting").state)


def test_a_counter_goes_on_where_it_was(scene: Scene) -> None:
    """A counter of one a step, killed after two steps: two are recorded, and the resumed run counts on from two."""
    scene.kill("after 1", counting)
    assert scene.start(_recorded).value == {"n": 2}
    scene.forget()
    assert scene.start(counting).value == [0, 1, 2, 3, 4]
    assert scene.ledger == ["state 0", "state 1", "state 2", "step 2", "state 3", "step 3"]
    assert scene.start(_recorded).value == {"n": 4}
