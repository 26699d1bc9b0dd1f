"""Payments to a service that honours Idempotency-Key: it fails, the process is killed, and each order is paid once.

Command:

    python examples/12_payments_with_a_key.py

Expected output:

    paying for 30 orders
    killed 3 times
    all paid: True
    the service has charged each order once: True
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from datetime import timedelta
from pathlib import Path

import tenacity
from paid_api import PaidAPI

import durable
from durable import task, workflow

patiently = tenacity.Retrying(
    stop=tenacity.stop_after_attempt(10),
    wait=durable.wait_retry_after(fallback=0.01, max=60),
    retry=tenacity.retry_if_exception_type(OSError),  # of urllib: refused, failed, no answer
)


@task(key="{order}", idempotent=timedelta(hours=24), retry=patiently)  # how long the service knows a key
def pay(order: str, cents: int) -> str:
    request = urllib.request.Request(
        os.environ["PAID_API"] + "/v1/payments",
        data=json.dumps({"order": order, "cents": cents}).encode(),
        headers={"Idempotency-Key": durable.idempotency_key()},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["id"]


@workflow
def pay_all(orders: int) -> list[str]:
    return [pay(f"order-{number}", 500) for number in range(orders)]


def killed(after: float) -> bool:
    """Run this file in a process of its own, and kill it after some seconds."""
    child = subprocess.Popen([sys.executable, __file__, "30"], stderr=subprocess.DEVNULL)
    timer = threading.Timer(after, child.kill)
    timer.start()
    code = child.wait()
    timer.cancel()
    return code == -signal.SIGKILL


def main() -> None: ...


if __name__ == "__main__":
    main()
