"""What is cancelled along with what failed is executed again, whatever other branches did meanwhile."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


async def _until(effect: str) -> None:
    while effect not in effects():
        await asyncio.sleep(0.001)


@task
async def load(name: str) -> str:
    did(f"load {name}")
    if "FAIL" in os.environ:
        await asyncio.get_running_loop().create_future()
    return name


@task(idempotent=False)
async def pay(name: str) -> str:
    return await load(name)


@task
async def check() -> None:
    await _until("load a")
    if "FAIL" in os.environ:
        raise ConnectionError


@task
async def note(name: str) -> None:
    did(name)


async def _both() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            loaded = group.create_task((pay if "PAY" in os.environ else load)("a"))
            group.create_task(check())
    except BaseExceptionGroup:
        did("cancelled")
        await _until("noted")
        raise
    return loaded.result()


@task
async def both() -> str:
    return await _both()


async def beside() -> None:
    if "FAIL" in os.environ:
        await _until("cancelled")
        await note("noted")
        saved("noted")


@workflow(run_id="at once")
async def in_a_task() -> Any:
    return (await asyncio.gather(both(), beside()))[0]


@workflow(run_id="at once")
async def in_a_branch() -> Any:
    return (await asyncio.gather(_both(), beside()))[0]


@pytest.mark.parametrize("program", [in_a_task, in_a_branch])
def test_what_was_cancelled_with_what_failed_is_executed_again(scene: Scene, program: Any) -> None:
    """A group of tasks fails and cancels the others in it, and another branch goes on for a while: called again, the run
    executes what was cancelled, and does not wait for another cancellation."""
    scene.write_ledger([])
    assert scene.start(program, FAIL="1").error == "ExceptionGroup"
    assert scene.start(program).value == "a"
    assert [effect for effect in scene.ledger if effect.startswith("load")] == ["load a", "load a"]


@pytest.mark.parametrize("program", [in_a_task, in_a_branch])
def test_a_payment_that_was_cancelled_with_what_failed_is_in_doubt(scene: Scene, program: Any) -> None:
    """The same with a payment: nobody knows whether it happened."""
    scene.write_ledger([])
    assert scene.start(program, FAIL="1", PAY="1").error == "ExceptionGroup"
    assert scene.start(program, PAY="1").error == "StepInDoubtError"


@task
async def fallback(name: str) -> str:
    did(f"fallback {name}")
    return name


@task
async def with_fallback() -> str:
    try:
        async with asyncio.timeout(0.05):
            return await pay("a")
    except TimeoutError:
        found = await fallback("b")
    await note("noted")
    if "FAIL" in os.environ:
        raise ConnectionError
    return found


@workflow(run_id="fallback")
async def falling_back() -> str:
    return await with_fallback()


def test_a_cancellation_that_was_handled_is_waited_for_again(scene: Scene) -> None:
    """A payment runs out of time in a step that goes on with another one and fails then: tried again, the step takes the
    same way, and nothing is paid for."""
    assert scene.start(falling_back, FAIL="1").error == "ConnectionError"
    before = scene.ledger
    assert scene.start(falling_back).value == "b"
    assert scene.ledger == before
    assert scene.start(_status).value == "succeeded"


def test_what_took_the_place_of_the_cancelled_is_executed_again(scene: Scene) -> None:
    """Killed in the payment that took the place of one that ran out of time, and failed after the next try of that: the first
    payment is still waited for, and not made."""
    scene.write_ledger([])
    scene.kill("fallback b", falling_back, FAIL="1")
    before = scene.ledger
    assert scene.start(falling_back, FAIL="1").error == "ConnectionError"
    assert scene.start(falling_back).value == "b"
    assert scene.ledger == [*before, "fallback b", "noted"]


def _status() -> str:
    return durable.get_run("fallback").status


@task
def look(name: str) -> None:
    did(f"look {name}")
    if "FAIL" in os.environ:
        raise ConnectionError(name)
    saved(f"looked {name}")


@workflow(run_id="going on")
async def going_on() -> str:
    loaded = asyncio.create_task(load("a"))
    if "FAIL" in os.environ:
        await _until("load a")
    look("x")
    look("y")
    return await loaded


def _going_on() -> str:
    return asyncio.run(going_on())




def test_calls_of_later_executions_say_nothing_about_a_cancellation(scene: Scene) -> None:
    """A step is cancelled because its run fails, the next execution makes new calls and is killed before it comes to that
    step: the third one executes it, and does not wait for another cancellation."""
    scene.write_ledger([])
    assert scene.start(_going_on, FAIL="1").error == "ConnectionError"
    scene.kill("looked y", _going_on)
    assert "tried again" in scene.cli("explain", "going on", "load").stdout
    assert scene.start(_going_on).value == "a"
    assert scene.ledger == ["load a", "look x", "look x", "look y", "look y", "load a"]
