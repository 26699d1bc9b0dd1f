"""Orders that are paid and noted one after the other: paying is not idempotent, noting is.

The ledger gets a line when a body acts (`pay 1 R`), and one when the caller has the receipt (`got 1 R`). By what the
library promises, a receipt that was got is stored, and so is everything before a body that begins. SIZE in the environment says
how many characters come with each receipt.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import durable
from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from tests.crash.scenes import Outcome, Scene

COUNT = 3
_ENOUGH = 20


def _padding() -> str:
    return "x" * int(os.environ.get("SIZE", "0"))


@task(idempotent=False, key="{number}")
def pay(number: int) -> tuple[str, str]:
    receipt = f"receipt-{os.getpid()}-{number}"
    did(f"pay {number} {receipt}")
    return receipt, _padding()


@task
def note(number: int, receipt: str) -> int:
    did(f"note {number} {receipt}")
    return number


@workflow
def orders() -> list[str]:
    receipts = []
    for number in range(1, COUNT + 1):
        receipt, _ = pay(number)
        did(f"got {number} {receipt}")
        assert note(number, receipt) == number
        receipts.append(receipt)
    return receipts


def _decide(doubt: durable.StepInDoubtError) -> None:
    for what in (doubt.run_id, doubt.step_key, doubt.idempotency_key):
        assert what
        assert what in str(doubt)
    receipts = _receipts(doubt.step_key.removeprefix("pay:"))
    decision = durable.happened((receipts[-1], _padding())) if receipts else durable.did_not_happen
    durable.get_run(doubt.run_id).resolve(doubt.step_key, decision)


def _receipts(number: str) -> list[str]:
    with open(os.environ["LEDGER"], "a+", encoding="utf-8") as ledger:
        ledger.seek(0)
        return [line.split()[2] for line in ledger if line.startswith(f"pay {number} ")]


def orders_until_paid() -> None:
    """Be killed when the first receipt was got."""
    os.environ["KILL_AT"] = f"got 1 receipt-{os.getpid()}-1"
    orders()


def settle() -> list[str]:
    """Call the workflow until it succeeds; who is asked about a doubt looks into the ledger."""
    for _ in range(_ENOUGH):
        try:
            return orders()
        except durable.StepInDoubtError as doubt:
            _decide(doubt)
    raise AssertionError("the run does not end")


def recorded() -> dict[str, str]:
    """Give the status of every step in the store by its key."""
    return {step.key: step.status for run in durable.list_runs() for step in run.steps}


def check_once(scene: Scene, outcome: Outcome) -> None:
    """Assert that each payment happened once, that receipts never changed, and that nothing finished ran again."""
    assert outcome.error == "", outcome
    ledger = [line.split() for line in scene.ledger if line != "failed"]
    paid = [(number, receipt) for what, number, receipt in ledger if what == "pay"]
    assert paid == [(str(number), receipt) for number, receipt in enumerate(outcome.value, 1)]
    assert {(number, receipt) for _, number, receipt in ledger} == set(paid)
    noted = Counter(number for what, number, _ in ledger if what == "note")
    assert set(noted) == {number for number, _ in paid}
    for number in range(1, COUNT):
        after = ledger[ledger.index(["pay", *paid[number]]) :]
        assert not any(what == "note" and int(noted) <= number for what, noted, _ in after)
