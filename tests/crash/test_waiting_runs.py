"""Deadlines survive the process that waited: what is left of them is waited for, and nothing more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

import durable
from durable import task, workflow
from durable.runs import sessions
from durable.steps.details import Details
from tests.crash.effects import did, effects
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.runs.handles import Run
    from tests.crash.scenes import Scene

HOUR = 3600.0
SHORT = 1.5


@workflow(run_id="sleeper")
def sleeper() -> str:
    durable.sleep(HOUR)
    note("woken")
    return "woken"


@workflow(run_id="sleeper")
async def async_sleeper() -> str:
    await durable.sleep(HOUR)
    note("woken")
    return "woken"


@workflow(run_id="sleeper")
def listener() -> str:
    try:
        durable.wait_for("go", timeout=HOUR)
    except durable.WaitTimeoutError:
        note("timed out")
    return note("then")


@workflow(run_id="sleeper")
async def async_listener() -> str:
    try:
        await durable.wait_for("go", timeout=HOUR)
    except durable.WaitTimeoutError:
        note("timed out")
    return note("then")


@task
def note(what: str) -> str:
    did(what)
    return what


@task(retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(HOUR)))
def flaky() -> str:
    did("try")
    if effects().count("try") == 1:
        raise ConnectionError
    return "connected"


@workflow(run_id="sleeper")
def retrying() -> str:
    return flaky()


@task(retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(SHORT)))
def flaky_for_short() -> str:
    did("try")
    if effects().count("try") == 1:
        raise ConnectionError
    return "connected"


@workflow(run_id="sleeper")
def retrying_soon() -> str:
    return flaky_for_short()


@workflow(run_id="sleeper")
async def async_retrying_soon() -> str:
    await durable.sleep(SHORT)
    return flaky_for_short()


def until_it_waits(program: Callable[[], Any], shift: float = 0.0) -> None:
    """Go on with a run when the clock shows more by so many seconds, and be killed when a step has a deadline."""
    sessions.clock = lambda: time.time() + shift
    run = program.start()  # type: ignore[attr-defined]  # they are workflows
    until(lambda: deadline_of(run) is not None)
    if program not in (retrying, retrying_soon):
        until(lambda: run.status == "waiting")
    os.kill(os.getpid(), signal.SIGKILL)


def deadline_of(run: Run) -> float | None:
    for step in run.step_records():
        if step.status == "started" and (found := Details.read(step.details).until) is not None:
            return found
    return None


def recorded_deadline() -> float | None:
    return deadline_of(durable.get_run("sleeper"))


def later(program: Callable[[], Any], shift: float) -> Any:
    """Go on with a run when the clock shows more by so many seconds."""
    sessions.clock = lambda: time.time() + shift
    called = program()
    return asyncio.run(_awaited(called)) if asyncio.iscoroutine(called) else called


async def _awaited(called: Any) -> Any:
    return await called


@pytest.mark.parametrize("program", [sleeper, async_sleeper], ids=["sync", "async"])
def test_a_sleep_goes_on_with_the_time_that_is_left(scene: Scene, program: Any) -> None:
    """Killed in a sleep of an hour, and again half an hour later: it ends an hour after it began, and not before."""
    assert scene.is_killed(until_it_waits, program)
    deadline = scene.start(recorded_deadline).value
    assert scene.is_killed(until_it_waits, program, HOUR / 2)
    assert scene.start(recorded_deadline).value == deadline
    assert scene.ledger == []
    assert scene.start(later, program, HOUR).value == "woken"
    assert scene.ledger == ["woken"]


@pytest.mark.parametrize("program", [sleeper, async_sleeper], ids=["sync", "async"])
def test_a_clock_that_was_set_back_prolongs_no_sleep(scene: Scene, program: Any) -> None:
    """Killed in a sleep of an hour by a clock that is ten hours fast: by the right one it lasts an hour at most."""
    assert scene.is_killed(until_it_waits, program, 10 * HOUR)
    assert scene.is_killed(until_it_waits, program)
    assert scene.start(recorded_deadline).value <= time.time() + HOUR
    assert scene.start(later, program, HOUR).value == "woken"


def set_back(program: Any) -> Any:
    """Set the clock back by ten hours whenever a step of the run has a deadline."""
    shift = [0.0]
    sessions.clock = lambda: time.time() + shift[0]
    run, set_for = program.start(), None
    while run.status != "succeeded":
        if (deadline := deadline_of(run)) not in (None, set_for):
            set_for = deadline
            shift[0] -= 10 * HOUR
        time.sleep(0.01)
    return run.result()


def test_a_clock_that_was_set_back_prolongs_no_retry(scene: Scene) -> None:
    """Killed during a back-off by a clock that is ten hours fast: by the right one the pause is the planned one at most."""
    assert scene.is_killed(until_it_waits, retrying_soon, 10 * HOUR)
    assert scene.start(later, retrying_soon, 0.0).value == "connected"
    assert scene.ledger == ["try", "try"]


@pytest.mark.parametrize("program", [retrying_soon, async_retrying_soon], ids=["sync", "async"])
def test_a_clock_that_is_set_back_meanwhile(scene: Scene, program: Any) -> None:
    """A clock that is set back by ten hours during a sleep or a back-off prolongs neither."""
    assert scene.start(set_back, program).value == "connected"


@pytest.mark.parametrize("program", [listener, async_listener], ids=["sync", "async"])
def test_a_deadline_for_a_message_survives(scene: Scene, program: Any) -> None:
    """Killed while it waits for a message: the deadline is the first one, and that none came is recorded and replayed."""
    assert scene.is_killed(until_it_waits, program)
    deadline = scene.start(recorded_deadline).value
    assert scene.is_killed(until_it_waits, program, HOUR / 2)
    assert scene.start(recorded_deadline).value == deadline
    assert scene.is_killed(later, program, HOUR, KILL_AT="then")
    scene.start(durable.send, "sleeper", "go", "too late")
    assert scene.start(later, program, HOUR).value == "then"
    assert scene.ledger == ["timed out", "then", "then"]


@pytest.mark.parametrize("program", [listener, async_listener], ids=["sync", "async"])
def test_a_message_that_came_while_nobody_ran_counts(scene: Scene, program: Any) -> None:
    """A message sent to a run whose process was killed is received, also when the run goes on after the deadline."""
    assert scene.is_killed(until_it_waits, program)
    scene.start(durable.send, "sleeper", "go")
    assert scene.start(later, program, 2 * HOUR).value == "then"
    assert scene.ledger == ["then"]


def test_a_retry_timer_survives(scene: Scene) -> None:
    """Killed during the back-off of an hour, and again half an hour later: the next attempt comes when the hour is over."""
    assert scene.is_killed(until_it_waits, retrying)
    deadline = scene.start(recorded_deadline).value
    assert scene.is_killed(until_it_waits, retrying, HOUR / 2)
    assert scene.start(recorded_deadline).value == deadline
    assert scene.ledger == ["try"]
    assert scene.start(later, retrying, HOUR + 1).value == "connected"
    assert scene.ledger == ["try", "try"]
    assert [attempts for _, attempts in scene.start(recorded_attempts).value] == [2]


def recorded_attempts() -> list[tuple[str, int]]:
    return [(step.key, step.attempts) for step in durable.get_run("sleeper").steps]
