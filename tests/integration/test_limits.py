"""Runs and tasks that take too long, and runs that are paused and cancelled in their own process."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.runs import sessions
from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from collections.abc import Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

executed: list[object] = []
patient = threading.Event()
TRIES = (0.1, 1, 10, 100)  # seconds
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()
    patient.clear()


def is_stopped(run_id: str) -> bool:
    return sessions.current().active[run_id].stopped is not None


def times_out(call: Callable[[float], Any], *, begun: Callable[[], Any]) -> BaseException:
    """Make a call with ever more seconds until what is to be stopped in it had begun; gives what it raised then."""
    for seconds in TRIES:
        with pytest.raises(TimeoutError) as raised:
            call(seconds)
        if begun():
            return raised.value
    raise AssertionError("it never began")


@task
def until_stopped(number: int) -> int:
    executed.append(number)
    until(lambda: patient.is_set() or is_stopped("work"))
    return number


@task
async def forever(number: int) -> int:
    executed.append(number)
    if not patient.is_set():
        await asyncio.Event().wait()
    return number


@workflow(run_id="work")
def work() -> list[int]:
    return [until_stopped(number) for number in range(2)]


@workflow(run_id="work")
async def async_work() -> list[int]:
    return list(await asyncio.gather(forever(0), forever(1)))


def statuses(run_id: str = "work") -> list[str]:
    return [durable.get_run(run_id).status, *(step.status for step in durable.get_run(run_id).steps)]


def has_steps(count: int, run_id: str = "work") -> bool:
    return len(statuses(run_id)) > count


def test_a_run_that_takes_too_long() -> None:
    """A sync run whose time is over ends at its next step as failed, and a call goes on with what is left."""
    raised = times_out(lambda seconds: work.with_options(timeout=seconds)(), begun=lambda: has_steps(1))
    assert re.search(r"work did not end within \d+(\.\d)? s", str(raised))
    assert statuses() == ["failed", "succeeded"]
    patient.set()
    assert work.with_options(timeout=60)() == [0, 1]
    assert executed == [0, 1]


def test_an_async_run_that_takes_too_long() -> None:
    """An async run whose time is over ends at once; the running steps are recorded as cancelled and executed again."""

    def call(seconds: float) -> Any:
        executed.clear()
        return asyncio.run(awaited(async_work.with_options(timeout=timedelta(seconds=seconds))()))

    raised = times_out(call, begun=lambda: executed == [0, 1])
    assert isinstance(raised, durable.RunTimeoutError)
    assert statuses() == ["failed", "cancelled", "cancelled"]
    patient.set()
    assert asyncio.run(awaited(async_work())) == [0, 1]
    assert executed == [0, 1, 0, 1]


async def awaited(coroutine: Any) -> Any:
    return await coroutine


def test_a_run_called_by_one_that_takes_too_long() -> None:
    """A run ends with the one that called it, and goes on with it; the time may stand in its decorator."""

    async def outer() -> list[int]:
        return await async_work()

    def call(seconds: float) -> Any:
        executed.clear()
        return asyncio.run(awaited(workflow(run_id="outer", timeout=seconds)(outer)()))

    raised = times_out(call, begun=lambda: executed == [0, 1])
    assert "outer" in str(raised)
    assert statuses("outer") == ["failed", "cancelled"]
    assert statuses() == ["cancelled", "cancelled", "cancelled"]
    patient.set()
    assert call(60) == [0, 1]


def test_a_block_that_takes_too_long() -> None:
    """A `with` block takes a timeout like a workflow."""

    def call(seconds: float) -> None:
        with durable.run("work", timeout=seconds):
            until_stopped(1)
            until_stopped(2)

    times_out(call, begun=lambda: executed)
    assert executed == [1]


def test_a_wait_in_a_run_that_takes_too_long() -> None:
    """A wait ends when the time of its run is over, and keeps its deadline for the next execution."""

    @workflow(run_id="work")
    def waits() -> Any:
        return durable.wait_for("go")

    for _ in range(2):
        times_out(lambda seconds: waits.with_options(timeout=seconds)(), begun=lambda: has_steps(1))
        assert statuses() == ["failed", "cancelled"]
    durable.send("work", "go", 1)
    assert waits() == 1


def test_a_task_that_takes_too_long() -> None:
    """A task's timeout is a failure of the step; it is executed again when the run is called again."""

    @task(timeout=0.1)
    def slow() -> str:
        executed.append("slow")
        assert patient.wait(LIMIT)
        return "done"

    @workflow(run_id="slow")
    def calls_slow() -> str:
        try:
            return (slow.with_options(timeout=60) if patient.is_set() else slow)()
        finally:
            patient.set()

    with pytest.raises(TimeoutError, match=r"did not end within 0\.1 s"):
        calls_slow()
    assert statuses("slow") == ["failed", "failed"]
    assert calls_slow() == "done"
    assert executed == ["slow", "slow"]


def test_an_async_task_that_takes_too_long() -> None:
    """An async task's timeout cancels what it awaits, is a failure of the step, and counts for each attempt."""

    @task(timeout=0.05, attempts=2)
    async def slow() -> str:
        executed.append("slow")
        await asyncio.sleep(0 if patient.is_set() else LIMIT)
        return "done"

    @workflow(run_id="slow")
    async def calls_slow() -> str:
        return await (slow.with_options(timeout=LIMIT) if patient.is_set() else slow)()

    with pytest.raises(TimeoutError):
        asyncio.run(awaited(calls_slow()))
    assert statuses("slow") == ["failed", "failed"]
    assert executed == ["slow"] * 2
    patient.set()
    assert asyncio.run(awaited(calls_slow())) == "done"
    assert executed == ["slow"] * 3


@pytest.mark.parametrize("wrong", [-1, 0, "3", True, float("nan"), float("inf"), 1e300, 10**400, timedelta(0), [1]])
def test_timeouts_that_cannot_be_meant(wrong: Any) -> None:
    """A timeout that is no positive number of seconds is refused when the function is decorated, or before a call."""
    for decorator in (task, workflow):
        with pytest.raises(durable.DefinitionError, match="timeout"):
            decorator(timeout=wrong)(test_timeouts_that_cannot_be_meant)
    with pytest.raises(durable.DefinitionError, match="timeout"):
        work.with_options(timeout=wrong)


@task(attempts=2)
def fails_once() -> str:
    executed.append("try")
    if len(executed) == 1:
        raise ConnectionError
    return "done"


def test_paused_in_its_own_process() -> None:
    """A run that is paused by a thread of its process begins no step and goes on when it is resumed there."""
    entered, go_on = threading.Event(), threading.Event()

    @task
    def first() -> str:
        entered.set()
        go_on.wait()
        return "first"

    @workflow(run_id="own")
    def own() -> list[str]:
        return [first(), fails_once()]

    run = own.start()
    entered.wait()
    run.pause()
    run.pause()
    go_on.set()
    until(lambda: "succeeded" in statuses("own")[1:])
    assert (run.status, executed) == ("paused", [])
    assert run.resume() == ["first", "done"]
    assert run.status == "succeeded"


async def test_an_async_run_paused_in_its_own_loop() -> None:
    """The same in an event loop, which runs on meanwhile."""

    @workflow(run_id="own")
    async def own() -> list[int]:
        await durable.wait_for("go")
        return [await forever(0)]

    patient.set()
    run = own.start()
    await asyncio.sleep(0)
    run.pause()
    run.send("go")
    while statuses("own")[1:] != ["succeeded"]:
        await asyncio.sleep(0.01)
    assert (run.status, executed) == ("paused", [])
    assert await run.resume() == [0]


@task
def items() -> Iterator[int]:
    executed.append("items")
    yield from range(2)


@pytest.mark.parametrize("is_generator", [False, True])
def test_a_pause_that_stops_an_event_loop_says_so(is_generator: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """A sync task or generator that an async workflow calls does not begin while its run is paused; that nothing in its event
    loop goes on meanwhile is said."""
    entered, go_on = threading.Event(), threading.Event()

    @workflow(run_id="own")
    async def own() -> Any:
        entered.set()
        go_on.wait()
        return list(items()) if is_generator else fails_once()

    run = own.start()
    entered.wait()
    run.pause()
    go_on.set()
    said = ""
    while "run own is paused, and a sync task" not in said:
        said += capfd.readouterr().err
    assert executed == []
    assert asyncio.run(run.resume()) == ([0, 1] if is_generator else "done")
    assert said.count("nothing in the loop goes on") == 1


def test_a_run_that_nobody_executes_is_paused() -> None:
    """Pausing marks an interrupted run, which a call continues; a run that ended in any way is left as it is."""
    with pytest.raises(durable.RunTimeoutError):
        work.with_options(timeout=0.1)()
    run = durable.get_run("work")
    run.pause()
    assert run.status == "failed"
    patient.set()
    assert run.resume() == [0, 1]
    run.pause()
    assert run.status == "succeeded"


async def test_a_back_off_ends_when_the_run_is_cancelled() -> None:
    """A run that is cancelled between two attempts ends at once; called again it makes the next attempt."""
    import tenacity  # noqa: PLC0415 -- slow to import

    @task(retry=tenacity.Retrying(wait=tenacity.wait_fixed(3600), stop=tenacity.stop_after_attempt(2)))
    def flaky() -> str:
        return fails_once.with_options(attempts=1)()

    @workflow(run_id="own")
    def own() -> str:
        return flaky()

    run = own.start()
    while not any(step.error for step in run.step_records() if step.status == "started"):
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        await run.wait()
    assert statuses("own") == ["cancelled", "cancelled", "failed"]
    assert own() == "done"
    assert executed == ["try", "try"]


async def test_cancelling_a_step_that_is_not_idempotent() -> None:
    """A step that is not idempotent and was running when its run was cancelled is in doubt."""

    @task(idempotent=False)
    async def pay() -> None:
        executed.append("pay")
        await asyncio.Event().wait()

    @workflow(run_id="own")
    async def own() -> None:
        await pay()

    run = own.start()
    while not executed:
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(durable.RunCancelledError):
        await run.wait()
    with pytest.raises(durable.StepInDoubtError):
        await own()
    assert executed == ["pay"]
