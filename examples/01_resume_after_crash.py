"""A sign-up that is killed half-way and run again: nothing finished is executed twice.

Command:

    python examples/01_resume_after_crash.py

Expected output:

    first start
      charge executed for ada@example.com
      create_account executed for ada@example.com
      -- killed with SIGKILL --
    second start, the same command
      send_welcome executed for ada@example.com
      result: welcome ada@example.com, receipt R-500
    executed once each: charge, create_account, send_welcome
    replayed by the second start: charge, create_account
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from durable import task, workflow


def note(name: str, customer: str) -> None:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(f"{name}\n")
    print(f"  {name} executed for {customer}", flush=True)


@task(idempotent=False)
def charge(customer: str, cents: int) -> str:
    note("charge", customer)
    return f"R-{cents}"


@task
def create_account(customer: str) -> None:
    note("create_account", customer)


@task(idempotent=False)
def send_welcome(customer: str, receipt: str) -> str:
    note("send_welcome", customer)
    return f"welcome {customer}, receipt {receipt}"


@workflow
def sign_up(customer: str) -> str:
    receipt = charge(customer, 500)
    create_account(customer)
    time.sleep(float(os.environ.get("PAUSE", "0")))  # the first start is killed here
    return send_welcome(customer, receipt)


def main() -> None:
    effects = Path(tempfile.mkdtemp()) / "effects.txt"
    environment = {**os.environ, "EFFECTS": str(effects), "DURABLE_DB": str(effects.with_name("store.db"))}
    print("first start", flush=True)
    child = subprocess.Popen([sys.executable, __file__, "sign-up"], env={**environment, "PAUSE": "60"})
    while not effects.exists() or "create_account" not in effects.read_text():
        time.sleep(0.05)
    time.sleep(0.5)
    child.kill()  # SIGKILL
    child.wait()
    print("  -- killed with SIGKILL --\nsecond start, the same command", flush=True)
    before = ", ".join(effects.read_text().split())
    subprocess.run([sys.executable, __file__, "sign-up"], env=environment, check=True, stderr=subprocess.DEVNULL)
    print(f"executed once each: {', '.join(effects.read_text().split())}\nreplayed by the second start: {before}")


if __name__ == "__main__":
    print(f"  result: {sign_up('ada@example.com')}") if sys.argv[1:] else main()
