"""Signal handlers that raise, as `signal.alarm` is used for time limits: they meet the library wherever it is."""

from __future__ import annotations

import random
import signal
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
