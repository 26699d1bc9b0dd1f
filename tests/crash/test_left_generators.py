"""A generator that its consumer leaves open is closed with the body that called it; what it gave and changed counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.crash.scenes import Scene

_kept: list[Any] = []


@task
def numbers() -> Iterator[int]:
    try:
        for number in range(3):
            did(f"number {number}")
            durable.state.add("given", 1)
            yield number
    finally:
        did("close")


@task
async def async_numbers() -> AsyncIterator[int]:
    try:
        for number in range(3):
            did(f"number {number}")
            durable.state.add("given", 1)
            yield number
    finally:
        did("close")


@task
def breaks() -> None:
    for _ in numbers():
        break
    did("left")


@task
def keeps() -> Any:
    _kept.append(numbers())
    return next(_kept[-1])


@task(attempts=2)
def fails_first() -> None:
    for _ in numbers():
        if durable.current().attempt == 1:
            raise ConnectionError


@task
async def async_breaks() -> None:
    async for _ in async_numbers():
        break


@task
async def async_keeps() -> Any:
    _kept.append(async_numbers())
    return await anext(_kept[-1])


@task(attempts=2)
async def async_fails_first() -> None:
    async for _ in async_numbers():
        if durable.current().attempt == 1:
            raise ConnectionError


@workflow(run_id="sync")
def sync_flow(reader: str) -> int:
    globals()[reader]()
    did("read")
    saved("recorded")
    return int(durable.state["given"])


@workflow(run_id="async")
async def async_flow(reader: str) -> int:
    await globals()[reader]()
    did("read")
    saved("recorded")
    return int(durable.state["given"])


ALL = ["number 0", "number 1", "number 2", "close"]


@pytest.mark.parametrize(
    ("flow", "reader", "given", "effects"),
    [
        (sync_flow, "breaks", 1, ["number 0", "close", "left"]),
        (sync_flow, "keeps", 1, ["number 0", "close"]),
        (sync_flow, "fails_first", 3, ["number 0", "close", *ALL]),
        (async_flow, "async_breaks", 1, ["number 0", "close"]),
        (async_flow, "async_keeps", 1, ["number 0", "close"]),
        (async_flow, "async_fails_first", 3, ["number 0", "close", *ALL]),
    ],
)
def test_closed_with_the_body_that_called_it(scene: Scene, flow: Any, reader: str, given: int, effects: list[str]) -> None:
    """A task breaks off, keeps or fails in a generator: that is closed before anything else happens, and what it changed
    in the state is recorded with the task, so a run that is killed afterwards has the same."""
    whole = scene.beside("whole").start(flow, reader)
    assert (whole.value, whole.warnings) == (given, [])
    scene.kill("recorded", flow, reader)
    assert scene.start(flow, reader).value == given
    assert scene.ledger == [*effects, "read", "read"]


@task
def leaves_a_thread(goes_on: Any, seen: list[Any]) -> None:
    found, begun = numbers(), threading.Event()

    def read() -> None:
        try:
            seen.append(next(found))
            begun.set()
            goes_on.wait()
            seen.extend(found)
        except durable.RunEndedError as error:
            seen.append(error)

    _kept.append(threading.Thread(target=copy_context().run, args=(read,)))
    _kept[-1].start()
    begun.wait()


@workflow(run_id="threads")
def with_a_thread() -> list[str]:
    goes_on = threading.Event()
    seen: list[Any] = []
    leaves_a_thread.with_options(ignore=("goes_on", "seen"))(goes_on, seen)
    goes_on.set()
    _kept[-1].join()
    return list(map(str, seen))


def test_a_thread_that_goes_on_reading_is_told(scene: Scene) -> None:
    """A task ends while a thread of it reads a generator: the thread is not given what looks like the end of it."""
    first, error = scene.start(with_a_thread).value
    assert first == "0"
    assert "it was closed then" in error
    assert scene.ledger == ["number 0", "close"]


@task(idempotent=False)
async def stuck_numbers() -> AsyncIterator[int]:
    for number in range(2):
        did(f"number {number}")
        yield number
    await asyncio.Event().wait()


async def _read(seen: list[int]) -> None:
    async for number in stuck_numbers():
        seen.append(number)


@task
def closes() -> None:
    did("end")


@workflow(run_id="cancelling")
async def cancels_a_reader() -> list[int]:
    seen: list[int] = []
    reader = asyncio.create_task(_read(seen))
    while len(seen) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    closes()
    saved("recorded")
    return seen


def test_what_a_cancelled_generator_gave_is_given_again(scene: Scene) -> None:
    """A generator is cancelled while it waits, and the run goes on: killed later, its consumer gets the items again."""
    scene.kill("recorded", cancels_a_reader)
    assert scene.start(cancels_a_reader).value == [0, 1]
    assert scene.ledger == ["number 0", "number 1", "end"]
