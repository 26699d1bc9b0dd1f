"""With DURABLE_DISABLE programs work as plain code: nothing is recorded, and nothing is missing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

executed: list[Any] = []


@pytest.fixture(autouse=True)
def disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is recorded, and the store that would be opened does not come into being."""
    executed.clear()
    monkeypatch.setenv("DURABLE_DISABLE", "1")
    monkeypatch.setenv("DURABLE_DB", str(tmp_path / "store" / "durable.db"))
    yield
    assert not (tmp_path / "store").exists()


@task
def work(number: Any, *more: Any) -> Any:
    executed.append(number)
    if number == "fails":
        raise ConnectionError(number)
    return number


@task
async def ask(number: Any, *more: Any) -> Any:
    await asyncio.sleep(0)
    executed.append(number)
    if number == "fails":
        raise ConnectionError(number)
    return number


@workflow
def submits() -> Any:
    first = work.submit(1)
    second = work.submit([first, 2])
    last = ask.with_options(after=[second], priority=1).submit({"all": second})
    assert [future.result() for future in durable.as_completed([first, second])] == [1, [1, 2]]
    assert durable.wait([first, last]).not_done == []
    return last.result(), list(work.map(range(3), concurrency=2)), list(ask.map("ab", "cd", ordered=False))


@workflow
async def submits_async() -> Any:
    first = ask.submit(1)
    second = work.submit([first, 2])
    found = [await future async for future in durable.as_completed([first, second])]
    assert (await durable.wait_async([second])).done == [second]
    return found, await ask.map(range(3), concurrency=1), await work.map("ab")


def test_submitted_tasks() -> None:
    """Submitted and mapped tasks are executed, with results for futures, in sync and async workflows."""
    assert submits() == ({"all": [1, 2]}, [0, 1, 2], ["a", "b"])
    assert asyncio.run(submits_async()) == ([1, [1, 2]], [0, 1, 2], ["a", "b"])


@workflow
def fails_beside() -> None:
    culprit = work.submit("fails")
    dependant = work.submit([culprit])
    work.with_options(after=[dependant], when="always").submit("cleaned up")
    with pytest.raises(durable.UpstreamFailedError, match="work"):
        dependant.result()


@workflow
async def fails_unseen() -> None:
    ask.submit("fails")


def test_failures_of_submitted_tasks() -> None:
    """What depends on a failure is skipped, `when="always"` is executed, and a failure that nobody looked at is raised."""
    fails_beside()
    assert executed == ["fails", "cleaned up"]
    with pytest.raises(ExceptionGroup, match="nobody asked") as raised:
        asyncio.run(fails_unseen())
    assert isinstance(raised.value.exceptions[0], ConnectionError)


@task
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@task
async def async_numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@workflow(run_id="inbox-{name}")
def inbox(name: str) -> Any:
    durable.sleep(0)
    durable.checkpoint("begun")
    durable.state.add("n", sum(numbers(3)))
    key = asks_for_its_key()
    assert key[0] == key[1]
    return durable.wait_for(name), durable.context(), durable.state["n"], durable.current().run_id


@task
def asks_for_its_key() -> tuple[str, str]:
    return durable.idempotency_key(), durable.idempotency_key()


@workflow(run_id="async-inbox")
async def async_inbox(name: str) -> Any:
    await durable.sleep(0)
    durable.state.add("n", sum([number async for number in async_numbers(3)]))
    await durable.send("async-inbox", name, "to itself")
    return await durable.wait_for(name), durable.state["n"]


def test_what_runs_offer() -> None:
    """Sleeps, messages, state, context and generators work in memory; each run has a state of its own."""
    for _ in range(2):
        run = inbox.with_options(context=threading).start("go")
        run.send("go", 1)
        assert run.result() == (1, threading, 3, "inbox-go")
        assert (run.status, run.steps) == ("succeeded", [])
    assert asyncio.run(async_inbox("note")) == ("to itself", 3)
    with pytest.raises(durable.NotFoundError, match="DURABLE_DISABLE"):
        durable.send("inbox-go", "go")


@workflow
def waits_in_vain() -> None:
    durable.wait_for("nothing", timeout=0)


def test_what_cannot_work() -> None:
    """A message that does not come is a timeout, and outside a run there is none of this, as ever."""
    with pytest.raises(durable.WaitTimeoutError):
        waits_in_vain()
    for ask_of_a_run in (lambda: work.submit(1), lambda: durable.state.get("n"), durable.context, durable.current):
        with pytest.raises(durable.OutsideRunError):
            ask_of_a_run()
    assert work(1) == 1


def give_back(receipt: str, name: str) -> None:
    executed.append(f"give back {receipt}")
    if name == "stuck":
        raise ConnectionError


async def give_back_async(receipt: str) -> None:
    executed.append(f"give back {receipt}")


@task(undo=give_back)
def take(name: str) -> str:
    return name.upper()


@task(undo=give_back_async)
async def take_async(name: str) -> str:
    return name.upper()


@workflow
def takes_one(name: str) -> str:
    return take(name)


@workflow
def takes() -> None:
    take("a")
    take("stuck")
    takes_one(name="below")
    take_async.submit("b").result()
    raise KeyError


@workflow
async def takes_async() -> None:
    await asyncio.gather(take_async("a"), take_async("b"))
    raise KeyError


def test_compensations() -> None:
    """A workflow that fails undoes what its tasks did, those of workflows that it called too, the last one first."""
    with pytest.raises(KeyError) as raised:
        takes()
    assert executed == ["give back B", "give back BELOW", "give back STUCK", "give back A"]
    assert "give_back" in raised.value.__notes__[0]
    with pytest.raises(KeyError):
        asyncio.run(takes_async())
    assert sorted(executed[4:]) == ["give back A", "give back B"]


def test_blocks() -> None:
    """A block is executed, has a state and submits."""
    with durable.run("block") as run:
        durable.state["n"] = 1
        assert work.submit(1).result() == durable.state["n"]
        assert run.status == "running"
    assert (run.id, run.status) == ("block", "succeeded")

    async def block() -> Any:
        async with durable.run("block"):
            return await ask.submit(dict(durable.state))

    assert asyncio.run(block()) == {}
    with contextlib.suppress(KeyError), durable.run("failing") as failing:
        raise KeyError
    assert failing.status == "failed"
