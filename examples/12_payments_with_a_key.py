"""Payments to a service that honours Idempotency-Key: it fails, the process is killed, and each order is paid once.

Command:

    python examples/12_payments_with_a_key.py

Expected output:

    paying 30 orders, killed right after the payment of the 7th, the 15th and the 22nd
    all are paid, and the service has charged 30 times, each order once: True
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from datetime import timedelta
from pathlib import Path

import tenacity
from paid_api import PaidAPI

import durable
from durable import task, workflow

# The service refuses requests, and breaks after it has charged: urllib raises an OSError for each.
patiently = tenacity.Retrying(
    stop=tenacity.stop_after_attempt(20),
    wait=durable.wait_retry_after(fallback=0.01, max=60),
    retry=tenacity.retry_if_exception_type(OSError),
)


@task(key="{order}", idempotent=timedelta(hours=24), retry=patiently)  # for so long the service knows a key
def pay(order: str, cents: int) -> str:
    request = urllib.request.Request(
        os.environ["PAID_API"] + "/v1/payments",
        data=json.dumps({"order": order, "cents": cents}).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": durable.idempotency_key()},
    )
    with urllib.request.urlopen(request) as response:
        receipt = json.load(response)["id"]
    if order == os.environ.get("KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    return receipt


@workflow
def pay_all(orders: int) -> list[str]:
    return [pay(f"order-{number}", 500) for number in range(1, orders + 1)]


def start(api: PaidAPI, kill_at: str = "") -> int:
    """Run this file in a process of its own, which pays."""
    environment = {**os.environ, "PAID_API": api.url, "KILL_AT": kill_at}
    command = [sys.executable, __file__, "pay"]
    return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False).returncode


def main() -> None:
    os.environ["DURABLE_DB"] = str(Path(tempfile.mkdtemp()) / "store.db")
    with PaidAPI(Path(tempfile.mkdtemp()) / "ledger", failures=0.3) as api:
        print("paying 30 orders, killed right after the payment of the 7th, the 15th and the 22nd")
        ended = [start(api, f"order-{number}") for number in (7, 15, 22)]
        assert ended == [-signal.SIGKILL] * 3
        assert start(api) == 0
        paid = [charge["order"] for charge in api.charges()]
        print(f"all are paid, and the service has charged {len(paid)} times, each order once: {len(set(paid)) == 30}")


if __name__ == "__main__":
    pay_all(30) if "pay" in sys.argv else main()
