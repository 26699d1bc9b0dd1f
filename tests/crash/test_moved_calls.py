"""Calls that an edit moves into a helper step or a block, or out of one, between a kill and the next start: paid once."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, saved
from tests.crash.payments import pay, way_to_pay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene


def pay_all() -> list[str]:
    way = way_to_pay()
    return [way("a"), way("b")]


@task
def helper(at: str) -> list[str]:
    return pay_all()


@task
def outer_helper() -> list[str]:
    return helper("")


@task
def helper_with_a_block() -> list[str]:
    return in_a_block()


@task(attempts=2)
def helper_that_fails_once() -> list[str]:
    receipts = pay_all()
    if durable.current().attempt == 1:
        raise ConnectionError("no connection")
    return receipts


def directly() -> list[str]:
    return pay_all()


def in_a_helper() -> list[str]:
    return helper("")


def in_two_helpers() -> list[str]:
    return outer_helper()


def in_a_helper_called_otherwise() -> list[str]:
    return helper("later")


def in_a_helper_with_a_block() -> list[str]:
    return helper_with_a_block()


def in_a_helper_that_fails_once() -> list[str]:
    return helper_that_fails_once()


def in_a_block() -> list[str]:
    with durable.scope("payments"):
        return pay_all()


def in_a_helper_in_a_block() -> list[str]:
    with durable.scope("payments"):
        return helper("")


@workflow
def payments() -> list[str]:
    program: Callable[[], list[str]] = globals()[os.environ["PROGRAM"]]
    receipts = program()
    saved("paid")
    return receipts


@pytest.mark.parametrize("by", ["arguments", "key"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("directly", "in_a_helper"),
        ("directly", "in_two_helpers"),
        ("directly", "in_a_block"),
        ("directly", "in_a_helper_in_a_block"),
        ("in_a_helper", "directly"),
        ("in_a_helper", "in_two_helpers"),
        ("in_a_helper", "in_a_helper_called_otherwise"),
        ("in_a_block", "directly"),
        ("in_a_block", "in_a_helper_in_a_block"),
        ("in_a_block", "in_a_helper_with_a_block"),
        ("in_a_helper_in_a_block", "directly"),
        ("in_two_helpers", "in_a_helper"),
    ],
)
def test_a_payment_that_an_edit_moves_is_made_once(scene: Scene, before: str, after: str, by: str) -> None:
    """Finished payments are refused at their new place, however often the program is started, until the user decides."""
    scene.kill("paid", payments, PROGRAM=before, BY=by)
    for _ in range(3):
        refused = scene.start(payments, PROGRAM=after, BY=by)
        assert refused.error == "InputsChangedError"
        assert "the place that it is called from" in refused.message
        assert len({part for part in refused.message.split("'") if "pay" in part and ":" in part}) == 2
    assert scene.start(payments, PROGRAM=after, BY=by, DURABLE_ON_DRIFT="reuse").value == ["paid a", "paid b"]
    assert scene.ledger == ["pay a", "pay b"]


def test_a_reused_payment_is_used_in_every_attempt(scene: Scene) -> None:
    """A result that the user says is to be used counts also when the step around the call is tried once more."""
    scene.kill("paid", payments, PROGRAM="in_a_helper")
    outcome = scene.start(payments, PROGRAM="in_a_helper_that_fails_once", DURABLE_ON_DRIFT="reuse")
    assert outcome.value == ["paid a", "paid b"]
    assert scene.ledger == ["pay a", "pay b"]


@task
def order() -> list[str]:
    program: Callable[[], list[str]] = globals()[os.environ["PROGRAM"]]
    receipts = program()
    if "FAILS" in os.environ:
        raise ConnectionError("no connection")
    return receipts


@workflow
def orders() -> list[str]:
    return order()


@pytest.mark.parametrize("by", ["arguments", "key"])
def test_a_payment_that_an_edit_moves_in_a_step_that_failed_is_made_once(scene: Scene, by: str) -> None:
    """The step that failed is mended, and its payments moved on the way: finished ones are refused at their new place."""
    assert scene.start(orders, PROGRAM="directly", BY=by, FAILS="1").error == "ConnectionError"
    assert scene.start(orders, PROGRAM="in_a_helper", BY=by).error == "InputsChangedError"
    reused = scene.start(orders, PROGRAM="in_a_helper", BY=by, DURABLE_ON_DRIFT="reuse")
    assert reused.value == ["paid a", "paid b"]
    assert scene.ledger == ["pay a", "pay b"]


def test_a_payment_under_way_that_an_edit_moves_stays_in_doubt(scene: Scene) -> None:
    """A payment that a kill interrupted is not made at its new place either."""
    scene.kill("pay b", payments, PROGRAM="directly")
    for _ in range(2):
        assert scene.start(payments, PROGRAM="in_a_helper", DURABLE_ON_DRIFT="reuse").error == "StepInDoubtError"
    assert scene.ledger == ["pay a", "pay b"]


@task
async def deliver(item: str) -> str:
    await asyncio.sleep(0)
    paid = pay("the same")
    saved(f"delivered {item}")
    return f"{item} {paid}"


@workflow
async def deliveries() -> list[str]:
    return await asyncio.gather(*map(deliver, "abc"))


@pytest.mark.parametrize("item", "abc")
def test_equal_payments_of_different_steps_are_all_made(scene: Scene, item: str) -> None:
    """Steps at the same time that pay alike, killed anywhere: the others' payments are no reason to refuse one."""
    scene.kill(f"delivered {item}", deliveries)
    assert scene.start(deliveries).value == [f"{item} paid the same" for item in "abc"]
    assert scene.ledger == ["pay the same"] * 3


@workflow
def loops_over_scopes() -> int:
    for name in os.environ["ORDER"]:
        with durable.scope(name):
            pay("the same")
            saved(f"paid {name}")
    return 3


def test_scopes_in_another_order_pay_once_each(scene: Scene) -> None:
    """Scopes tell equal payments apart, in whatever order they come."""
    scene.kill("paid b", loops_over_scopes, ORDER="abc")
    assert scene.start(loops_over_scopes, ORDER="cba").value == 3
    assert scene.ledger == ["pay the same"] * 3


@workflow
def payments_in_order() -> list[str]:
    way = pay.with_options(key="{order}") if "KEY" in os.environ else pay
    receipts = [way(order) for order in os.environ["ORDER"]]
    saved("paid")
    return receipts


def test_reused_results_belong_to_equal_arguments(scene: Scene) -> None:
    """`on_drift="reuse"` after two edits, a key and another order: each call gets the result of its own arguments."""
    scene.kill("paid", payments_in_order, ORDER="ab")
    outcome = scene.start(payments_in_order, ORDER="ba", KEY="1", DURABLE_ON_DRIFT="reuse")
    assert outcome.value == ["paid b", "paid a"]
    assert outcome.warnings == []
    assert scene.ledger == ["pay a", "pay b"]


def test_an_ambiguous_step_names_the_one_in_doubt(scene: Scene) -> None:
    """Among steps that a beginning of a key may mean, the one in doubt is named first, and as such."""
    scene.kill("pay h", payments_in_order, ORDER="abcdefgh")
    outcome = scene.start(name_any_payment)
    assert outcome.error == "NotFoundError"
    assert "pay:" in outcome.message.partition("(in doubt)")[0]
    assert outcome.message.index("(in doubt)") < outcome.message.index(", #")
    assert scene.start(decide_any_payment).error == ""
    assert scene.start(payments_in_order, ORDER="abcdefgh").value[-1] == "decided"
    assert scene.start(decide_any_payment).error == "NotFoundError"


def decide_any_payment() -> None:
    """Decide the payment in doubt, which is meant where it is the only one."""
    durable.list_runs()[0].resolve("pay", durable.happened("decided"))


def name_any_payment() -> None:
    durable.list_runs()[0].find_step("pay")


@task
def stamp(_moment: int) -> None:
    did("stamp")


def _pay_now() -> str:
    stamp(time.time_ns())
    way = pay.with_options(key="now") if "KEY" in os.environ else pay
    return way(str(time.time_ns()))


@task(attempts=3)
def book() -> str:
    receipt = _pay_now()
    if durable.current().attempt < 3:
        raise ConnectionError
    return receipt


@workflow
def books() -> str:
    return book()


def _paid(scene: Scene) -> int:
    return len([effect for effect in scene.ledger if effect.startswith("pay")])


def test_another_attempt_does_not_pay_with_other_arguments(scene: Scene) -> None:
    """A step that is tried again calls a payment that the attempt before had made with a timestamp: it is refused, as in a
    resumed run, until the user decides; what may be repeated is executed."""
    refused = scene.start(books)
    assert (refused.error, _paid(scene)) == ("InputsChangedError", 1)
    assert "tries step 'book:" in refused.message
    assert scene.ledger.count("stamp") == 2
    assert scene.start(books).error == "InputsChangedError"
    assert scene.start(books, DURABLE_ON_DRIFT="reuse").value.startswith("paid")
    assert _paid(scene) == 1


def test_another_attempt_uses_a_payment_with_a_key(scene: Scene) -> None:
    """A payment with a business key is made once, however often the step around it is tried again."""
    assert scene.start(books, KEY="1").error == ""
    assert _paid(scene) == 1


@task(idempotent=False, no_effect_on=ValueError)
def charge(card: str) -> str:
    if card == "declined":
        raise ValueError(card)
    did(f"pay {card}")
    return card


@task(attempts=3)
def buy() -> str:
    return charge("declined" if durable.current().attempt == 1 else "accepted")


@workflow
def buys() -> str:
    return buy()


def test_another_attempt_may_pay_with_another_card(scene: Scene) -> None:
    """A payment that is known not to have happened does not keep the next attempt from one with other arguments."""
    assert scene.start(buys).value == "accepted"
    assert scene.ledger == ["pay accepted"]
