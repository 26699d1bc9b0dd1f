"""What type checkers see of submitted tasks, waiting, undoing, state and generators; checked, never executed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, assert_type

import durable
from durable import MapResults, Run, TaskFuture, task, workflow


@task
def fetch(page: int) -> list[str]:
    return [str(page)]


@task
def join(parts: list[str], more: str = "") -> str:
    return more.join(parts)


@task
async def ask(page: int) -> bytes:
    return bytes(page)


def refund(receipt: str, cents: int) -> None: ...


@task
async def release(receipt: str) -> None: ...


@task(undo=refund)
def charge(cents: int) -> str:
    return f"R-{cents}"


@task(undo=release, idempotent=False)
async def reserve(cents: int) -> str:
    return f"R-{cents}"


@task
def pages(count: int) -> Iterator[str]:
    yield from map(str, range(count))


@task
async def async_pages(count: int) -> AsyncIterator[str]:
    for page in range(count):
        yield str(page)


class Crawler:
    @task
    def load(self, page: int) -> float:
        return float(page)

    @task
    async def load_async(self, page: int) -> float:
        return float(page)


@workflow(max_workers=8)
def crawl(count: int) -> str:
    found = fetch.submit(1)
    assert_type(found, TaskFuture[list[str]])
    assert_type(found.result(), list[str])
    assert_type(found.result(timeout=5), list[str])
    assert_type(found.exception(), BaseException | None)
    assert_type(found.done(), bool)
    assert_type(found.step_key, str)
    assert_type(join.submit(found, more="-"), TaskFuture[str])  # a future stands for its result
    assert_type(fetch.with_options(after=[found], when="always", priority=1.5).submit(2), TaskFuture[list[str]])
    assert_type(fetch.with_options(after=found).submit(2), TaskFuture[list[str]])
    assert_type(ask.submit(1), TaskFuture[bytes])  # in a sync workflow too
    assert_type(ask.submit(1).result(), bytes)

    results = fetch.map(range(count), concurrency=3, ordered=False)
    assert_type(results, MapResults[list[str]])
    assert_type(list(results), list[list[str]])
    assert_type(results.futures, tuple[TaskFuture[list[str]], ...])
    assert_type(ask.map(range(count)), MapResults[bytes])
    assert_type(Crawler().load.submit(1), TaskFuture[float])
    assert_type(Crawler().load.map([1]), MapResults[float])
    assert_type(Crawler().load_async.submit(1), TaskFuture[float])
    assert_type(Crawler().load_async.map([1]), MapResults[float])
    for future in durable.as_completed([found]):
        assert_type(future, TaskFuture[list[str]])
    assert_type(durable.wait([found], return_when="FIRST_COMPLETED").done, list[TaskFuture[Any]])

    assert_type(charge(5), str)
    for page in pages(3):
        assert_type(page, str)
    assert_type(durable.state["rows"], Any)
    assert_type(durable.state.get("rows"), Any | None)
    durable.state["rows"] = 1
    durable.state.add("rows", 10)
    durable.checkpoint("loaded")
    assert_type(durable.context(), Any)
    durable.sleep(1.5)
    assert_type(durable.wait_for("approval", timeout=3600), Any)
    durable.send("other", "approval", {"by": "ada"})
    return join(found.result())


@workflow
async def crawl_async(count: int) -> int:
    asked = ask.submit(1)
    assert_type(asked, TaskFuture[bytes])
    assert_type(await asked, bytes)
    assert_type(await fetch.submit(1), list[str])
    assert_type(await ask.with_options(after=[asked]).submit(2), bytes)
    assert_type(await ask.map(range(count), concurrency=2), list[bytes])
    assert_type(await Crawler().load_async.submit(1), float)
    async for answer in ask.map(range(count), ordered=False):
        assert_type(answer, bytes)
    async for future in durable.as_completed([asked]):
        assert_type(future, TaskFuture[bytes])
    assert_type((await durable.wait_async([asked])).not_done, list[TaskFuture[Any]])
    assert_type(await reserve(5), str)
    async for page in async_pages(3):
        assert_type(page, str)
    await durable.sleep(1.5)
    assert_type(await durable.wait_for("approval"), Any)
    await durable.send("other", "approval")
    return count


def check(run: Run) -> None:
    assert_type(crawl.with_options(run_id="x", context=object(), snapshot=run.snapshot())(3), str)
    assert_type(run.fork(from_="loaded"), Run)
    assert_type(run.state, Mapping[str, Any])
    fetch.with_options(prio=1)  # type: ignore[call-arg]  # options are known
    fetch.with_options(after=[1])  # type: ignore[list-item]  # and what they take
    fetch.with_options(when="sometimes")  # type: ignore[arg-type]  # and their values
    crawl.with_options(run_ids="x")  # type: ignore[call-arg]  # those of workflows too
    task(after=[])  # type: ignore[call-overload]  # which belongs to one call
    durable.wait([], return_when="SOMETIME")  # type: ignore[arg-type]  # and when waiting ends
    fetch.submit(1).result().upper()  # type: ignore[attr-defined]  # the result is a list


__all__ = ["crawl", "crawl_async"]
