"""`durable.state` is never off by one: wherever the process is killed, steps have changed it as often as they finished."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from tenacity import AsyncRetrying, Retrying, stop_after_attempt

import durable
from durable import task, workflow
from tests.crash.effects import did, reach, saved
from tests.crash.killing_stores import KillingStore
from tests.crash.zygote import KILLED, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@task
def noted(seen: Any) -> Any:
    return seen


@workflow(run_id="{run_id}", max_workers=2, on_drift="error")
def submitted(run_id: str) -> Any:
    for pair in (("0", "1"), ("2", "3")):
        futures = [step.submit(name) for name in pair]
        for future in futures:
            future.result()
        _check(int(pair[1]) + 1)
        noted(dict(durable.state))  # in whichever order they ended: the state is the same ever after
    durable.state["seen"] = COUNT
    return dict(durable.state)


@workflow(run_id="{run_id}", max_workers=2, on_drift="error")
async def async_submitted(run_id: str) -> Any:
    results = async_step.map(["0", "1", "2"], ordered=False)
    async for _ in results:
        _point()
    await async_noted(dict(durable.state))
    await async_step.submit("3")
    _check(COUNT)
    durable.state["seen"] = COUNT
    return dict(durable.state)


@task
async def async_noted(seen: Any) -> Any:
    return seen


@task
def produced(name: str) -> Iterator[int]:
    for number in range(2):
        yield _count(f"{name} {number}")


@workflow(run_id="{run_id}", on_drift="error")
def generated(run_id: str) -> Any:
    seen = []
    for _ in produced("all"):
        seen.append(durable.state.get("n", 0))
        _point()
    assert noted(seen) == [0, 0]  # what a generator changes counts when it has ended
    _check(2)
    for _ in produced("closed"):
        break
    _check(3)
    try:
        for _ in produced("failed"):
            raise ValueError
    except ValueError:
        _check(4)
    durable.state["seen"] = COUNT
    return dict(durable.state)


@workflow
def child(name: str) -> int:
    for number in range(2):
        assert step(f"{name} {number}") == number + 1
    _check(2)
    return int(durable.state["n"])


@workflow(run_id="{run_id}")
def parent(run_id: str) -> Any:
    for number in range(2):
        step(f"before {number}")
        assert child(str(number)) == 2
        _check(2 * number + 1)
        step(f"after {number}")
    _check(COUNT)
    durable.state["seen"] = COUNT
    return dict(durable.state)


WORKFLOWS: dict[str, tuple[Callable[..., Any], int]] = {
    "sync": (sync_sequence, COUNT),
    "async": (async_sequence, COUNT),
    "nested": (nested, 4),
    "gathered": (gathered, 5),
    "submitted": (submitted, COUNT),
    "async submitted": (async_submitted, COUNT),
    "generated": (generated, COUNT),
    "children": (parent, COUNT),
}
STEPS = {"nested": 3, "gathered": 2, "children": 2}  # how many points lie between two kills
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


opened = threading.Event()
looked = threading.Event()


@task
def named(name: str) -> None:
    (looked if name == "slow" else opened).wait()
    durable.state["last"] = name
    durable.state.add("names", [name])


@workflow(run_id="ordered")
def ordered() -> Any:
    slow, quick = named.submit("slow"), named.submit("quick")
    before = durable.state.get("last")
    opened.set()
    quick.result()
    first = durable.state["last"]
    looked.set()
    slow.result()
    saved("")
    did(f"{before} {first} {durable.state['last']} {durable.state['names']}")
    return dict(durable.state)


def test_replayed_submissions_change_the_state_in_their_order(scene: Scene) -> None:
    """What submitted tasks changed is seen by a replay when it could be seen before, the last to end being the last."""
    seen = "None quick slow ['quick', 'slow']"
    scene.kill(seen, ordered)
    assert scene.start(ordered).value == {"last": "slow", "names": ["quick", "slow"]}
    assert scene.ledger == [seen, seen]


def uncount(result: None, name: str) -> None:
    did(f"undo {name} of {durable.state['of']}: {durable.state['n']}")
    durable.state.add("undone", [name])
    reach(f"undone {name}")


@task(undo=uncount)
def undoable(name: str) -> None:
    durable.state.add("n", 1)


@workflow(run_id="undoing")
def undoing() -> dict[str, Any]:
    durable.state["of"] = "the workflow"
    for name in "ab":
        undoable(name)
    if os.environ.get("SOLD_OUT"):
        raise ConnectionError
    return dict(durable.state)


def _left() -> dict[str, Any]:
    return dict(durable.get_run("undoing").state)


@pytest.mark.parametrize(
    "points", [[], ["undone b"], ["undo b of the workflow: 2", "undone a"], ["undone b", "undone a"]]
)
def test_compensations_see_and_change_the_state(scene: Scene, points: list[str]) -> None:
    """Compensations see the state that the run failed with and what others changed since, whatever kills the undoing; what
    they change is kept with the failed run, and a run that is called again begins without it."""
    for point in points:
        scene.kill(point, undoing, SOLD_OUT="1")
    assert scene.start(undoing, SOLD_OUT="1").error == "ConnectionError"
    assert set(scene.ledger) == {"undo b of the workflow: 2", "undo a of the workflow: 2"}
    assert scene.start(_left).value == {"of": "the workflow", "n": 2, "undone": ["b", "a"]}
    assert scene.start(undoing).value == {"of": "the workflow", "n": 2}
    assert scene.start(_left).value == {"of": "the workflow", "n": 2}


@task
def counting_pages() -> Iterator[int]:
    for number in range(3):
        durable.state.add("n", 1)
        did(f"page {number}")
        yield number


@workflow(run_id="reading")
def reading() -> list[int]:
    pages = []
    for page in counting_pages():
        if page == int(os.environ.get("FAIL_AT", "-1")):
            raise ConnectionError
        pages.append(page)
    return [*pages, durable.state["n"]]


def test_a_generator_that_is_asked_for_more_counts_once(scene: Scene) -> None:
    """A consumer that failed at an item asks for all of them later: what the generator counts is counted once."""
    assert scene.start(reading, FAIL_AT="1").error == "ConnectionError"
    scene.kill("page 2", reading)
    assert scene.start(reading).value == [0, 1, 2, 3]
