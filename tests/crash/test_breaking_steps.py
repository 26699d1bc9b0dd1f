"""Small programs that break a naive design in the life of a single step or in the identity of runs and steps."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, saved
from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash.scenes import Scene


BRANCHES = """
import asyncio
from durable import task, workflow
from tests.crash.effects import did, effects, saved

NAMES = {"ada", "bob", "cy", "dan", "eve"}

@task
async def token():
    await asyncio.sleep(0)
    did("token")
    return len(effects())

@task
async def use(name, number):
    did(f"{name} {number}")

async def branch(name):
    number = await token()
    await use(name, number)
    return f"{name} {number}"

@workflow
async def branches():
    found = await asyncio.gather(*{branch(name) for name in NAMES})
    saved("all")
    return sorted(found)

print(list(NAMES), flush=True)
print(asyncio.run(branches()))
"""


def test_branches_made_from_a_set_keep_their_own_results(scene: Scene) -> None:
    """`gather` over a set of coroutines that call a task without arguments, resumed under another hash seed: each branch
    keeps its own results."""
    script = scene.folder / "branches.py"
    script.write_text(BRANCHES)
    killed = scene.python(script, PYTHONHASHSEED="1", KILL_AT="all")
    first = scene.ledger
    order, result = scene.python(script, PYTHONHASHSEED="2").stdout.splitlines()
    assert order not in killed.stdout
    assert result == str(sorted(line for line in first if line != "token"))
    assert scene.ledger == first


@task
def smallest(numbers: list[int]) -> int:
    numbers.sort()
    return numbers[0]


@workflow
def sorts_in_place() -> list[int]:
    return [smallest([3, 1, 2]), smallest([5, 4])]


def test_a_task_that_sorts_its_argument_in_place(scene: Scene) -> None:
    """A body that changes an argument gets one warning that a replay cannot repeat it."""
    outcome = scene.start(sorts_in_place)
    assert outcome.value == [1, 4]
    assert len(outcome.warnings) == 1
    assert "'numbers' in place" in outcome.warnings[0]


@task
def pay(order: int) -> str:
    did(f"pay {order}")
    return "paid"


@task
def ship(order: int) -> str:
    did(f"ship {order}")
    if effects().count(f"ship {order}") == 1:
        raise ConnectionError("no carrier")
    return "shipped"


@task(attempts=3)
def order(number: int) -> list[str]:
    return [pay(number), ship(number)]


@workflow
def orders() -> list[str]:
    return order(7)


def test_a_second_attempt_keeps_finished_inner_steps(scene: Scene) -> None:
    """`order(attempts=3)` calls `pay`, then `ship`, which fails once: `pay` executes once."""
    outcome = scene.start(orders)
    assert outcome.value == ["paid", "shipped"]
    assert outcome.warnings == []
    assert scene.ledger == ["pay 7", "ship 7", "ship 7"]


@task
def devour() -> str:
    did("devour")
    return "never"


@workflow(run_id="hungry")
def hungry() -> str:
    return devour()


def _result_of_the_blocked() -> Any:
    return durable.list_runs(status="blocked")[0].result()


def test_a_step_that_kills_its_process_every_time_blocks_the_run(scene: Scene) -> None:
    """A body that is killed every time is blocked after three interruptions of the same step, whoever asks for its result."""
    for _ in range(3):
        scene.kill("devour", hungry)
    outcome = scene.start(hungry)
    assert outcome.error == "CrashLoopError"
    assert scene.start(_result_of_the_blocked).error == "CrashLoopError"
    assert scene.ledger == ["devour"] * 3
    shown = scene.cli("ls", "--status", "blocked")
    assert "hungry" in shown.stdout


SAME_NAMES = """
import sys
from durable import task, workflow
from tests.crash.effects import did

@task
def part():
    did(WHERE)
    return WHERE

@workflow
def job():
    return part()

WHERE = __file__.split("/")[-2]
print(job())
"""


def test_two_scripts_of_one_name_have_runs_of_their_own(scene: Scene) -> None:
    """Two scripts `a/run.py` and `b/run.py` over one store do not share runs."""
    for name in "ab":
        script = scene.folder / name / "run.py"
        script.parent.mkdir()
        script.write_text(SAME_NAMES)
    assert scene.python(scene.folder / "a" / "run.py", KILL_AT="a").returncode == -signal.SIGKILL
    outputs = [scene.python(scene.folder / name / "run.py").stdout for name in "ba"]
    assert outputs == ["b\n", "a\n"]
    assert scene.ledger == ["a", "b", "a"]


PARAMETERS = """
from durable import task, workflow
from tests.crash.effects import did, saved

@task
def part(name{new}):
    did(name)
    return name

@workflow
def job(size{new}):
    first = part("first")
    saved("half")
    return [first, part("second"), size]

print(job(2))
"""


def test_a_new_parameter_with_a_default_changes_nothing(scene: Scene) -> None:
    """A parameter with a default is added to workflow and task: the same run, the same steps."""
    script = scene.folder / "parameters.py"
    script.write_text(PARAMETERS.format(new=""))
    assert scene.python(script, KILL_AT="half").returncode == -signal.SIGKILL
    script.write_text(PARAMETERS.format(new=", urgent=False"))
    assert scene.python(script).stdout == "['first', 'second', 2]\n"
    assert scene.ledger == ["first", "second"]


@task(key="{key}")
def keyed(key: str) -> int:
    did(key)
    return len(effects())


@workflow
def with_look_alike_keys() -> list[int]:
    keys = ["a~2", "a", "a"]
    found = [keyed(key) for key in (keys if is_first_start() else reversed(keys))]
    saved("all")
    return found


def test_a_key_that_looks_like_an_occurrence(scene: Scene) -> None:
    """`key="a~2"` and a second call with `key="a"` are different steps, in whatever order they are called."""
    scene.kill("all", with_look_alike_keys, START="first")
    assert scene.start(with_look_alike_keys).value == [2, 3, 1]
    assert scene.ledger == ["a~2", "a", "a"]


PLANTED = """
from durable import task, workflow
from tests.crash.effects import did

@task
def part():
    did("part")

@workflow
def job():
    part()

job()
"""


@pytest.mark.skipif(os.name == "nt", reason="file modes and owners are POSIX's")
@pytest.mark.parametrize("how", ["writable by all", "of another user"])
def test_a_planted_store_is_refused(scene: Scene, how: str) -> None:
    """A store folder in a parent directory that somebody else owns, or could have put there, is refused."""
    planted = scene.folder / ".durable"
    planted.mkdir(mode=0o755)
    if how == "writable by all":
        planted.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(planted, 65534, 65534)
    else:
        pytest.skip("only root can give a folder away")
    script = scene.folder / "below" / "job.py"
    script.parent.mkdir()
    script.write_text(PLANTED)
    outcome = scene.python(script, DURABLE_DB="")
    assert outcome.returncode == 1
    assert f"StoreUnusableError: {planted}" in outcome.stderr
    assert list(planted.iterdir()) == []
    assert scene.ledger == []


told = threading.Event()


@task(timeout=0.3, attempts=20)
def slow() -> str:
    did("begin")
    if effects().count("begin") == 1:
        assert told.wait(LIMIT)
    did("end")
    return "done"


@workflow
def with_a_timeout() -> str:
    return slow()


def _end_when_told() -> str:
    """Let the first body end when it is said that the second attempt waits for it."""

    def tell(message: Warning | str, *_: object) -> None:
        if "executed again when it has ended" in str(message):
            did("told")
            told.set()

    warnings.showwarning = tell  # type: ignore[assignment]  # it looks at the message alone
    return with_a_timeout()


def test_attempts_of_a_sync_task_do_not_overlap(scene: Scene) -> None:
    """A sync body that outlives its `timeout` goes on in its thread: no second attempt overlaps it."""
    assert scene.start(_end_when_told).value == "done"
    assert scene.ledger[:3] == ["begin", "told", "end"]
    again = scene.ledger[3:]
    assert again == ["begin", "end"] * (len(again) // 2) != []


@task
async def lose_connection() -> None:
    did("connection")
    helper = asyncio.ensure_future(asyncio.sleep(60))
    helper.cancel()
    await helper


@task(idempotent=False)
async def send() -> str:
    did("send")
    return "sent"


@workflow
async def handles_cancellation() -> str:
    try:
        await lose_connection()
    except asyncio.CancelledError:
        found = await send()
        saved("sent")
        return found
    return "unreachable"


def test_a_body_that_raises_cancelled_error_by_itself(scene: Scene) -> None:
    """A body from which `CancelledError` leaks although nobody cancelled it, handled by the code: no unbounded wait."""
    scene.kill("sent", handles_cancellation)
    assert scene.start(handles_cancellation).value == "sent"
    assert scene.ledger == ["connection", "send"]


@workflow
async def leaks_cancellation() -> None:
    await lose_connection()


def test_a_leaked_cancelled_error_that_ends_the_run(scene: Scene) -> None:
    """The same, not handled: the step is tried again."""
    for _ in range(2):
        assert scene.start(_cancelled, leaks_cancellation).value is True
    assert scene.ledger == ["connection"] * 2


def _cancelled(program: Callable[[], Awaitable[None]]) -> bool:
    try:
        asyncio.run(_awaited(program))
    except asyncio.CancelledError:
        return True
    raise AssertionError("not cancelled")


async def _awaited(program: Callable[[], Awaitable[None]]) -> None:
    await program()


class ApiError(Exception):
    """An error of an SDK, which hands the whole answer on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 503
        self.response = socket.socket()


@task
def call_api() -> None:
    did("call")
    raise ApiError("unavailable")


@workflow
def reads_the_response() -> str:
    try:
        call_api()
    except ApiError as error:
        pay(8)
        saved("caught")
        try:
            return f"{error.code} {type(error.response).__name__}"
        except durable.LostAttributeError as lost:
            return f"{error.code} {lost}"
    return "unreachable"


def test_an_attribute_that_could_not_be_stored_says_so(scene: Scene) -> None:
    """A rebuilt exception whose `response` could not be stored: reading `.response` says so, the rest is there."""
    scene.kill("caught", reads_the_response)
    outcome = scene.start(reads_the_response)
    assert outcome.value.startswith("503 ")
    assert "'response'" in outcome.value
    assert scene.ledger == ["call", "pay 8"]
