"""Checkpoints: whatever interrupts a run, it goes on where it was, and nothing that is recorded is executed again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, reach, saved
from tests.crash.killing_stores import KillingStore

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def _body(name: str, given: str) -> str:
    reach(f"before {name}")
    did(name)
    return f"{given}{name}"


@task
def again(name: str, given: str) -> str:
    return _body(name, given)


@task(idempotent=False)
def once(name: str, given: str) -> str:
    return _body(name, given)


@workflow(run_id="abc")
def three_steps(is_paid: bool) -> str:
    result = ""
    for name in "abc":
        result = (once if is_paid else again)(name, result)
        reach(f"behind {name}")
        saved(f"saved {name}")
    return result


def _three_steps(is_paid: bool, when: str = "", number: int = 0) -> str:
    durable.configure(KillingStore(os.environ["DURABLE_DB"], when, number))
    try:
        return three_steps(is_paid)
    finally:
        durable.configure(None)


def _recorded() -> list[str]:
    try:
        return [step.key for step in durable.get_run("abc").steps if step.status == "succeeded"]
    except durable.NotFoundError:
        return []


def _check_resumed(scene: Scene, *, is_paid: bool) -> None:
    recorded = scene.start(_recorded).value
    before = scene.ledger
    outcome = scene.start(_three_steps, is_paid)
    if is_paid:
        assert len(scene.ledger) == len(set(scene.ledger))
    if is_paid and outcome.error:
        assert outcome.error == "StepInDoubtError"
        assert scene.ledger == before
    else:
        assert outcome.value == "abc"
        assert scene.ledger == before + list("abc")[len(recorded) :]


@pytest.mark.parametrize("is_paid", [False, True], ids=["idempotent", "paid"])
@pytest.mark.parametrize("point", ["before", "", "behind", "saved"])
@pytest.mark.parametrize("name", list("abc"))
def test_killed_around_every_body(scene: Scene, name: str, point: str, is_paid: bool) -> None:
    """Killed before, in and after every body of a, b, c: the run completes, recorded steps execute once, the result is
    that of an uninterrupted run; a payment that was in flight is in doubt instead."""
    scene.kill(f"{point} {name}".strip(), _three_steps, is_paid)
    _check_resumed(scene, is_paid=is_paid)


@pytest.mark.parametrize("is_paid", [False, True], ids=["idempotent", "paid"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_every_commit(scene: Scene, when: str, is_paid: bool) -> None:
    """Killed before and after every commit of a, b, c: the same."""
    number = 1
    while (at := scene.beside(f"{number}")).is_killed(_three_steps, is_paid, when, number):
        _check_resumed(at, is_paid=is_paid)
        number += 1
    assert number > 4


def _value(number: int) -> bytes:
    """Give what a step saves; odd ones are large enough for a file beside the database."""
    return random.Random(number).randbytes(1000) * (300 if number % 2 else 1)


@task
def large(number: int) -> bytes:
    did(f"{number}")
    return _value(number)


@workflow(run_id="large")
def saves_large_values() -> list[bytes]:
    return [large(number) for number in range(20)]


def _save_and_be_killed(number: int, seconds: float) -> None:
    def kill() -> None:
        while str(number) not in effects():
            pass
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    os.environ.pop("DURABLE_DB")
    os.chdir(os.environ["FOLDER"])
    open(os.environ["LEDGER"], "a").close()
    threading.Thread(target=kill).start()
    saves_large_values()
    time.sleep(60)


def _save() -> bool:
    os.environ.pop("DURABLE_DB")
    os.chdir(os.environ["FOLDER"])
    return saves_large_values() == [_value(number) for number in range(20)]


def test_killed_while_saving(scene: Scene) -> None:
    """Checkpoints lie in `.durable/`; killed at any moment of a save, a step has its whole value or none."""
    moments = random.Random(1)
    for number in range(2, 20, 3):
        scene.kill("", _save_and_be_killed, number, moments.uniform(0, 0.004), FOLDER=str(scene.folder))
    assert scene.start(_save, FOLDER=str(scene.folder)).value is True
    assert (scene.folder / ".durable" / "durable.db").exists()
    assert (scene.folder / ".durable" / ".gitignore").read_text() == "*\n"
    assert len(scene.ledger) <= 20 + 6


def test_resumed_or_begun_again_by_command(scene: Scene) -> None:
    """Killed, `durable resume RUN` repeats nothing; with `--fresh` everything is executed again, as a new run."""
    scene.kill("saved b", _three_steps, False)
    assert scene.cli("resume", "abc").stdout == '"abc"\n'
    assert scene.ledger == ["a", "b", "c"]
    assert scene.cli("resume", "abc", "--fresh").stdout == '"abc"\n'
    assert scene.ledger == ["a", "b", "c", "a", "b", "c"]
    listed = json.loads(scene.cli("ls", "--json").stdout)
    assert [(run["id"], run["status"]) for run in listed] == [("abc~2", "succeeded"), ("abc", "succeeded")]


def test_an_unfinished_run_begun_again_is_superseded(scene: Scene) -> None:
    """`durable resume RUN --fresh` leaves an unfinished run superseded, whose records are kept but not used."""
    scene.kill("saved b", _three_steps, False)
    assert scene.cli("resume", "abc", "--fresh").stdout == '"abc"\n'
    assert scene.ledger == ["a", "b", "a", "b", "c"]
    listed = json.loads(scene.cli("ls", "--json").stdout)
    assert [(run["id"], run["status"]) for run in listed] == [("abc~2", "succeeded"), ("abc", "superseded")]


def _begin_again() -> list[str]:
    return five_items.with_options(fresh=True)()


def test_the_run_that_was_begun_last_counts(scene: Scene) -> None:
    """A run that was begun again after a finished one and then killed is resumed by the next call, and returned by all
    later ones."""
    scene.start(five_items)
    scene.kill("item 3", _begin_again)
    scene.forget()
    again = scene.start(five_items)
    assert "resuming run" in again.said
    assert scene.ledger == ["4", "5"]
    assert "~2 succeeded" in scene.start(five_items).said


def test_a_finished_run_is_not_executed_again(scene: Scene) -> None:
    """Resume of a finished run, or the same call again: the stored result, nothing executed."""
    assert scene.start(_three_steps, False).value == "abc"
    assert scene.cli("resume", "abc").stdout == '"abc"\n'
    again = scene.start(_three_steps, False)
    assert again.value == "abc"
    assert "returning its stored result, nothing is executed" in again.said
    assert scene.ledger == ["a", "b", "c"]


def test_an_unknown_run_is_an_error(scene: Scene) -> None:
    """Resume of an unknown run: error and non-zero exit, nothing executed, never success."""
    scene.kill("saved b", _three_steps, False)
    scene.forget()
    unknown = scene.cli("resume", "abd")
    assert unknown.returncode > 0
    assert "no run 'abd'" in unknown.stderr
    assert unknown.stdout == ""
    assert scene.ledger == []


@workflow(run_id="order-{number}")
def order(number: int, items: dict[str, int], note: str = "") -> list[str]:
    found = [again(name, str(count)) for name, count in sorted(items.items())]
    saved("ordered")
    return found


def test_inputs_are_compared_on_resume(scene: Scene) -> None:
    """Other inputs on resume: an error that names the argument, nothing executed; dict keys in another order are the
    same inputs."""
    scene.kill("ordered", order, 7, {"tea": 1, "milk": 2})
    scene.forget()
    for items, note, changed in (({"tea": 1, "milk": 3}, "", "'items'"), ({"tea": 1, "milk": 2}, "quick", "'note'")):
        outcome = scene.start(order, 7, items, note)
        assert outcome.error == "InputsChangedError"
        assert f"{changed} differ" in outcome.message
    assert scene.start(order, 7, {"milk": 2, "tea": 1}).value == ["2milk", "1tea"]
    assert scene.ledger == []


@workflow
def five_items() -> list[str]:
    found = []
    for item in range(1, 6):
        found.append(again(str(item), "item "))
        saved(f"item {item}")
    return found


def test_a_loop_goes_on_at_the_next_item(scene: Scene) -> None:
    """Five items, killed after the third: only four and five execute."""
    scene.kill("item 3", five_items)
    scene.forget()
    assert scene.start(five_items).value == [f"item {item}" for item in range(1, 6)]
    assert scene.ledger == ["4", "5"]


@task
async def branch(name: str) -> str:
    did(name)
    if name == "slow":
        while "fast" not in effects():
            await asyncio.sleep(0.01)
        if is_first_start():
            raise ConnectionError(name)
    return name


@workflow
async def parallel() -> list[str]:
    found = await asyncio.gather(branch("slow"), branch("fast"))
    return [*found, await branch("next")]


def test_a_failed_branch_alone_is_executed_again(scene: Scene) -> None:
    """Parallel, slow fails and fast is fine: a resume executes slow, then what follows, not fast."""
    assert scene.start(parallel, START="first").error == "ConnectionError"
    assert scene.start(parallel).value == ["slow", "fast", "next"]
    assert scene.ledger == ["slow", "fast", "slow", "next"]
