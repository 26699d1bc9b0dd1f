"""Waiting for time and for messages, in every kind of function that can wait."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

executed: list[object] = []
failing: list[Exception] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()
    failing.clear()


@task
def use(value: Any) -> Any:
    executed.append(value)
    if failing:
        raise failing[0]
    return value


@task
async def async_use(value: Any) -> Any:
    executed.append(value)
    await asyncio.sleep(0)
    return value


@workflow(run_id="inbox")
def inbox(*names: str) -> list[Any]:
    use("begin")
    received = [durable.wait_for(name) for name in names]
    use("end")
    return received


@workflow(run_id="inbox")
async def async_inbox(*names: str) -> list[Any]:
    await async_use("begin")
    received = [await durable.wait_for(name) for name in names]
    await async_use("end")
    return received


def steps(run_id: str) -> list[tuple[str, str]]:
    return [(step.key, step.status) for step in durable.get_run(run_id).steps]


def until_waiting(run: durable.Run) -> None:
    until(lambda: run.status == "waiting")


def test_first_in_first_out() -> None:
    """Messages of one name come in the order in which they were sent, equal ones each for itself; names do not mix."""
    run = inbox.start("a", "a", "b", "a")
    for name, payload in (("a", 1), ("b", {"x": [None, 2.5]}), ("a", 1), ("a", b"3")):
        run.send(name, payload)
    assert run.result() == [1, 1, {"x": [None, 2.5]}, b"3"]
    assert run.status == "succeeded"
    assert [key for key, _ in steps("inbox")] == [
        *("use:" + steps("inbox")[0][0].partition(":")[2], "durable.wait_for:a", "durable.wait_for:a~2"),
        *("durable.wait_for:b", "durable.wait_for:a~3", steps("inbox")[-1][0]),
    ]


def test_sent_before_the_wait() -> None:
    """A message that was sent before the run came to its wait, even while nobody executed it, is there."""
    failing.append(ConnectionError())
    with pytest.raises(ConnectionError):
        inbox("a")
    failing.clear()
    durable.send("inbox", "a", "early")
    assert inbox("a") == ["early"]


def test_waiting_is_shown_until_it_is_over() -> None:
    """A run is `waiting` while it waits for a message and not before or after; a resumed one has what it received."""
    run = inbox.start("a", "b")
    until_waiting(run)
    run.send("a", 1)
    until(lambda: len(run.steps) == 3)
    until_waiting(run)
    run.send("b", 2)
    assert run.result() == [1, 2]
    executed.clear()
    assert inbox("a", "b") == [1, 2]
    assert executed == []


def test_a_received_message_is_replayed() -> None:
    """What a run received before it failed it is given again; a message that came since is not taken for it."""

    @workflow(run_id="two")
    def two() -> list[Any]:
        first = durable.wait_for("a")
        use(first)
        return [first, durable.wait_for("a")]

    run = two.start()
    failing.append(ConnectionError())
    run.send("a", 1)
    with pytest.raises(ConnectionError):
        run.result()
    failing.clear()
    run.send("a", 2)
    assert two() == [1, 2]
    assert executed == [1, 1]


async def test_async() -> None:
    """In an async workflow the waits are awaited, and the loop runs on meanwhile; branches get a message each."""

    @workflow(run_id="branches")
    async def branches() -> list[Any]:
        return list(
            await asyncio.gather(
                durable.wait_for("a"),
                durable.wait_for("a"),
                durable.sleep(0.01),
                asyncio.create_task(durable.wait_for("b")),
            )
        )

    run = branches.start()
    await asyncio.sleep(0)
    for name, payload in (("b", 3), ("a", 1), ("a", 2)):
        run.send(name, payload)
    assert await run.wait() == [1, 2, None, 3]
    assert await branches() == [1, 2, None, 3]


async def test_a_wait_that_the_code_gives_up() -> None:
    """A wait that asyncio cancels is recorded as cancelled and cancelled again in a replay; no message is lost by it."""
    times_out = [0.01]

    @workflow(run_id="race")
    async def race() -> Any:
        try:
            async with asyncio.timeout(times_out[0]):
                return await durable.wait_for("a")
        except TimeoutError:
            await async_use("instead")
        if failing:
            raise failing[0]
        return await durable.wait_for("a")

    failing.append(ConnectionError())
    with pytest.raises(ConnectionError):
        await race()
    failing.clear()
    durable.send("race", "a", "late")
    assert await race() == "late"
    assert executed == ["instead"]


def test_a_timeout_is_recorded() -> None:
    """That no message came in time is a typed error; handled, it is replayed, although a message came since."""

    @workflow(run_id="late")
    def late() -> str:
        try:
            durable.wait_for("a", timeout=timedelta(seconds=0.01))
        except durable.WaitTimeoutError as error:
            found = str(error)
        use("then")
        return found

    failing.append(ConnectionError())
    with pytest.raises(ConnectionError):
        late()
    failing.clear()
    durable.send("late", "a")
    assert "durable send late a JSON" in late()
    assert steps("late")[0] == ("durable.wait_for:a", "failed")


def test_a_timeout_that_ended_the_run_is_tried_again() -> None:
    """A wait whose timeout nobody handled waits anew when the run is called again."""

    @workflow(run_id="late")
    def late() -> Any:
        return durable.wait_for("a", timeout=0)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            late()
    durable.send("late", "a", "there")
    assert late() == "there"


def test_waits_in_tasks() -> None:
    """A task may wait too; its wait stands below it, and is not repeated when the task is tried again."""

    @task(attempts=2)
    def ask() -> Any:
        durable.sleep(timedelta(0))
        answer = durable.wait_for("a")
        return use(answer)

    @workflow(run_id="asks")
    def asks() -> Any:
        return ask()

    run = asks.start()
    run.send("a", "yes")
    assert run.result() == "yes"
    assert [key.partition("/")[2].partition(":")[0] for key, _ in steps("asks")] == [
        "",
        "durable.sleep",
        "durable.wait_for",
        "use",
    ]


async def test_waits_suit_the_function_that_waits() -> None:
    """A sync task of an async workflow blocks, an async one awaits."""
    found: list[object] = []

    @task
    def sync_task() -> None:
        found.append(durable.sleep(0))

    @task
    async def async_task() -> None:
        waiting = durable.sleep(0)
        found.append(inspect.iscoroutine(waiting))
        await waiting

    @workflow
    async def both() -> None:
        sync_task()
        await async_task()

    await both()
    assert found == [None, True]


def test_a_run_sends_once() -> None:
    """Sending inside a run is a step: a run that is called again does not send again what it has sent."""

    @workflow(run_id="teller")
    def teller() -> None:
        durable.send("inbox", "a", {"n": 1})
        durable.send("inbox", "a", {"n": 1})
        use("sent")

    run = inbox.start("a", "a", "b")
    until_waiting(run)
    failing.append(ConnectionError())
    with pytest.raises(ConnectionError):
        teller()
    failing.clear()
    teller()
    run.send("b", "last")
    assert run.result() == [{"n": 1}, {"n": 1}, "last"]


async def test_an_async_run_sends() -> None:
    """Inside an async workflow sending is awaited."""

    @workflow
    async def teller() -> None:
        await durable.send("inbox", "a", 1)

    run = async_inbox.start("a")
    await asyncio.sleep(0)
    await teller()
    assert await run.wait() == [1]


def test_large_messages() -> None:
    """A payload that goes to a file of its own is received, and given again."""
    run = inbox.start("a")
    run.send("a", "x" * 1_000_000)
    assert run.result() == ["x" * 1_000_000]
    assert inbox("a") == ["x" * 1_000_000]


def test_threads_get_a_message_each() -> None:
    """Waits of several threads of one run get one message each."""
    found: list[Any] = []

    @workflow(run_id="threads")
    def threads() -> list[Any]:
        def wait() -> None:
            found.append(durable.wait_for("a"))

        started = [threading.Thread(target=contextvars.copy_context().run, args=(wait,), daemon=True) for _ in range(4)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        return sorted(found)

    run = threads.start()
    for number in range(4):
        run.send("a", number)
    assert run.result() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "wrong", [-1, -0.5, float("nan"), float("inf"), 1e300, 10**400, "1", None, True, 1j, timedelta(seconds=-1), [1]]
)
def test_durations_that_cannot_be_meant(wrong: Any) -> None:
    """A sleep or timeout that is negative, not finite or no duration is refused before anything is executed."""

    @workflow
    def waits() -> None:
        with pytest.raises(durable.ConfigurationError, match="seconds or a timedelta"):
            durable.sleep(wrong)
        if wrong is not None:
            with pytest.raises(durable.ConfigurationError, match="seconds or a timedelta"):
                durable.wait_for("a", timeout=wrong)

    waits()
    [run] = durable.list_runs()
    assert run.steps == []


@pytest.mark.parametrize("wrong", ["", 5, None, b"a", "a\0b", "\ud800", []])
def test_names_that_cannot_be_meant(wrong: Any) -> None:
    """A message has a name that is a string and not empty; anything else is refused, by who waits and by who sends."""

    @workflow(run_id="waits")
    def waits() -> None:
        with pytest.raises(durable.ConfigurationError, match="name"):
            durable.wait_for(wrong)
        with pytest.raises(durable.ConfigurationError, match="name"):
            durable.send("waits", wrong)

    waits()
    with pytest.raises(durable.ConfigurationError, match="name"):
        durable.get_run("waits").send(wrong)
    assert steps("waits") == []


def test_outside_a_run() -> None:
    """Waiting outside a run is an error that says so."""
    with pytest.raises(durable.OutsideRunError, match="outside a run"):
        durable.sleep(1)
    with pytest.raises(durable.OutsideRunError, match="outside a run"):
        durable.wait_for("a")


@pytest.mark.parametrize("wrong", ["", 5, None, "x" * 256, "a\0"])
def test_run_ids_that_cannot_be_meant(wrong: Any) -> None:
    """What cannot be the id of a run gets no message."""
    with pytest.raises(durable.ConfigurationError, match="run id"):
        durable.send(wrong, "a")


def test_runs_that_take_no_message() -> None:
    """A run that does not exist, even if the id is the beginning of one, or that is over, takes no message."""
    with pytest.raises(durable.NotFoundError, match="'inb'.*durable ls"):
        durable.send("inb", "a")
    inbox()
    with pytest.raises(durable.NotFoundError):
        durable.send("inb", "a")
    with pytest.raises(durable.RunEndedError, match="inbox is succeeded"):
        durable.send("inbox", "a")
    inbox.with_options(fresh=True)()
    assert durable.get_run("inbox~2").status == "succeeded"


def generated() -> Iterator[int]:
    yield 1


def test_payloads_that_cannot_be_stored() -> None:
    """A payload that cannot be stored is refused with the path to the culprit, and nothing is sent."""
    run = inbox.start("a")
    with pytest.raises(durable.NotSerializableError, match=r"payload\['rows'\]"):
        run.send("a", {"rows": generated()})
    run.send("a", 1)
    assert run.result() == [1]

    @workflow
    def sends() -> None:
        with pytest.raises(durable.NotSerializableError):
            durable.send("inbox", "a", generated())

    sends()


def test_what_a_run_sends_in_vain() -> None:
    """A message to nobody is a failure of the step that sends it: recorded, and replayed where the code handled it."""

    @workflow(run_id="hopes")
    def hopes() -> str:
        try:
            durable.send("nobody", "a", 1)
        except durable.NotFoundError:
            return "nobody there"
        return "sent"

    assert hopes() == "nobody there"
    assert steps("hopes")[0][1] == "failed"


def test_observers_are_told_of_a_message() -> None:
    """A wait that received a message is told as a step that succeeded, as any other."""
    told: list[tuple[str, str | None]] = []
    unsubscribe = durable.subscribe(lambda event: told.append((event.type, event.step)))
    try:
        run = inbox.start("go")
        run.send("go", 1)
        run.result()
    finally:
        unsubscribe()
    assert ("step_succeeded", "durable.wait_for:go") in told
