"""Programs that are edited, or whose inputs differ, between a kill and the next start: no payment is made twice."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task(idempotent=False)
def pay(order: str, at: float = 0.0) -> str:
    did(f"pay {order}")
    return f"paid {order}"


@task(replay=False)
def log_in() -> str:
    did("log in")
    return f"session {time.time()}"


@task
def look_up(session: str) -> str:
    did("look up")
    return "found"


@workflow
def logs_in_and_pays() -> str:
    look_up(log_in())
    receipt = pay("a", time.time())
    saved("paid")
    return receipt


def test_a_step_that_is_executed_every_time_excuses_no_payment(scene: Scene) -> None:
    """After a `replay=False` step idempotent calls may differ silently; a finished payment whose inputs differ is
    refused."""
    scene.kill("paid", logs_in_and_pays)
    outcome = scene.start(logs_in_and_pays)
    assert outcome.error == "InputsChangedError"
    assert outcome.warnings == []
    assert scene.ledger == ["log in", "look up", "pay a", "log in", "look up"]


@task(idempotent=False)
async def pay_async(order: str, at: float) -> str:
    did(f"pay {order}")
    return f"paid {order}"


async def branch(order: str, at: float) -> str:
    receipt = await pay_async(order, at)
    saved(f"paid {order}")
    return receipt


@workflow
async def pays_in_branches() -> list[str]:
    at = time.time()
    return await asyncio.gather(*(branch(order, at) for order in "ab"))


@workflow
async def pays_from_a_queue() -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    for order in os.environ["ORDERS"]:
        queue.put_nowait(order)

    async def worker(_: int) -> list[str]:
        return [await branch(queue.get_nowait(), time.time()) for _ in range(2)]

    first, second = await asyncio.gather(worker(1), worker(2))
    return first + second


@pytest.mark.parametrize(("point", "error"), [("pay b", "StepInDoubtError"), ("paid b", "InputsChangedError")])
def test_branches_named_after_the_time_pay_once(scene: Scene, point: str, error: str) -> None:
    """`gather` over coroutines whose arguments hold the time: payments of an earlier start, in doubt or finished, are not
    made again in branches that nobody knows."""
    scene.kill(point, pays_in_branches)
    paid = scene.ledger
    assert scene.start(pays_in_branches).error == error
    assert scene.ledger == paid


def test_workers_that_swap_their_items_repeat_no_doubt(scene: Scene) -> None:
    """A payment in doubt stops the run also when another worker takes its item, with another time."""
    scene.kill("pay b", pays_from_a_queue, ORDERS="abcd")
    paid = scene.ledger
    assert scene.start(pays_from_a_queue, ORDERS="badc").error in {"StepInDoubtError", "InputsChangedError"}
    assert scene.ledger == paid


def block_before() -> str:
    with durable.run("import-11"):
        receipt = pay("a")
        saved("paid")
        return receipt


def block_after() -> str:
    with durable.run("import-11"):
        return pay("a")


@pytest.mark.parametrize(
    ("decision", "outcome", "ledger"),
    [
        ({}, "InputsChangedError", ["pay a"]),
        ({"DURABLE_ON_DRIFT": "reuse"}, "paid a", ["pay a"]),
        ({"DURABLE_ON_DRIFT": "run"}, "paid a", ["pay a", "pay a"]),
    ],
)
def test_a_block_that_moves_pays_once(scene: Scene, decision: dict[str, str], outcome: str, ledger: list[str]) -> None:
    """The function around a `with durable.run(...)` block is renamed: the payment is refused until somebody decides."""
    scene.kill("paid", block_before)
    ended = scene.start(block_after, **decision)
    assert outcome in (ended.error, ended.value)
    assert scene.ledger == ledger


def two_blocks(*which: str) -> None:
    if "first" in which:
        with durable.run("import-12"):
            pay("a")
    if "second" in which:
        with durable.run("import-12"):
            pay("b")


def test_blocks_of_one_run_may_be_executed_alone(scene: Scene) -> None:
    """A block that pays something else than one that is not executed this time is no block that moved."""
    assert scene.start(two_blocks, "first").error == ""
    assert scene.start(two_blocks, "second").error == ""
    assert scene.start(two_blocks, "first", "second").error == ""
    assert scene.ledger == ["pay a", "pay b"]


@workflow(name="tests.former_sale")
def sale_before(order: str) -> str:
    receipt = pay(order)
    saved("paid")
    return receipt


@workflow(name="sale", aliases=["tests.former_sale"])
def sale_after(order: str) -> str:
    return pay(order)


@workflow
def parent_before() -> str:
    return sale_before("a")


@workflow(name="parent_after", aliases=["tests.crash.test_changed_programs.parent_before"])
def parent_after() -> str:
    return sale_after("a")


def test_a_renamed_workflow_resumes_its_run(scene: Scene) -> None:
    """A workflow under a new name finds the run under the former one in `aliases`, whatever that was written like."""
    scene.kill("paid", sale_before, "a")
    assert scene.start(sale_after, "a").value == "paid a"
    assert scene.start(sale_after, "a").value == "paid a"
    scene.kill("paid", parent_before)
    assert scene.start(parent_after).value == "paid a"
    assert scene.ledger == ["pay a", "pay a"]


@task
def process(order: str, at: float) -> str:
    receipt = pay(order)
    saved("paid")
    return receipt


@task
def process_all(at: float) -> str:
    return process("a", at)


@workflow
def pays_below() -> str:
    return process_all(time.time())


@task
def prepare() -> None: ...


@task
def process_in_time() -> str:
    receipt = pay("a", time.time())
    saved("paid")
    if os.environ.get("ENDING") == "failed":
        raise ConnectionError("no connection")
    if os.environ.get("ENDING") == "interrupted":
        raise KeyboardInterrupt
    return receipt


@workflow
def prepares_and_pays() -> str:
    if "PREPARE" in os.environ:
        prepare()
    return process_in_time()


@pytest.mark.parametrize(("point", "error"), [("pay a", "StepInDoubtError"), ("paid", "InputsChangedError")])
def test_a_payment_below_the_last_recorded_step_is_made_once(scene: Scene, point: str, error: str) -> None:
    """A new call before it finds the workflow's records at their end, and those below them are looked at all the same."""
    scene.kill(point, prepares_and_pays)
    assert scene.start(prepares_and_pays, PREPARE="1").error == error
    assert scene.ledger == ["pay a"]


@pytest.mark.parametrize("ending", ["failed", "interrupted"])
def test_a_payment_in_a_step_that_is_tried_again_is_made_once(scene: Scene, ending: str) -> None:
    """That the step around it failed, or met Ctrl-C, is no reason to pay again with another time."""
    assert scene.start(prepares_and_pays, ENDING=ending).error in {"ConnectionError", "KeyboardInterrupt"}
    assert scene.start(prepares_and_pays).error == "InputsChangedError"
    assert scene.start(prepares_and_pays, DURABLE_ON_DRIFT="reuse").value == "paid a"
    assert scene.ledger == ["pay a"]


@workflow
def pays_beside_a_failure() -> str:
    if "PAY_LATER" not in os.environ:
        pay("a", time.time())
    connect()
    return pay("a", time.time()) if "PAY_LATER" in os.environ else "paid before"


def test_a_payment_that_an_edit_moves_behind_the_failure_is_made_once(scene: Scene) -> None:
    """A step that is tried again explains no change of what had been called before it."""
    assert scene.start(pays_beside_a_failure, ENDING="failed").error == "ConnectionError"
    assert scene.start(pays_beside_a_failure, PAY_LATER="1").error == "InputsChangedError"
    assert scene.start(pays_beside_a_failure, PAY_LATER="1", DURABLE_ON_DRIFT="reuse").value == "paid a"
    assert scene.ledger == ["pay a"]


@task
def process_now() -> str:
    return pay("b")


@workflow
def pays_unless_told_otherwise() -> None:
    if "LESS" not in os.environ:
        pay("a") if "DIRECTLY" in os.environ else process_now()


@pytest.mark.parametrize(("point", "directly"), [("pay a", {"DIRECTLY": "1"}), ("pay b", {})])
def test_a_doubt_that_is_not_called_again_is_named(scene: Scene, point: str, directly: dict[str, str]) -> None:
    """A run whose program does without a payment that was under way succeeds and says so, whatever step it stood in."""
    scene.kill(point, pays_unless_told_otherwise, **directly)
    outcome = scene.start(pays_unless_told_otherwise, LESS="1")
    assert outcome.error == ""
    [warning] = outcome.warnings
    assert "pay:" in warning
    assert "nobody knows whether it happened" in warning


@task
def connect() -> None:
    if os.environ.get("ENDING") == "failed":
        raise ConnectionError("no connection")


@task
def connects_and_pays() -> str:
    try:
        connect()
    except ConnectionError:
        pay("a fee")
        raise
    return pay("a")


@workflow
def pays_after_a_failure() -> str:
    return connects_and_pays()


def test_what_follows_a_step_that_is_tried_again_may_differ(scene: Scene) -> None:
    """Below another step, too, a payment after a step that was tried again is a new one."""
    assert scene.start(pays_after_a_failure, ENDING="failed").error == "ConnectionError"
    assert scene.start(pays_after_a_failure).value == "paid a"
    assert scene.ledger == ["pay a fee", "pay a"]


@pytest.mark.parametrize(("point", "error"), [("pay a", "StepInDoubtError"), ("paid", "InputsChangedError")])
def test_a_payment_below_steps_whose_inputs_differ_is_made_once(scene: Scene, point: str, error: str) -> None:
    """Idempotent steps that are executed anew because their inputs differ do not repeat the payment below them."""
    scene.kill(point, pays_below)
    assert scene.start(pays_below).error == error
    assert scene.ledger == ["pay a"]


def test_a_payment_below_steps_whose_inputs_differ_can_be_decided(scene: Scene) -> None:
    """A doubt below a step that is not called again is resolved, and its value used when the user says so."""
    scene.kill("pay a", pays_below)
    assert scene.start(pays_below).error == "StepInDoubtError"
    assert scene.start(resolve_all).value == 1
    assert scene.start(pays_below, DURABLE_ON_DRIFT="reuse").value == "said so"
    assert scene.ledger == ["pay a"]


def resolve_all() -> int:
    [run] = durable.list_runs()
    doubtful = [step for step in run.steps if step.status == "started" and step.name.endswith("pay")]
    for step in doubtful:
        run.resolve(step.key, durable.happened("said so"))
    return len(doubtful)


@workflow
def pays_with_a_key_later() -> str:
    chosen = pay.with_options(key="{order}") if "KEY" in os.environ else pay
    receipt = chosen("a", time.time())
    saved("paid")
    return receipt


@pytest.mark.parametrize(("point", "error"), [("pay a", "StepInDoubtError"), ("paid", "InputsChangedError")])
def test_a_key_that_is_added_later_hides_no_payment(scene: Scene, point: str, error: str) -> None:
    """A payment that was recorded before its task had a `key=` is not made again under the key."""
    scene.kill(point, pays_with_a_key_later)
    assert scene.start(pays_with_a_key_later).error == error
    assert scene.start(pays_with_a_key_later, KEY="1").error == error
    assert scene.ledger == ["pay a"]
