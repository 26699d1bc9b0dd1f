"""Payments over HTTP to a server that fails at random, by a program that is killed at random: the server's ledger counts."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

import durable
from durable import task, workflow
from tests.crash.zygote import KILLED
from tests.paid_services import PaidServices

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

ORDERS = 130
KILLS = 20
RUN = "payments"


class SlowDownError(Exception):
    """The server refused a request before it charged."""


def post(order: str, key: str = "") -> str:
    Killer.note_request()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    url, body = f"{os.environ['PAID_API']}/v1/payments", json.dumps({"order": order}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
            return str(json.load(response)["id"])
    except urllib.error.HTTPError as error:
        if error.code == 429:
            raise SlowDownError(order) from error
        raise


patiently = tenacity.Retrying(
    stop=tenacity.stop_after_attempt(30),
    wait=durable.wait_retry_after(fallback=0.001),
    retry=tenacity.retry_if_exception_type((OSError, SlowDownError)),
)


@task(key="{order}", idempotent=timedelta(hours=24), retry=patiently)
def pay_with_key(order: str) -> str:
    return post(order, durable.idempotency_key())


@task(key="{order}", idempotent=False, retry=patiently, no_effect_on=SlowDownError)
def pay_without_key(order: str) -> str:
    return post(order)


@workflow(run_id=RUN)
def pay_all(seed: int) -> int:
    for number in range(ORDERS):
        (pay_with_key if number % 2 else pay_without_key)(f"order-{number}")
    return ORDERS


class Killer:
    """Ends this process without a trace some microseconds after one of its requests was begun."""

    left = 0
    delay = 0.0

    @classmethod
    def note_request(cls) -> None:
        cls.left -= 1
        if not cls.left:
            threading.Thread(target=cls._kill, daemon=True).start()

    @classmethod
    def _kill(cls) -> None:
        time.sleep(cls.delay)
        os.kill(os.getpid(), signal.SIGKILL)


def shop(requests: int, delay: float) -> int:
    """Pay until the run ends or is blocked, or a thread kills the process so long after so many requests."""
    Killer.left, Killer.delay = requests, delay
    return pay_all(0)


def settle(charged: dict[str, str]) -> str:
    """Decide what the run is blocked by, from what the server says."""
    [blocking] = [step for step in durable.get_run(RUN).steps if step.status != "succeeded"]
    order = blocking.key.partition(":")[2]
    decision = durable.happened(charged[order]) if order in charged else durable.did_not_happen
    durable.get_run(RUN).resolve(blocking.key, decision)
    return order


@pytest.mark.slow
def test_no_order_is_paid_twice(scene: Scene, tmp_path: Any) -> None:
    """Of 130 payments, half with an idempotency key, 20 kills at random and a server that fails leave each paid once."""
    dice = random.Random(412)
    kills, doubts = 0, set()
    with PaidServices(tmp_path / "api", failures=0.2, seed=412) as api:
        while True:
            requests = dice.randint(1, 8) if kills < KILLS else 0
            outcome = scene.risk(shop, requests, dice.random() * 0.004, PAID_API=api.url)
            if outcome == KILLED:
                kills += 1
                continue
            assert not isinstance(outcome, str)
            if outcome.error == "":
                break
            if outcome.error in {"StepInDoubtError", "CrashLoopError"}:
                charged = {charge["order"]: f"pay-{charge['number']}" for charge in api.charges()}
                order = scene.start(settle, charged).value
                if outcome.error == "StepInDoubtError":
                    doubts.add(order)
            else:  # a request without a key got no answer, or one that says nothing: in doubt from now on
                assert outcome.error in {"HTTPError", "RemoteDisconnected"}, outcome
        paid = [charge["order"] for charge in api.charges()]
    assert kills == KILLS
    assert sorted(paid) == sorted(f"order-{number}" for number in range(ORDERS))
    assert doubts
    assert doubts <= {f"order-{number}" for number in range(0, ORDERS, 2)}
    assert outcome.value == ORDERS
