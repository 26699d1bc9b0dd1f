"""A payment whose connection breaks: it is never repeated on a guess, and the receiver is asked what happened.

Command:

    python examples/02_payment_in_doubt.py

Expected output:

    1. the connection breaks after the money has moved
       ReadTimeout: no answer from the bank
    2. the same call again
       StepInDoubtError: step pay:order-42 was not executed again
       the bank has 1 payment
    3. with reconcile= the bank is asked
       paid 500, mail sent to ada@example.com
       the bank has 1 payment
"""

import contextlib
import io
import tempfile
from pathlib import Path

import durable
from durable import task, workflow

bank: dict[str, int] = {}  # idempotency key -> cents: what the bank knows


class ReadTimeout(Exception):
    """The request was sent and no answer came."""


def ask_the_bank(order: str, cents: int) -> durable.Happened | durable.DidNotHappen:
    """Look the payment up under the key that it was sent with."""
    paid = bank.get(durable.idempotency_key())
    return durable.did_not_happen if paid is None else durable.happened(paid)


@task(idempotent=False, key="{order}")
def pay(order: str, cents: int) -> int:
    bank[durable.idempotency_key()] = cents
    raise ReadTimeout("no answer from the bank")


@task(idempotent=False, key="{order}")
def send_mail(order: str, to: str) -> str:
    return f"mail sent to {to}"


@workflow
def checkout(order: str) -> str:
    paid = (pay.with_options(reconcile=ask_the_bank) if asks_the_bank else pay)(order, 500)
    return f"paid {paid}, {send_mail(order, 'ada@example.com')}"


def main() -> None:
    global asks_the_bank
    durable.configure(Path(tempfile.mkdtemp()) / "store.db")
    print("1. the connection breaks after the money has moved")
    try:
        checkout("order-42")
    except ReadTimeout as error:
        print(f"   ReadTimeout: {error}")
    print("2. the same call again")
    try:
        checkout("order-42")
    except durable.StepInDoubtError as error:
        print(f"   StepInDoubtError: step {error.step_key} was not executed again")
    print(f"   the bank has {len(bank)} payment\n3. with reconcile= the bank is asked")
    asks_the_bank = True
    print(f"   {checkout('order-42')}\n   the bank has {len(bank)} payment")


asks_the_bank = False
if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):  # the lines for people carry times
        main()
