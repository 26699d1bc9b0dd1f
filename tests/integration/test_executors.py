"""Bodies on executors: they run there, records are written here, and what cannot be sent there is refused."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

executed: list[str] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()


@task(executor="processes")
def where(number: int) -> tuple[int, int]:
    return number, os.getpid()


@task(executor="processes")
async def where_async(number: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return number, os.getpid()


@task(executor="processes")
def fail_there(number: int) -> None:
    raise ZeroDivisionError(number)


class Place:
    def __init__(self, name: str) -> None:
        self.name = name

    @task(executor="processes")
    def look(self) -> tuple[str, int]:
        return self.name, os.getpid()


@workflow(max_workers=2)
def in_processes() -> list[Any]:
    try:
        fail_there(1)
    except ZeroDivisionError as error:
        failure = str(error)
    return [where(1), *where.map([2, 3]), where_async.submit(4).result(), Place("here").look(), failure]


@workflow(max_workers=2)
async def async_in_processes() -> list[Any]:
    return [await where_async(1), *await where.map([2, 3]), await where_async.submit(4)]


def test_bodies_in_processes() -> None:
    """With `executor="processes"` bodies run in other processes, called or submitted; a replay gives what they gave."""
    found = in_processes()
    assert [each[0] for each in found[:4]] == [1, 2, 3, 4]
    assert (found[4][0], found[5]) == ("here", "1")
    assert os.getpid() not in {each[1] for each in found[:5]}
    assert in_processes() == found
    again = asyncio.run(async_in_processes())
    assert [each[0] for each in again] == [1, 2, 3, 4]
    assert os.getpid() not in {each[1] for each in again}


def test_what_cannot_be_sent_is_refused() -> None:
    """A function or an argument that cannot be sent to another process is an error before anything is executed."""

    @task(executor="processes")
    def local() -> None: ...

    @workflow
    def sends_function() -> None:
        local()

    @workflow
    def submits_function() -> None:
        local.submit()

    @workflow
    def sends_argument() -> None:
        where(threading.Lock())  # type: ignore[arg-type]  # what is wrong is what is tested

    @workflow
    def maps_argument() -> None:
        where.map([1, threading.Lock()])

    for program in (sends_function, submits_function):
        with pytest.raises(durable.ConfigurationError, match="another process, which cannot import it"):
            program()
    for program in (sends_argument, maps_argument):
        with pytest.raises(durable.ConfigurationError, match="its arguments cannot be sent there: TypeError"):
            program()
    assert [step for run in durable.list_runs() for step in run.steps] == []


def test_bodies_in_threads_carry_the_context() -> None:
    """With `executor="threads"` the body runs in another thread, with the run and the context variables of the call."""
    variable = contextvars.ContextVar("variable", default="unset")

    @task
    def inner() -> str:
        return variable.get()

    @task(executor="threads")
    def outer() -> tuple[bool, str, str]:
        return threading.current_thread() is threading.main_thread(), inner(), durable.current().run_id

    @task(executor="threads")
    async def async_outer() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    @workflow(run_id="threads")
    def program() -> Any:
        variable.set("set")
        return outer(), async_outer.submit().result().startswith("durable-body")

    assert program() == ((False, "set", "threads"), True)
    assert [step.parent for step in durable.get_run("threads").steps][1] == 1


@task(executor="threads")
def add_one(number: int) -> int:
    return number + 1


@task(executor="threads")
def add_two(number: int) -> int:
    return add_one(add_one(number))


@task(executor="threads")
async def add_two_async(number: int) -> int:
    return add_one(add_one(number))


@workflow(max_workers=1)
async def adding() -> list[int]:
    return [add_two(1), *await asyncio.gather(add_two_async(2), add_two_async(3))]


def test_bodies_in_threads_that_wait_for_bodies_in_threads() -> None:
    """A body in a thread that calls another such task does not wait for a thread that it holds itself."""
    assert asyncio.run(adding()) == [3, 4, 5]


class Counting(Executor):
    """Runs everything at once, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.is_shut_down = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True


def test_any_executor_and_functions_that_make_one() -> None:
    """An executor of the user's own is used and left open; one that a function made is shut down with the run; a
    workflow's executor is for what it submits."""
    own, made, default = Counting(), Counting(), Counting()

    @task(executor=own)
    def on_own() -> str:
        return "own"

    @task(executor=lambda: made)
    def on_made() -> str:
        return "made"

    @task
    def plain(name: str) -> str:
        return name

    @workflow(executor=default)
    def program() -> list[str]:
        return [
            on_own(),
            on_own.submit().result(),
            on_made(),
            on_made(),
            plain("called"),
            plain.submit("sent").result(),
        ]

    assert program() == ["own", "own", "made", "made", "called", "sent"]
    assert (own.count, made.count, default.count) == (2, 2, 1)
    assert (own.is_shut_down, made.is_shut_down, default.is_shut_down) == (False, True, False)


def test_a_function_that_makes_no_executor() -> None:
    """What makes something else than an executor is named, and the body is not executed."""

    @task(executor=lambda: 5)  # type: ignore[arg-type]  # what is wrong is what is tested
    def never() -> None:
        executed.append("never")

    @workflow
    def program() -> None:
        never()

    with pytest.raises(durable.ConfigurationError, match="which is no concurrent"):
        program()
    assert executed == []


def test_a_pool_of_threads_of_the_users_own() -> None:
    """Bodies on a `ThreadPoolExecutor` carry the run's context: tasks that they call are steps."""

    @task
    def inner() -> str:
        return durable.current().step_key

    with ThreadPoolExecutor(1) as pool:

        @task(executor=pool)
        def outer() -> str:
            return inner()

        @workflow
        def program() -> str:
            return outer.submit().result()

        assert "/" in program()


def test_outside_a_run_the_body_runs_here() -> None:
    """A task with an executor that is called outside a run is a plain function, with a warning."""
    with pytest.warns(durable.DurableWarning, match="outside a run"):
        assert where(1) == (1, os.getpid())


class OutOfStockError(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"{item}: {left}")
        self.left = left


class Unreadable:
    """Can be pickled, and cannot be unpickled in the process of the run."""

    def __reduce__(self) -> Any:
        return _unreadable, (os.getpid(),)


def _nothing() -> Iterator[int]:
    yield from ()


def _unreadable(pid: int) -> Unreadable:
    if pid != os.getpid():
        raise RuntimeError("not here")
    return Unreadable()


@task(executor="processes", idempotent=False)
def end_as(how: str, ledger: str) -> Any:
    with open(ledger, "a", encoding="utf-8") as effects:
        effects.write(f"{how}\n")
    if how == "raises":
        raise OutOfStockError("tea", 3)
    if how == "raises what holds a lock":
        raise OSError(threading.Lock())
    if how == "is slow":
        threading.Event().wait(0.3)
    return {"lambda": lambda: 41, "generator": {"items": _nothing()}, "unreadable": Unreadable()}.get(how, how)


HOWS = ["is slow", "raises", "raises what holds a lock", "lambda", "generator", "unreadable"]


@workflow(max_workers=2)
def ends(ledger: str) -> list[str]:
    found = []
    for future in [end_as.submit(how, ledger) for how in HOWS]:
        try:
            value = future.result()
            found.append(str(value() if callable(value) else value))
        except OutOfStockError as error:
            found.append(f"out of stock: {error} {error.left}")
        except Exception as error:
            found.append(type(error).__name__)
    raise ValueError(found)


def test_what_bodies_give_and_raise_comes_back(store: Path) -> None:
    """An exception with an `__init__` of its own is caught by its class; a result that cannot be sent counts as one that
    cannot be stored, not as a failure; neither disturbs other bodies, and a resumed run finds the same."""
    ledger = store / "ledger"
    for _ in range(2):
        with pytest.raises(ValueError, match="is slow") as raised:
            ends(str(ledger))
        assert raised.value.args[0] == [
            "is slow",
            "out of stock: tea: 3 3",
            "OSError",
            "41",
            "NotSerializableError",
            "NotSerializableError",
        ]
        assert sorted(ledger.read_text().splitlines()) == sorted(HOWS)
    [run] = durable.list_runs()
    assert [step.status for step in run.steps].count("succeeded") == 4


def test_the_traceback_of_another_process_is_shown() -> None:
    """An exception that comes from another process shows where it was raised there, at the end of its causes."""
    with pytest.raises(ZeroDivisionError) as raised:
        durable.workflow(fails_there)()
    assert "in fail_there" in str(raised.value.__cause__)


def fails_there() -> None:
    fail_there(1)


@task(executor="processes", idempotent=False)
async def end_when_told(folder: str) -> str:
    _note_begun(folder)
    while not _may_end(folder):
        await asyncio.sleep(0.005)
    return "ended"


def _note_begun(folder: str) -> None:
    with open(f"{folder}/ledger", "a", encoding="utf-8") as effects:
        effects.write("began\n")


def _may_end(folder: str) -> bool:
    return os.path.exists(f"{folder}/go")


@workflow(run_id="cancelled", max_workers=1)
async def cancelled_elsewhere(folder: str) -> str:
    return await end_when_told(folder)


def test_a_body_in_another_process_that_is_cancelled_is_known(store: Path) -> None:
    """An async body in another process runs on when its run is cancelled: what it gave then is what the next call gives."""
    run = cancelled_elsewhere.start(str(store))
    while not (store / "ledger").exists():
        time.sleep(0.005)
    run.cancel()
    (store / "go").touch()
    with pytest.raises(durable.RunCancelledError):
        run.result()
    assert asyncio.run(cancelled_elsewhere(str(store))) == "ended"
    assert (store / "ledger").read_text() == "began\n"
