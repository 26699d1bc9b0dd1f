from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.zygote import Zygote
from tests.patience import until

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 4
executed: list[str] = []
fails: list[bool] = []
refused: list[str] = []
awaited = [0]  # how many are refused before an answer is given
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """The first execution of each run fails."""
    executed.clear()
    refused.clear()
    awaited[:] = [0]
    fails[:] = [True]


@task
async def ask() -> str:
    executed.append("ask")
    if fails:
        raise ConnectionError
    while len(refused) < awaited[0]:
        await asyncio.sleep(0.001)
    return "answer"


@workflow(run_id="asked")
async def asked() -> str:
    return await ask()


async def test_tasks_of_one_loop_resume_a_run_at_once() -> None:
    """Of asyncio tasks that resume one run at the same moment one executes it, and the others are told so."""

    async def call() -> str:
        try:
            return await asked()
        except durable.RunInProgressError as error:
            refused.append(type(error).__name__)
            return "refused"

    with pytest.raises(ConnectionError):
        await call()
    fails.clear()
    awaited[:] = [CALLS - 1]
    outcomes = await asyncio.gather(*(call() for _ in range(CALLS)))
    assert sorted(outcomes) == ["answer", *["refused"] * (CALLS - 1)]
    assert executed == ["ask"] * 2


def _resume_elsewhere(db: str) -> str:
    """Resume the run; gives nothing while a thread that was opening it has not given it up yet."""
    durable.configure(db)
    fails.clear()
    try:
        return asyncio.run(asked())
    except durable.RunInProgressError:
        return ""


async def test_a_run_that_was_cancelled_while_it_was_opened_is_free(tmp_path: Path) -> None:
    """Cancelled after k passes of the loop, for all k while it is opened: another process can resume the run."""
    with Zygote(__name__) as zygote:
        for passes in range(6):
            db = str(tmp_path / f"{passes}.db")
            durable.configure(db)
            fails[:] = [True]
            with pytest.raises(ConnectionError):
                await asked()
            fails.clear()
            awaited[:] = [1]
            opening = asyncio.ensure_future(asked())
            for _ in range(passes):
                await asyncio.sleep(0)
            assert opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert await asyncio.to_thread(until, partial(zygote.run, _resume_elsewhere, db)) == "answer"


@task
def work() -> str:
    executed.append("work")
    if fails:
        raise ConnectionError
    return "done"


@workflow
def worked(number: int) -> str:
    executed.append("workflow")
    return work()


def test_threads_resume_a_run_at_once() -> None:
    """Of threads that resume one run at the same moment one executes it, the others are told so or get its result."""
    together = threading.Barrier(CALLS)

    def call(number: int) -> str:
        together.wait()
        try:
            return worked(number)
        except durable.RunInProgressError:
            return "in progress"

    with ThreadPoolExecutor(CALLS) as pool:
        for number in range(30):
            fails[:] = [True]
            with pytest.raises(ConnectionError):
                worked(number)
            fails.clear()
            executed.clear()
            outcomes = set(pool.map(call, [number] * CALLS))
            assert outcomes <= {"done", "in progress"}
            assert "done" in outcomes
            assert executed == ["workflow", "work"]
