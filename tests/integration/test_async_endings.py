from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import task, workflow
from tests.crash.zygote import KILLED, Zygote
from tests.patience import LIMIT

pytestmark = pytest.mark.usefixtures("store")


def _names(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _write(path: Path | str, name: str) -> None:
    with open(path, "a", encoding="utf-8") as ledger:
        ledger.write(f"{name}\n")


@task
async def quick(ledger: str, name: str) -> str:
    _write(ledger, name)
    await asyncio.sleep(0)
    return name


@task
def sync_quick(ledger: str, name: str) -> str:
    _write(ledger, name)
    return name


@task(idempotent=False, key="{name}")
async def charge(ledger: str, name: str, seconds: float) -> str:
    _write(ledger, name)
    await asyncio.sleep(seconds)
    return name


@task
async def refuse(ledger: str) -> None:
    await _until_written(ledger, "charge")
    raise ValueError("refused")


async def _until_written(ledger: str, name: str, times: int = 1) -> None:
    while _names(Path(ledger)).count(name) < times:
        await asyncio.sleep(0.001)


@task(idempotent=False, key="{name}")
async def send(ledger: str, name: str) -> str:
    _write(ledger, name)
    if os.environ.get("KILL") == name:
        os.kill(os.getpid(), 9)
    return name


@workflow(run_id="checked")
async def checked(ledger: str) -> list[Any]:
    return list(await asyncio.gather(refuse(ledger), charge(ledger, "charge", LIMIT)))


async def test_a_charge_in_flight_when_its_sibling_fails_is_made_once(store: Path) -> None:
    """The run is released only when the charge has ended, so a caller who retries at once charges once."""
    ledger = store / "ledger"
    for _ in range(3):
        with pytest.raises((ValueError, durable.StepInDoubtError)):
            await checked(str(ledger))
    assert _names(ledger) == ["charge"]
    assert [step.status for step in durable.get_run("checked").steps if "charge" in step.key] != ["succeeded"]


given_up = threading.Event()


@task
def slow(ledger: str) -> None:
    _write(ledger, "begun")
    assert given_up.wait(LIMIT)
    _write(ledger, "late")


@workflow(run_id="in-thread")
async def in_thread(ledger: str) -> None:
    in_thread = asyncio.ensure_future(asyncio.to_thread(slow, ledger))
    await _until_written(ledger, "begun")
    try:
        await asyncio.wait_for(in_thread, 0.01)
    finally:
        asyncio.get_running_loop().call_later(0.01, given_up.set)  # when the workflow has ended


async def test_the_end_waits_for_a_step_in_another_thread(store: Path) -> None:
    """A run whose workflow gave up on a thread is released only when the step there is recorded."""
    given_up.clear()
    with pytest.raises(TimeoutError):
        await in_thread(str(store / "ledger"))
    assert _names(store / "ledger") == ["begun", "late"]
    assert [step.status for step in durable.get_run("in-thread").steps] == ["succeeded"]


@workflow(run_id="branches")
async def spinning_branches(ledger: str, fails: bool) -> list[str]:
    finished = asyncio.Event()

    async def spin() -> str:
        while not finished.is_set():
            await asyncio.sleep(0)
        return sync_quick(ledger, "after the spin")

    async def chain(number: int) -> str:
        await quick(ledger, f"first {number}".replace(" ", "-"))
        sync_quick(ledger, f"sync-{number}")
        return await quick(ledger, f"second-{number}")

    async def all_chains() -> list[str]:
        done = await asyncio.gather(*(chain(number) for number in range(5)))
        finished.set()
        return done

    spun, done = await asyncio.gather(spin(), all_chains())
    if fails:
        raise KeyError("later")
    return [spun, *done]


async def test_branches_that_spin_or_call_sync_tasks_do_not_hang_a_replay(store: Path) -> None:
    """Sync tasks in the loop's thread and pollers on sleep(0) neither wait for ever nor repeat anything."""
    ledger = store / "ledger"
    with pytest.raises(KeyError):
        await spinning_branches(str(ledger), True)
    before = _names(ledger)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(durable.InputsChangedError):
            await spinning_branches(str(ledger), False)
        with pytest.raises(KeyError):
            await spinning_branches(str(ledger), True)
    assert _names(ledger) == before


@workflow(run_id="fallback")
async def with_fallback(ledger: str) -> str:
    try:
        return await asyncio.wait_for(primary(ledger), float(os.environ["SECONDS"]))
    except TimeoutError:
        found = await quick(ledger, "fallback")
    await send(ledger, "save")
    return found


@task
async def primary(ledger: str) -> str:
    _write(ledger, "primary")
    await asyncio.sleep(LIMIT)
    return "primary"


def _call_fallback(folder: str, kill: str, seconds: str) -> str:
    os.environ.update(KILL=kill, SECONDS=seconds)
    durable.configure(f"{folder}/other.db")
    try:
        return asyncio.run(with_fallback(f"{folder}/ledger"))
    except durable.StepInDoubtError as doubt:
        durable.get_run("fallback").resolve(doubt.step_key, durable.did_not_happen)
        return asyncio.run(with_fallback(f"{folder}/ledger"))


def test_a_step_that_was_cancelled_while_the_run_went_on_is_cancelled_again(store: Path) -> None:
    """After a crash behind a time-out, the slow call is not made again and the fallback is replayed."""
    with Zygote("tests.integration.test_async_endings") as zygote:
        for seconds in ("0.05", "1", "20"):  # until the body begins before its time is over
            folder = store / seconds
            folder.mkdir()
            assert zygote.run(_call_fallback, str(folder), "save", seconds) == KILLED
            if "primary" in _names(folder / "ledger"):
                break
        assert zygote.run(_call_fallback, str(folder), "", seconds) == "fallback"
    assert _names(folder / "ledger") == ["primary", "fallback", "save", "save"]


@workflow(run_id="two")
async def two_sends(ledger: str) -> list[Any]:
    found = await asyncio.gather(send(ledger, "one"), send(ledger, "two"), return_exceptions=True)
    await quick(ledger, "after")
    return list(found)


def _call_two(folder: str, kill: str) -> list[Any]:
    os.environ["KILL"] = kill
    durable.configure(f"{folder}/other.db")
    try:
        return asyncio.run(two_sends(f"{folder}/ledger"))
    except durable.StepInDoubtError as doubt:
        return [durable.get_run("two").status, doubt.step_key]


def test_a_doubt_that_gather_swallows_still_ends_the_run(store: Path) -> None:
    """The run ends blocked, and nothing after the doubt is executed."""
    with Zygote("tests.integration.test_async_endings") as zygote:
        assert zygote.run(_call_two, str(store), "one") == KILLED
        assert zygote.run(_call_two, str(store), "") == ["blocked", "send:one"]
        assert zygote.run(_call_two, str(store), "") == ["blocked", "send:one"]
    assert _names(store / "ledger") == ["one"]


@workflow(run_id="consumer")
async def consumer_in_doubt(ledger: str) -> None:
    queue: asyncio.Queue[str] = asyncio.Queue(1)

    async def consume() -> None:
        while True:
            await send(ledger, await queue.get())

    consumer = asyncio.create_task(consume())
    for name in ("one", "two", "three"):
        await queue.put(name)
    await queue.join()
    consumer.cancel()


def _call_consumer(folder: str, kill: str) -> str:
    os.environ["KILL"] = kill
    durable.configure(f"{folder}/other.db")

    async def call() -> str:
        try:
            await consumer_in_doubt(f"{folder}/ledger")
        except durable.StepInDoubtError:
            current = asyncio.current_task()
            assert current is not None
            return f"{durable.get_run('consumer').status} {current.cancelling()}"
        return "succeeded"

    return asyncio.run(call())


def test_a_run_ends_although_its_producer_waits_for_a_stopped_consumer(store: Path) -> None:
    """A doubt in one branch ends a workflow that waits for this branch for ever, and leaves its caller's task as it was."""
    with Zygote("tests.integration.test_async_endings") as zygote:
        assert zygote.run(_call_consumer, str(store), "two") == KILLED
        assert zygote.run(_call_consumer, str(store), "") == "blocked 0"


@workflow(run_id="cancelled")
async def sequence(ledger: str) -> list[str]:
    async def branch(number: int) -> str:
        await quick(ledger, f"a{number}")
        return await quick(ledger, f"b{number}")

    first = await quick(ledger, "first")
    return [first, *await asyncio.gather(branch(1), branch(2)), await quick(ledger, "last")]


async def test_a_run_cancelled_at_any_await_is_resumed_and_repeats_nothing_finished(store: Path) -> None:
    """After k passes of the loop, for all k: the record completes, and what succeeded is not executed again."""
    passes, was_cancelled = 0, True
    while was_cancelled:
        ledger = store / f"ledger-{passes}"
        named = sequence.with_options(run_id=f"cancelled-{passes}")
        running = asyncio.ensure_future(named(str(ledger)))
        for _ in range(passes):
            await asyncio.sleep(0)
        was_cancelled = running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            was_cancelled = True
        else:
            was_cancelled = False
        succeeded: set[str] = set()
        try:
            run = durable.get_run(f"cancelled-{passes}")
        except durable.NotFoundError:
            pass
        else:
            assert run.status in {"cancelled", "succeeded"}
            assert all(step.status != "started" for step in run.steps)
            assert len(_names(ledger)) == len(set(_names(ledger)))
            succeeded = {step.key for step in run.steps if step.status == "succeeded"}
        began = len(_names(ledger))
        assert await named(str(ledger)) == ["first", "b1", "b2", "last"]
        assert len(_names(ledger)[began:]) == 6 - len(succeeded)
        passes += 1
    assert passes > 10


async def test_result_in_the_thread_of_the_loop_is_an_error(store: Path) -> None:
    """Waiting for a run in its own loop would stop the loop; `wait` does not."""
    run = sequence.start(str(store / "ledger"))
    with pytest.raises(durable.WouldDeadlockError, match="await run.wait"):
        run.result()
    assert await run.wait() == ["first", "b1", "b2", "last"]
    assert run.result() == ["first", "b1", "b2", "last"]


async def test_a_run_that_fails_in_the_background_raises_where_it_is_waited_for(store: Path) -> None:
    """`wait` raises what the workflow raised."""
    run = spinning_branches.start(str(store / "ledger"), True)
    with pytest.raises(KeyError):
        await run.wait()
    assert run.status == "failed"


def test_an_async_workflow_started_without_a_loop_gets_a_thread(store: Path) -> None:
    """`start` returns at once, and `result` waits for it."""
    run = sequence.start(str(store / "ledger"))
    assert run.result(LIMIT) == ["first", "b1", "b2", "last"]
    assert run.status == "succeeded"


@workflow(run_id="sync")
def sync_sequence(ledger: str) -> list[str]:
    return [sync_quick(ledger, "one"), sync_quick(ledger, "two")]


async def test_a_sync_workflow_runs_in_and_beside_a_loop(store: Path) -> None:
    """Called in the loop's thread it just runs; started it has a thread of its own."""
    assert sync_sequence(str(store / "ledger")) == ["one", "two"]
    run = sync_sequence.with_options(run_id="sync-2").start(str(store / "other"))
    assert await run.wait(LIMIT) == ["one", "two"]
    assert _names(store / "other") == ["one", "two"]


@workflow(run_id="closed")
async def left_open(ledger: str) -> str:
    await quick(ledger, "before")
    _write(ledger, "waiting")
    await asyncio.get_running_loop().create_future()
    return await quick(ledger, "after")


async def test_a_closed_coroutine_leaves_a_run_that_resumes(store: Path) -> None:
    """`close` on a workflow's coroutine records that it was cancelled and gives the run back."""
    ledger = store / "ledger"
    coroutine = left_open(str(ledger))
    running = asyncio.ensure_future(coroutine)
    await _until_written(str(ledger), "waiting")
    coroutine.close()
    running.cancel()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await running
    assert durable.get_run("closed").status == "cancelled"
    again = asyncio.ensure_future(left_open(str(ledger)))
    await _until_written(str(ledger), "waiting", 2)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert _names(ledger) == ["before", "waiting", "waiting"]


def test_two_loops_in_two_threads_do_not_disturb_each_other(store: Path) -> None:
    """Each loop has its own task factory while a run executes in it, and its former one afterwards."""
    outcomes: list[Any] = []

    def execute(number: int) -> None:
        async def main() -> None:
            named = sequence.with_options(run_id=f"thread-{number}")
            outcomes.append(await named(str(store / f"ledger-{number}")))
            assert asyncio.get_running_loop().get_task_factory() is None

        asyncio.run(main())

    threads = [threading.Thread(target=execute, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [["first", "b1", "b2", "last"]] * 3


@workflow(run_id="abandoned")
async def abandoned(ledger: str, seconds: float, wait: Any) -> str:
    done = await quick(ledger, "quick")
    charged: str = await wait(ledger, "charged", seconds)
    return done + charged


@task
async def wait_long(ledger: str, name: str, seconds: float) -> str:
    _write(ledger, name)
    await asyncio.sleep(seconds)
    return name


@pytest.mark.filterwarnings("ignore:Task was destroyed")
@pytest.mark.parametrize("wait", [wait_long, charge], ids=["idempotent", "not idempotent"])
def test_a_loop_that_was_closed_in_the_middle(tmp_path: Path, wait: Any) -> None:
    """A run whose event loop was closed in its middle can be called again at once: what had ended is replayed, what was under
    way is executed again, or in doubt."""
    ledger = tmp_path / "ledger"

    loop = asyncio.new_event_loop()
    left = loop.create_task(abandoned.with_options(run_id="left")(str(ledger), 3600 if wait is charge else 0.2, wait))
    loop.run_until_complete(_until_written(str(ledger), "charged"))
    loop.close()
    if wait is charge:
        with pytest.raises(durable.StepInDoubtError):
            asyncio.run(abandoned.with_options(run_id="left")(str(ledger), 3600, wait))
        assert _names(ledger) == ["quick", "charged"]
    else:
        again = asyncio.run(abandoned.with_options(run_id="left")(str(ledger), 0.2, wait))
        assert again == "quickcharged"
        assert _names(ledger) == ["quick", "charged", "charged"]
    del left


@task
async def begins_another(ledger: str) -> str:
    future = quick.submit(ledger, "inner")
    _write(ledger, "outer")
    return await future


@workflow(run_id="scheduled", max_workers=1)
async def cancelled_before_one_begins(ledger: str) -> str:
    future = begins_another.submit(ledger)
    if "CANCEL" in os.environ:
        while not _names(Path(ledger)):
            await asyncio.sleep(0)
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
    return await future


def test_what_is_cancelled_before_it_begins_gives_up_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with one place is cancelled when a submitted task has it and has not begun: whoever waits for that task, and
    needs the place to end, gets both."""
    ledger = str(tmp_path / "ledger")
    monkeypatch.setenv("CANCEL", "1")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled_before_one_begins(ledger))
    assert _names(Path(ledger)) == ["outer"]
    monkeypatch.delenv("CANCEL")
    assert asyncio.run(cancelled_before_one_begins(ledger)) == "inner"
    assert _names(Path(ledger)) == ["outer", "outer", "inner"]
