"""What a run keeps from its first step to its final output: its inputs, its values, its errors and its status."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, is_first_start, saved
from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene


@task
def step(name: str) -> str:
    did(name)
    if name == "fails" and is_first_start():
        raise ConnectionError(name)
    return f"result of {name}"


@workflow(run_id="one-{name}")
def one_step(name: str) -> str:
    result = step(name)
    saved("last step")
    return result


@pytest.mark.parametrize("ending", ["killed", "fails"])
def test_the_very_first_step_fails(scene: Scene, ending: str) -> None:
    """The very first step is killed or fails: the run is stored before it, so it is listed and can be resumed."""
    if ending == "killed":
        scene.kill("killed", one_step, ending)
    else:
        assert scene.start(one_step, ending, START="first").error == "ConnectionError"
    [listed] = json.loads(scene.cli("ls", "--json").stdout)
    assert (listed["id"], listed["steps_done"], listed["steps"], listed["alive"]) == (f"one-{ending}", 0, 1, False)
    assert scene.cli("resume", f"one-{ending}").stdout == f'"result of {ending}"\n'
    assert scene.ledger == [ending, ending]


@task(cache=True)
def ask(question: str) -> str:
    did(f"ask {question}")
    if is_first_start():
        raise ConnectionError(question)
    return f"answer to {question}"


@workflow(run_id="{number}")
def asks(number: int) -> str:
    return ask("why")


@pytest.mark.parametrize("ending", ["killed", "fails"])
def test_a_shared_result_serves_a_step_that_was_interrupted_or_failed(scene: Scene, ending: str) -> None:
    """Two runs ask the same; when one of them has the answer, the other one gets it, too, though it had asked before."""
    for number in (1, 2):
        if ending == "killed":
            scene.kill("ask why", asks, number)
        else:
            assert scene.start(asks, number, START="first").error == "ConnectionError"
    assert [scene.start(asks, number).value for number in (1, 2)] == ["answer to why"] * 2
    assert scene.ledger == ["ask why"] * 3


def _finish_and_be_killed() -> None:
    assert one_step("a") == "result of a"
    did("end")


@pytest.mark.parametrize("point", ["last step", "end"])
def test_the_final_output_is_stored(scene: Scene, point: str) -> None:
    """Killed right after the last step or right after the run: the output is returned without executing it."""
    scene.kill(point, _finish_and_be_killed)
    scene.forget()
    assert scene.start(one_step, "a").value == "result of a"
    assert scene.ledger == []


@task(attempts=2)
def unreliable(name: str) -> str:
    did(name)
    raise TimeoutError(f"no answer for {name}")


@workflow(run_id="checked")
def checked() -> None:
    step("a")
    unreliable("b")


def _seen() -> list[tuple[str, str, int, bool]]:
    run = durable.get_run("checked")
    return [(run.status, step.status, step.attempts, step.started_at <= (step.ended_at or 0)) for step in run.steps]


def test_status_and_errors_are_listed(scene: Scene) -> None:
    """Status of runs, and errors with attempts and time, are listed by the command and by the API."""
    began = time.time()
    assert scene.start(checked).error == "TimeoutError"
    scene.kill("ada", one_step, "ada")
    listed = json.loads(scene.cli("ls", "--json").stdout)
    assert {run["id"]: run["status"] for run in listed} == {"checked": "failed", "one-ada": "running"}
    assert "interrupted" in scene.cli("ls").stdout
    shown = json.loads(scene.cli("show", "checked", "--json").stdout)
    assert "no answer for b" in shown["message"]
    [_, failed] = shown["steps"]
    assert (failed["status"], failed["attempts"], failed["error"]) == ("failed", 2, "TimeoutError: no answer for b")
    assert began <= failed["started_at"] <= failed["ended_at"] <= time.time()
    assert scene.start(_seen).value == [("failed", "succeeded", 1, True), ("failed", "failed", 2, True)]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    label: str = ""


def _local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        number: int

    return Local(3)


VALUES: dict[str, Callable[[], Any]] = {
    "dataclass": lambda: Point(1, "a"),
    "datetime": lambda: dt.datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=dt.UTC),
    "decimal": lambda: decimal.Decimal("1.10"),
    "bytes": lambda: bytes(range(256)),
    "enum": lambda: Colour.RED,
    "plain": lambda: {"a": [1, 2.5, None, True, "ü"], "b": {}},
    "tuple": lambda: (1, {2, 3}, frozenset({4})),
    "numpy": lambda: np.arange(6.0).reshape(2, 3),
    "frame": lambda: pd.DataFrame({"name": ["ada", "bob"], "n": [1, 2]}),
    "lambda": lambda: lambda x: x + 41,
    "local class": _local_class,
}


@task
def make(kind: str) -> Any:
    did(kind)
    return VALUES[kind]()


@workflow
def values() -> dict[str, Any]:
    found = {kind: make(kind) for kind in VALUES}
    saved("made")
    return {kind: _text(value) for kind, value in found.items()}


def _text(value: Any) -> str:
    if callable(value):
        return str(value(1))
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, pd.DataFrame):
        return f"{value.dtypes.to_dict()} {value.to_dict()}"
    return f"{type(value).__name__} {getattr(value, '__dict__', value)}"


def test_values_survive(scene: Scene) -> None:
    """Dataclass, datetime, Decimal, bytes, enum, array, data frame, lambda and local class are what they were."""
    scene.kill("made", values)
    assert scene.start(values).value == {kind: _text(make_value()) for kind, make_value in VALUES.items()}
    assert scene.ledger == list(VALUES)


@task
def make_unstorable() -> Any:
    did("made")
    return {"open": [socket.socket()]}


@workflow
def unstorable() -> str:
    try:
        make_unstorable()
    except durable.NotSerializableError as error:
        step("after")
        saved("handled")
        return str(error)
    return "unreachable"


def test_a_value_that_cannot_be_stored(scene: Scene) -> None:
    """What cannot be stored is an error with the path to the culprit, the same after a crash, and nothing is repeated."""
    scene.kill("handled", unstorable)
    assert "result['open'][0] is a socket" in scene.start(unstorable).value
    assert scene.ledger == ["made", "after"]


@task
async def pay() -> str:
    did("pay")
    return "paid"


@task(attempts=2)
async def pay_and_fail_once() -> str:
    receipt = await pay()
    if durable.current().attempt == 1:
        raise ConnectionError("no connection")
    return receipt


@workflow
async def pays_in_two_attempts() -> str:
    return await pay_and_fail_once()


def test_a_second_attempt_keeps_what_it_awaits(scene: Scene) -> None:
    """In async code, too, the second attempt of a step finds what the first one finished, in the same execution."""
    assert scene.start(pays_in_two_attempts).value == "paid"
    assert scene.ledger == ["pay"]


@workflow
def unreturnable() -> Any:
    step("paid")
    return "mended" if "MENDED" in os.environ else {"open": [socket.socket()]}


@workflow
def calls_unreturnable() -> Any:
    return unreturnable()


@pytest.mark.parametrize("program", [unreturnable, calls_unreturnable])
def test_a_result_of_a_workflow_that_cannot_be_stored(scene: Scene, program: Callable[[], Any]) -> None:
    """A workflow whose result cannot be stored has not succeeded: it is mended and called again, and nothing is repeated."""
    for _ in range(2):
        outcome = scene.start(program)
        assert outcome.error == "NotSerializableError"
        assert "result['open'][0] is a socket" in outcome.message
    assert scene.start(program, MENDED="1").value == "mended"
    assert scene.start(program, MENDED="1").value == "mended"
    assert scene.ledger == ["paid"]


BATCHES = """
import sys, time
from durable import task, workflow
from tests.crash.effects import did, effects, saved

@task
def part(name, number):
    did(f"{name} {number}")
    return number

@workflow
def batch(name):
    total = part(name, 1)
    while len(effects()) < 2:
        time.sleep(0.01)
    saved(f"{name} half")
    return f"{name} {total + part(name, 2)}"

print(batch(sys.argv[1]))
"""


def test_two_runs_of_one_workflow_at_once(scene: Scene) -> None:
    """Two runs of one workflow at once, one of them killed: neither changes the other."""
    script = scene.folder / "batch.py"
    script.write_text(BATCHES)
    with scene.begin(script, "ada", KILL_AT="ada half") as ada, scene.begin(script, "bob", KILL_AT="ada half") as bob:
        assert ada.wait(LIMIT) == -signal.SIGKILL
        assert bob.communicate(timeout=LIMIT)[0] == "bob 3\n"
    assert scene.python(script, "ada").stdout == "ada 3\n"
    assert scene.python(script, "bob").stdout == "bob 3\n"
    assert sorted(scene.ledger) == ["ada 1", "ada 2", "bob 1", "bob 2"]
