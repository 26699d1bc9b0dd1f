"""Runs that are paused, resumed and cancelled by other processes: they obey at the next step, or the next await."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.runs import sessions
from durable.stores.sql.sqlite import SQLiteStore
from tests.crash.effects import did
from tests.crash.scenes import Scene
from tests.crash.zygote import KILLED, Zygote
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from durable.records import RunRecord
    from tests.crash.scenes import Outcome


@task
def hold(number: int) -> int:
    did(f"begin {number}")
    if number == 0:
        until(lambda: _is_released() or _is_stopped())
    return number


@task
async def async_hold(number: int) -> int:
    did(f"begin {number}")
    while number == 0 and not _is_released():
        await asyncio.sleep(0.005)
    return number


def _is_released() -> bool:
    return os.path.exists(os.environ["RELEASED"])


def _is_stopped() -> bool:
    """Whether this process knows by now that the run is cancelled."""
    return sessions.current().active["work"].stopped is not None


@workflow(run_id="work")
def work() -> list[int]:
    return [hold(number) for number in range(3)]


@workflow(run_id="work")
async def async_work() -> list[int]:
    return [await async_hold(number) for number in range(3)]


@workflow(run_id="outer")
def outer() -> list[int]:
    return work()


both_kinds = pytest.mark.parametrize("program", [work, async_work], ids=["sync", "async"])


class Live(Scene):
    """A scene where one program lives while others look at its run and steer it."""

    def __init__(self, zygote: Zygote, others: Zygote, folder: Path) -> None:
        super().__init__(zygote, folder)
        self._others = Scene(others, folder)
        self._pool = ThreadPoolExecutor(1)
        self._release = folder / "released"

    def environ(self, **more: str) -> dict[str, str]:
        return {**super().environ(**more), "RELEASED": str(self._release)}

    def begin_program(self, program: Callable[..., Any], *args: Any) -> Future[Outcome | str]:
        """Begin a program that holds inside its first step."""
        begun = self._pool.submit(self.risk, program, *args)
        until(lambda: "begin 0" in self.ledger)
        return begun

    def release(self) -> None:
        """Let the first step end."""
        self._release.touch()

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Do something in a process that does not execute the run."""
        outcome = self._others.start(function, *args)
        assert outcome.error == "", outcome
        return outcome.value

    def close(self) -> None:
        self.release()
        self._pool.shutdown()


@pytest.fixture(scope="module")
def others(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """Forks that live at the same time as those of the first."""
    with Zygote(request.module.__name__) as zygote:
        yield zygote


@pytest.fixture
def live(zygote: Zygote, others: Zygote, tmp_path: Path) -> Iterator[Live]:
    """An empty store, an empty ledger, and processes that live at the same time."""
    scene = Live(zygote, others, tmp_path)
    yield scene
    scene.close()


def pause(run_id: str = "work") -> str:
    run = durable.get_run(run_id)
    run.pause()
    return run.status


def resume(run_id: str = "work") -> Any:
    return durable.get_run(run_id).resume()


def cancel(run_id: str = "work") -> str:
    run = durable.get_run(run_id)
    run.cancel()
    return run.status


def statuses(run_id: str = "work") -> tuple[str, list[str]]:
    run = durable.get_run(run_id)
    return run.status, [step.status for step in run.steps]


def first_step_has_ended(run_id: str = "work") -> bool:
    until(lambda: "succeeded" in statuses(run_id)[1])
    return True


@both_kinds
def test_a_paused_run_starts_no_step(live: Live, program: Any) -> None:
    """Paused by another process: the step that runs ends, no other begins, and resumed from there the program goes on."""
    begun = live.begin_program(program)
    assert live.ask(pause) == "paused"
    live.release()
    assert live.ask(first_step_has_ended)
    assert live.ask(statuses)[0] == "paused"
    assert live.ledger == ["begin 0"]
    assert live.ask(resume) == [0, 1, 2]
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.value == [0, 1, 2]
    assert live.ledger == ["begin 0", "begin 1", "begin 2"]


def test_pause_and_resume_by_command(live: Live) -> None:
    """`durable pause` and `durable resume` steer a run in another process; resuming prints its result."""
    begun = live.begin_program(work)
    paused = live.cli("pause", "work")
    assert (paused.returncode, "work is paused" in paused.stderr) == (0, True), paused.stderr
    live.release()
    resumed = live.cli("resume", "work")
    assert (resumed.returncode, resumed.stdout) == (0, "[0, 1, 2]\n"), resumed.stderr
    begun.result()
    assert live.ledger == ["begin 0", "begin 1", "begin 2"]


@both_kinds
def test_a_paused_run_whose_process_is_gone(live: Live, program: Any) -> None:
    """Killed while it was paused, the run stays paused and goes on when it is called again, without repetitions."""
    begun = live.begin_program(be_killed_when_paused, program)
    assert live.ask(pause) == "paused"
    live.release()
    assert begun.result() == KILLED
    assert live.ask(statuses) == ("paused", ["succeeded"])
    assert live.start(program).value == [0, 1, 2]
    assert live.ledger == ["begin 0", "begin 1", "begin 2"]


def be_killed_when_paused(program: Any) -> None:
    run = program.start()
    until(lambda: run.status == "paused")
    first_step_has_ended()
    os.kill(os.getpid(), signal.SIGKILL)


@both_kinds
def test_a_cancelled_run(live: Live, program: Any) -> None:
    """Cancelled by another process: a sync one ends at the next step, an async one at the next await, what ran is
    recorded as cancelled, and a call executes it."""
    begun = live.begin_program(program)
    live.ask(cancel)
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.error == "RunCancelledError"
    status, steps = live.ask(statuses)
    assert status == "cancelled"
    assert live.ledger == ["begin 0"]
    assert steps == ["succeeded" if program is work else "cancelled"]
    live.release()
    assert live.start(program).value == [0, 1, 2]
    assert live.ask(statuses) == ("succeeded", ["succeeded"] * 3)


def test_cancel_by_command(live: Live) -> None:
    """`durable cancel` ends an async run in another process at its next await."""
    begun = live.begin_program(async_work)
    asked = live.cli("cancel", "work")
    assert asked.returncode == 0
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.error == "RunCancelledError"
    assert live.ask(statuses) == ("cancelled", ["cancelled"])


def test_a_paused_run_is_cancelled(live: Live) -> None:
    """A run that is paused in another process ends there when it is cancelled, without another step."""
    begun = live.begin_program(work)
    assert live.ask(pause) == "paused"
    live.release()
    assert live.ask(first_step_has_ended)
    live.ask(cancel)
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.error == "RunCancelledError"
    assert live.ask(statuses)[0] == "cancelled"
    assert live.start(work).value == [0, 1, 2]
    assert live.ledger == ["begin 0", "begin 1", "begin 2"]


def test_runs_called_by_a_run_are_steered_with_it(live: Live) -> None:
    """A pause of a run holds the runs that it called, resuming lets them go on, and cancelling ends them."""
    begun = live.begin_program(outer)
    assert live.ask(pause, "outer") == "paused"
    live.ask(until_paused, "work")
    live.release()
    assert live.ask(first_step_has_ended)
    assert live.ledger == ["begin 0"]
    live.ask(cancel, "outer")
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.error == "RunCancelledError"
    assert [live.ask(statuses, run_id)[0] for run_id in ("outer", "work")] == ["cancelled"] * 2
    assert live.start(outer).value == [0, 1, 2]
    assert live.ledger == ["begin 0", "begin 1", "begin 2"]


def until_paused(run_id: str) -> None:
    until(lambda: durable.get_run(run_id).status == "paused")


@workflow(run_id="work")
def waiter() -> Any:
    did("begin 0")
    return durable.wait_for("go")


@workflow(run_id="work")
async def async_waiter() -> Any:
    did("begin 0")
    return await durable.wait_for("go")


def until_waiting() -> None:
    until(lambda: durable.get_run("work").status == "waiting")


@pytest.mark.parametrize("program", [waiter, async_waiter], ids=["sync", "async"])
def test_a_message_wakes_a_run_in_another_process(live: Live, program: Any) -> None:
    """A run that waits is shown as waiting, and goes on when another process sends what it waits for."""
    begun = live.begin_program(program)
    live.ask(until_waiting)
    live.ask(durable.send, "work", "other")
    live.ask(durable.send, "work", "go", {"approved": True})
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.value == {"approved": True}


@pytest.mark.parametrize("program", [waiter, async_waiter], ids=["sync", "async"])
def test_a_waiting_run_is_cancelled(live: Live, program: Any) -> None:
    """A run that waits for a message ends at once when it is cancelled; called again it waits, and gets what came."""
    begun = live.begin_program(program)
    live.ask(until_waiting)
    live.ask(cancel)
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.error == "RunCancelledError"
    assert live.ask(statuses) == ("cancelled", ["cancelled"])
    live.ask(durable.send, "work", "go", 1)
    assert live.start(program).value == 1


def test_a_message_by_command(live: Live) -> None:
    """`durable send` releases a run in another process with what its JSON says."""
    begun = live.begin_program(waiter)
    sent = live.cli("send", "work", "go", '{"by": "ada"}')
    assert sent.returncode == 0, sent.stderr
    outcome = begun.result()
    assert not isinstance(outcome, str)
    assert outcome.value == {"by": "ada"}


class SlowStore(SQLiteStore):
    """Whoever reads the run of another process gets it when that process has ended."""

    release = ""

    def load_run(self, run_id: str) -> RunRecord | None:
        record = super().load_run(run_id)
        if self.release and record is not None and record.owner:
            Path(self.release).touch()
            until(lambda: not self.is_alive(record.owner))
        return record


def late_result(release: str, is_async: bool) -> Any:
    store = SlowStore(os.environ["DURABLE_DB"])
    durable.configure(store)
    run = durable.get_run("work")
    store.release = release
    return run.wait() if is_async else run.result()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_run_that_ends_while_it_is_looked_at(live: Live, is_async: bool) -> None:
    """Who waits for a run whose process records the end and is gone between two looks gets the result."""
    live.begin_program(work)
    assert live.ask(late_result, live.environ()["RELEASED"], is_async) == [0, 1, 2]
