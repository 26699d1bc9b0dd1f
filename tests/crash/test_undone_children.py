"""A run that fails undoes what had finished, in runs that it called too, and begins anew with what was cancelled then."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, reach

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def release(_result: str, name: str) -> None:
    reach(f"before release {name}")
    did(f"release {name}")


@task(undo=release)
async def reserve(name: str) -> str:
    did(f"reserve {name}")
    return name


@task
async def confirm(name: str) -> str:
    did(f"confirm {name}")
    if "FAIL" in os.environ and "CONFIRMED" not in os.environ:
        await asyncio.get_running_loop().create_future()
    return name


@task(undo=release, idempotent=False, key="{name}")
async def pay(name: str) -> str:
    did(f"pay {name}")
    return await confirm(name)


@workflow
async def room(name: str) -> str:
    await reserve(f"{name} room")
    return await (pay if "PAY" in os.environ else confirm)(f"{name} room")


@workflow
async def hotel(name: str) -> str:
    await reserve(name)
    return await room(name)


async def _begun() -> None:
    while not any(effect.startswith("confirm") for effect in effects()):
        await asyncio.sleep(0.001)


@task
async def fly() -> None:
    await _begun()
    if "FAIL" in os.environ:
        raise ConnectionError


@workflow(run_id="trip")
async def at_once() -> Any:
    return (await asyncio.gather(hotel("inn"), fly()))[0]


@workflow(run_id="trip")
async def after_a_while() -> Any:
    try:
        async with asyncio.timeout(None) as limit:
            booked = asyncio.create_task(hotel("inn"))
            await _begun()
            if "FAIL" in os.environ:
                limit.reschedule(0)
            return await booked
    except TimeoutError:
        await fly()


RESERVED = ["reserve inn", "reserve inn room", "confirm inn room"]
RELEASED = ["release inn room", "release inn"]


@pytest.mark.parametrize("program", [at_once, after_a_while])
def test_what_a_cancelled_child_has_finished_is_undone(scene: Scene, program: Any) -> None:
    """A workflow that was called is cancelled because its sibling failed, or its time was over, and then the run fails:
    what it and the workflow that it had called finished is undone; called again, they are executed again."""
    scene.write_ledger([])
    assert scene.start(program, FAIL="1").error == "ConnectionError"
    assert scene.ledger == RESERVED + RELEASED
    scene.write_ledger([])
    outcome = scene.start(_retried if program is after_a_while else program)
    assert (outcome.value, outcome.error) == ("inn room", "")
    assert scene.ledger == RESERVED


def _retried() -> Any:
    return after_a_while.with_options(retry_failed=True)()


POINTS = ["before release inn room", "release inn room", "before release inn", "release inn"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_a_cancelled_child_is_undone(scene: Scene, point: str) -> None:
    """Killed around every compensation, the resumed run goes on undoing, and then begins anew."""
    scene.write_ledger([])
    scene.kill(point, at_once, FAIL="1")
    assert scene.start(at_once, FAIL="1").error == "ConnectionError"
    assert sorted(set(scene.ledger[3:])) == sorted(RELEASED)
    assert len(scene.ledger) == 5 + (not point.startswith("before"))
    scene.write_ledger([])
    assert scene.start(at_once).value == "inn room"
    assert scene.ledger == RESERVED


@task
async def arrange(name: str) -> str:
    return await hotel(name)


@workflow(run_id="trip")
async def arranged() -> Any:
    booked = await arrange("inn")
    await fly()
    return booked


@pytest.mark.parametrize("point", ["", "release inn room", "release inn"])
def test_a_step_that_called_an_undone_run_is_executed_again(scene: Scene, point: str) -> None:
    """A workflow is called below a step that succeeded, and is undone: called again, the run executes that step, too."""
    scene.write_ledger([])
    if point:
        scene.kill(point, arranged, FAIL="1", CONFIRMED="1")
    assert scene.start(arranged, FAIL="1", CONFIRMED="1").error == "ConnectionError"
    assert sorted(set(scene.ledger)) == sorted(RESERVED + RELEASED)
    scene.write_ledger(["confirmed before"])
    assert scene.start(arranged).value == "inn room"
    assert [effect for effect in scene.ledger if effect.startswith("reserve")] == RESERVED[:2]


@workflow(run_id="trip")
async def direct() -> Any:
    await reserve("inn")
    return (await asyncio.gather(confirm("inn"), fly()))[0]


def test_what_was_cancelled_with_its_run_is_executed_again(scene: Scene) -> None:
    """A step was under way when its sibling failed, and the run was undone: called again, the run executes it."""
    scene.write_ledger([])
    assert scene.start(direct, FAIL="1").error == "ConnectionError"
    assert scene.start(direct).value == "inn"
    assert scene.ledger == ["reserve inn", "confirm inn", "release inn", "reserve inn", "confirm inn"]


def test_a_doubt_in_a_cancelled_child_is_decided_first(scene: Scene) -> None:
    """A payment was under way in a workflow that was cancelled: nothing is undone before it is decided."""
    scene.write_ledger([])
    for _ in range(2):
        assert scene.start(at_once, FAIL="1", PAY="1").error == "StepInDoubtError"
    assert not any(effect.startswith("release") for effect in scene.ledger)
    assert scene.start(_decide).error == ""
    assert scene.start(at_once, FAIL="1", PAY="1").error == "ConnectionError"
    assert [effect for effect in scene.ledger if effect.startswith("release")] == ["release inn room", *RELEASED]


def _decide() -> None:
    [child] = [run for run in durable.list_runs() if run.workflow.endswith("room")]
    child.resolve("pay:inn room", durable.happened("inn room"))
