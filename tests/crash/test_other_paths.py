"""A step that had failed ends otherwise, and the program takes another path from there: at once, and at every later start."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, reach, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task(idempotent=False)
def notify(text: str) -> None:
    did(f"notify {text}")


@task
def work() -> None:
    did("work")
    if "FAILING" in os.environ:
        raise ConnectionError("no connection")


@workflow
def tells_what_became_of_it() -> None:
    try:
        work()
    except ConnectionError:
        notify("failed")
        raise
    saved("worked")
    notify("half")
    saved("half")
    notify("done")


@pytest.mark.parametrize("point", ["worked", "half"])
def test_killed_on_the_other_path(scene: Scene, point: str) -> None:
    """The message of a failure is not taken for those that follow a success, however often the program is killed there."""
    assert scene.start(tells_what_became_of_it, FAILING="1").error == "ConnectionError"
    scene.kill(point, tells_what_became_of_it)
    assert scene.start(tells_what_became_of_it).error == ""
    assert scene.ledger == ["work", "notify failed", "work", "notify half", "notify done"]


@workflow
def works_in_a_scope() -> None:
    try:
        with durable.scope("working"):
            work()
    except ConnectionError:
        notify("failed")
        raise
    saved("worked")
    notify("done")


async def _process() -> None:
    await asyncio.sleep(0)
    work()


@workflow
async def works_in_a_branch() -> None:
    try:
        await asyncio.gather(_process())
    except ConnectionError:
        notify("failed")
        raise
    saved("worked")
    notify("done")


@pytest.mark.parametrize("where", ["scope", "branch"])
def test_what_follows_a_scope_or_a_branch(scene: Scene, where: str) -> None:
    """The same where the step that failed stands in a scope or an asyncio task, and the code that handles it around that."""
    program = works_in_a_scope if where == "scope" else works_in_a_branch
    assert scene.start(program, FAILING="1").error == "ConnectionError"
    scene.kill("worked", program)
    assert scene.start(program).error == ""
    assert scene.ledger == ["work", "notify failed", "work", "notify done"]


def _ask(order: str) -> durable.Happened | durable.DidNotHappen:
    return durable.happened("receipt") if "paid" in effects() else durable.did_not_happen


@task(idempotent=False)
def charge(order: str) -> str:
    did(f"charge {order}")
    if "FAILING" in os.environ:
        raise TimeoutError("no answer")
    return "charged"


@workflow
def tells_whether_it_was_charged() -> str:
    try:
        receipt = (charge.with_options(reconcile=_ask) if "ASK" in os.environ else charge)("42")
    except TimeoutError:
        notify("unknown")
        raise
    notify(receipt)
    reach("told")
    return receipt


def _decide() -> None:
    [run] = durable.list_runs()
    run.resolve("charge", durable.happened("receipt"))


def test_a_charge_that_had_happened_is_told_of(scene: Scene) -> None:
    """A verdict that a charge happened, which had failed when the user was told, is another path, too."""
    assert scene.start(tells_whether_it_was_charged, FAILING="1").error == "TimeoutError"
    assert scene.start(tells_whether_it_was_charged).error == "StepInDoubtError"
    scene.start(_decide)
    scene.kill("told", tells_whether_it_was_charged)
    assert scene.start(tells_whether_it_was_charged).value == "receipt"
    assert scene.ledger == ["charge 42", "notify unknown", "notify receipt"]


@pytest.mark.parametrize("happened", [True, False])
def test_a_charge_that_the_receiver_knows_of_is_told_of(scene: Scene, happened: bool) -> None:
    """The same with what the receiver says."""
    assert scene.start(tells_whether_it_was_charged, FAILING="1", ASK="1").error == "TimeoutError"
    scene.write_ledger(["paid"] * happened)
    receipt = scene.start(tells_whether_it_was_charged, ASK="1").value
    assert receipt == ("receipt" if happened else "charged")
    assert scene.ledger == (["paid"] if happened else ["charge 42"]) + [f"notify {receipt}"]


@task(idempotent=False)
def pay(order: str, cents: int) -> str:
    did(f"pay {order}")
    return f"paid {order}"


@workflow
def pays_whatever_happens() -> str:
    failures = []
    try:
        work()
    except ConnectionError as error:
        failures.append(error)
    receipt = pay("b", int(os.environ.get("CENTS", "500")))
    if failures:
        raise failures[0]
    saved("paid")
    return receipt


def test_a_payment_on_both_paths_is_made_once(scene: Scene) -> None:
    """A payment that was called again after the step had been tried again is on this path: with other inputs it is refused."""
    assert scene.start(pays_whatever_happens, FAILING="1").error == "ConnectionError"
    scene.kill("paid", pays_whatever_happens)
    assert scene.start(pays_whatever_happens, CENTS="501").error == "InputsChangedError"
    assert scene.start(pays_whatever_happens).value == "paid b"
    assert [line for line in scene.ledger if line.startswith("pay")] == ["pay b"]
