"""Signal handlers that raise, as `signal.alarm` is used for time limits: they meet the library wherever it is."""

from __future__ import annotations

import random
import signal
import threading
from typing import TYPE_CHECKING

import durable
from durable import task
from tests.crash.effects import did

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

ORDERS = 60
LONGEST = 0.01  # seconds


@task
def prepare(order: int) -> str:
    did(f"prepare {order}")
    return f"parcel {order}"


@task(idempotent=False)
def pay(order: int) -> str:
    did(f"pay {order}")
    return f"receipt {order}"


def _ring(_: int, __: object) -> None:
    raise TimeoutError("over")


def orders_in_time() -> list[str]:
    """Give each order so little time that most are late: almost always in a commit."""
    shortness = random.Random(1)
    signal.signal(signal.SIGALRM, _ring)
    outcomes = []
    with durable.run("orders"):
        for order in range(ORDERS):
            try:
                signal.setitimer(signal.ITIMER_REAL, shortness.uniform(LONGEST / 20, LONGEST))
                try:
                    found = f"{prepare(order)}, {pay(order)}"
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError as error:
                found = str(error)
            outcomes.append(found)
    return outcomes


def test_a_time_limit_by_a_signal_ends_the_call_that_it_meets(scene: Scene) -> None:
    """A handler raises TimeoutError wherever the library is: the caller gets that very error, and the store goes on."""
    outcome = scene.start(orders_in_time)
    assert outcome.error == "", outcome
    for order, found in enumerate(outcome.value):
        assert found in ("over", f"parcel {order}, receipt {order}")
    assert "over" in outcome.value
    assert len(set(scene.ledger)) == len(scene.ledger)


def orders_in_time_elsewhere() -> str:
    """Be late when a thread is about to begin, and submit something else then."""
    begin = threading.Thread.start

    def begin_late(_: threading.Thread) -> None:
        threading.Thread.start = begin  # type: ignore[method-assign]  # once
        _ring(0, None)

    with durable.run("elsewhere"):
        threading.Thread.start = begin_late  # type: ignore[assignment,method-assign]  # where a signal comes
        try:
            prepare.submit(1)
        except TimeoutError:
            return prepare.submit(2).result()
    return ""


def test_a_time_limit_that_meets_a_submission_withdraws_it(scene: Scene) -> None:
    """A handler raises while a task is submitted: that one is not executed, and those after it are; nothing hangs."""
    outcome = scene.start(orders_in_time_elsewhere)
    assert outcome.value == "parcel 2", outcome
    assert scene.ledger == ["prepare 2"]
