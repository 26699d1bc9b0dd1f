"""Bodies that do not come to their end: by a crash, by the exit of the program, by Ctrl-C, and again and again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import resource
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import await_signal, did

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Outcome, Scene

RUN = "interrupted"
CRASHES = {"exit": 7, "segfault": -signal.SIGSEGV, "killed": -signal.SIGKILL}
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def _body(name: str) -> str:
    """Leave an effect, then end as HOW says."""
    did(f"{name} {durable.idempotency_key()}")
    match os.environ.pop("HOW", ""):
        case "exit":
            os._exit(CRASHES["exit"])
        case "segfault":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            ctypes.string_at(0)
        case "sys.exit":
            sys.exit(3)
        case "killed" | "Ctrl-C":
            await_signal()
            return ""
    return f"{name} done"


def _sync_body(name: str) -> str:
    result = _body(name)
    if not result:
        time.sleep(60)
    return result


async def _async_body(name: str) -> str:
    result = _body(name)
    if not result:
        await asyncio.sleep(60)
    return result


def _answer(name: str) -> durable.Happened | durable.DidNotHappen:
    did(f"asked about {name} {durable.idempotency_key()}")
    if os.environ.get("HOW") == "killed while asked":
        os.kill(os.getpid(), signal.SIGKILL)
    return durable.happened("it happened") if os.environ.get("HAPPENED") else durable.did_not_happen


async def _async_answer(name: str) -> durable.Happened | durable.DidNotHappen:
    return _answer(name)


@task
def again(name: str) -> str:
    return _sync_body(name)


@task(idempotent=False)
def once(name: str) -> str:
    return _sync_body(name)


@task(idempotent=False, reconcile=_answer)
def asking(name: str) -> str:
    return _sync_body(name)


@task
async def async_again(name: str) -> str:
    return await _async_body(name)


@task(idempotent=False)
async def async_once(name: str) -> str:
    return await _async_body(name)


@task(idempotent=False, reconcile=_async_answer)
async def async_asking(name: str) -> str:
    return await _async_body(name)


TASKS: dict[str, Callable[[str], str]] = {"again": again, "once": once, "asking": asking}
ASYNC_TASKS: dict[str, Any] = {"again": async_again, "once": async_once, "asking": async_asking}


@workflow(run_id=RUN)
def one_step(kind: str) -> str:
    return TASKS[kind]("body")


@workflow(run_id=RUN)
async def async_one_step(kind: str) -> str:
    return str(await ASYNC_TASKS[kind]("body"))


def _call(kind: str, is_async: bool) -> str:
    return asyncio.run(async_one_step(kind)) if is_async else one_step(kind)


def _status() -> str:
    return durable.get_run(RUN).status


def _commands(message: str) -> list[list[str]]:
    """Find the commands that a message names, without `durable`."""
    found = re.findall(r"durable (resolve .*?|resume .*?)(?= or |\.(?: |$)|, or )", message)
    return [shlex.split(command) for command in found]


def _crash(scene: Scene, how: str, kind: str, is_async: bool) -> None:
    """Let the body end the process."""
    if how == "killed":
        assert scene.strike(signal.SIGKILL, _call, kind, is_async, HOW=how) == "killed"
    else:
        assert scene.end(_call, kind, is_async, HOW=how) == CRASHES[how]


@both_kinds
@pytest.mark.parametrize("how", CRASHES)
def test_an_idempotent_body_that_ends_its_process_is_executed_again(scene: Scene, how: str, is_async: bool) -> None:
    """`os._exit`, a segmentation fault, SIGKILL from outside: executed again with one warning and the same key."""
    _crash(scene, how, "again", is_async)
    outcome = scene.start(_call, "again", is_async)
    assert outcome.value == "body done"
    assert len(outcome.warnings) == 1
    assert "executed again with the same idempotency key" in outcome.warnings[0]
    assert len(scene.ledger) == 2
    assert len(set(scene.ledger)) == 1


@both_kinds
@pytest.mark.parametrize("how", CRASHES)
def test_another_body_that_ends_its_process_is_in_doubt(scene: Scene, how: str, is_async: bool) -> None:
    """`idempotent=False`: the run is blocked, however often it is called, and the body is not executed again."""
    _crash(scene, how, "once", is_async)
    for _ in range(4):
        outcome = scene.start(_call, "once", is_async)
        assert outcome.error == "StepInDoubtError"
        assert scene.start(_status).value == "blocked"
    [effect] = scene.ledger
    assert effect.removeprefix("body ") in outcome.message


@both_kinds
@pytest.mark.parametrize("has_happened", [True, False], ids=["happened", "did-not-happen"])
def test_a_doubt_is_decided_by_the_command_in_its_message(scene: Scene, has_happened: bool, is_async: bool) -> None:
    """`durable resolve` as the message says: with a result, which the run then gets, or so that the body is executed."""
    _crash(scene, "killed", "once", is_async)
    message = scene.start(_call, "once", is_async).message
    command = shlex.split(re.findall(r"durable (resolve .*?) or ", message)[0])
    assert command[-2:] == ["--happened", "JSON"]
    answer = ["--happened", '"told"'] if has_happened else ["--did-not-happen"]
    decided = scene.cli(*command[:-2], *answer)
    assert decided.returncode == 0, decided.stderr
    for _ in range(2):
        outcome = scene.start(_call, "once", is_async)
        assert outcome.value == ("told" if has_happened else "body done")
        assert outcome.warnings == []
    assert len(scene.ledger) == (1 if has_happened else 2)
    assert len(set(scene.ledger)) == 1


@both_kinds
@pytest.mark.parametrize("has_happened", [True, False], ids=["happened", "did-not-happen"])
def test_reconcile_decides_a_doubt(scene: Scene, has_happened: bool, is_async: bool) -> None:
    """`reconcile=` is asked with the same idempotency key, again if it is killed, and not any more once it answered."""
    _crash(scene, "killed", "asking", is_async)
    assert scene.end(_call, "asking", is_async, HOW="killed while asked") == -signal.SIGKILL
    for _ in range(2):
        outcome = scene.start(_call, "asking", is_async, HAPPENED="yes" if has_happened else "")
        assert outcome.value == ("it happened" if has_happened else "body done")
    begun, asked = scene.ledger[0], f"asked about {scene.ledger[0]}"
    assert scene.ledger == [begun, asked, asked] + [begun] * (not has_happened)


@both_kinds
@pytest.mark.parametrize("way", [0, 1], ids=["resolve", "retry-failed"])
def test_a_crash_loop_and_the_ways_out_of_it(scene: Scene, way: int, is_async: bool) -> None:
    """Three interruptions in a row block the run; each command that the message names lets it end, and counts anew."""
    for _ in range(3):
        _crash(scene, "exit", "again", is_async)
    for _ in range(2):
        outcome = scene.start(_call, "again", is_async)
        assert outcome.error == "CrashLoopError"
        assert scene.start(_status).value == "blocked"
    assert len(scene.ledger) == 3
    commands = _commands(outcome.message)
    assert [command[0] for command in commands] == ["resolve", "resume"]
    ended = scene.cli(*commands[way])
    assert ended.returncode == 0, ended.stderr
    assert len(scene.ledger) == 3 + way
    if way == 0:
        for _ in range(2):
            _crash(scene, "exit", "again", is_async)
    assert scene.start(_call, "again", is_async).value == "body done"
    assert len(scene.ledger) == (4 if way else 6)
    assert len(set(scene.ledger)) == 1


def _twice(kind: str, is_async: bool) -> str:
    """Call again in the same process when the first call was left."""
    try:
        return f"not left: {_call(kind, is_async)}"
    except KeyboardInterrupt:
        did("left by Ctrl-C")
    except SystemExit as error:
        did(f"left with {error.code}")
    return _call(kind, is_async)


def _leave(scene: Scene, how: str, program: Callable[[str, bool], str], kind: str, is_async: bool) -> Outcome:
    if how == "Ctrl-C":
        outcome = scene.strike(signal.SIGINT, program, kind, is_async, HOW=how)
        assert not isinstance(outcome, str)
        return outcome
    return scene.start(program, kind, is_async, HOW=how)


LEAVING = {"Ctrl-C": "left by Ctrl-C", "sys.exit": "left with 3"}


@both_kinds
@pytest.mark.parametrize("how", LEAVING)
def test_an_idempotent_body_that_is_left_is_executed_again(scene: Scene, how: str, is_async: bool) -> None:
    """Ctrl-C or `sys.exit` leaves the run as it leaves any program; the same process can call again at once."""
    assert _leave(scene, how, _twice, "again", is_async).value == "body done"
    begun = scene.ledger[0]
    assert scene.ledger == [begun, LEAVING[how], begun]
    assert scene.start(_call, "again", is_async).value == "body done"
    assert len(scene.ledger) == 3


@both_kinds
@pytest.mark.parametrize("how", LEAVING)
def test_another_body_that_is_left_is_in_doubt(scene: Scene, how: str, is_async: bool) -> None:
    """`idempotent=False`: in the same process and in the next one the doubt is reported, until it is decided."""
    outcome = _leave(scene, how, _twice, "once", is_async)
    assert outcome.error == "StepInDoubtError"
    assert scene.start(_call, "once", is_async).error == "StepInDoubtError"
    assert scene.start(_status).value == "blocked"
    assert len(scene.ledger) == 2
    assert scene.cli("resolve", RUN, "#1", "--happened", '"told"').returncode == 0
    assert scene.start(_call, "once", is_async).value == "told"
    assert len(scene.ledger) == 2


@workflow(run_id=RUN)
async def branches(kind: str) -> list[str]:
    return [str(result) for result in await asyncio.gather(ASYNC_TASKS[kind]("left"), async_again("right"))]


def _branches(kind: str) -> list[str]:
    return asyncio.run(branches(kind))


def _branches_left(kind: str) -> str:
    try:
        return f"not left: {_branches(kind)}"
    except SystemExit as error:
        return f"left with {error.code}"


@pytest.mark.parametrize("kind", ["again", "once"])
def test_sys_exit_in_a_branch_is_tried_again_like_any_end_of_the_program(scene: Scene, kind: str) -> None:
    """`sys.exit` in a branch of `gather` ends the program; the next one tries that step again, or reports its doubt."""
    assert scene.start(_branches_left, kind, HOW="sys.exit").value == "left with 3"
    outcome = scene.start(_branches, kind)
    if kind == "again":
        assert outcome.value == ["left done", "right done"]
        assert len([effect for effect in scene.ledger if effect.startswith("left")]) == 2
    else:
        assert outcome.error == "StepInDoubtError"
        assert len([effect for effect in scene.ledger if effect.startswith("left")]) == 1


EXITS = """
from durable import task, workflow
import sys

@task
def leave():
    sys.exit(3)

@workflow
def job():
    leave()

job()
"""


def test_sys_exit_ends_the_program_with_its_code(scene: Scene) -> None:
    """A script whose body calls `sys.exit(3)` exits with 3."""
    script = scene.folder / "exits.py"
    script.write_text(EXITS)
    for _ in range(2):
        assert scene.python(script).returncode == 3


@workflow(run_id="{number}")
def many(number: int) -> None:
    again(str(number))


def _read_while_interrupted() -> list[int]:
    """Look at runs, each time interrupted a little later; gives how many were seen after each interruption."""
    for number in range(3):
        many(number)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    seen = []
    for number in range(400):
        with contextlib.suppress(KeyboardInterrupt):
            # once more if Python ignores the first one, as it does in what the garbage collector calls
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + number * 5e-6, 5)
            while True:
                for run in durable.list_runs():
                    assert run.steps
        signal.setitimer(signal.ITIMER_REAL, 0)
        seen.append(len(durable.list_runs()))
    return seen


def test_ctrl_c_while_runs_are_looked_at(scene: Scene) -> None:
    """Ctrl-C at any moment of a look at runs and steps leaves the store usable for the same process."""
    assert scene.start(_read_while_interrupted).value == [3] * 400
