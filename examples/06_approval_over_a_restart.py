"""An order waits for an approval; its process is killed, the approval comes while nobody runs, and it counts once.

Command:

    python examples/06_approval_over_a_restart.py

Expected output:

    [first process] reserving order 7
    [first process] killed; the order is waiting
    [somebody else] approved
    [second process] shipping order 7, approved by ada
    [second process] the order is succeeded
    log: reserve 7, ship 7
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import durable
from durable import task, workflow

log = Path(os.environ.get("LOG", "log"))


def note(effect: str) -> None:
    with log.open("a") as file:
        file.write(f"{effect}\n")


@task
def reserve(order: int) -> None:
    print(f"reserving order {order}")
    note(f"reserve {order}")


@task(idempotent=False, key="{order}")
def ship(order: int, approved_by: str) -> None:
    print(f"shipping order {order}, approved by {approved_by}")
    note(f"ship {order}")


@workflow(run_id="order-{order}")
def fulfil(order: int) -> None:
    reserve(order)
    approval = durable.wait_for("approval", timeout=7 * 24 * 3600)  # a week, restarts included
    ship(order, approval["by"])


def begin(folder: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DURABLE_DB": f"{folder}/store.db", "LOG": f"{folder}/log", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, __file__, "fulfil"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def main() -> None:
    folder = tempfile.mkdtemp()
    durable.configure(f"{folder}/store.db")
    first = begin(folder)
    while not (runs := durable.list_runs(status="waiting")):
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    print(f"[first process] {first.communicate()[0].strip()}")
    print(f"[first process] killed; the order is {runs[0].status}")
    durable.send("order-7", "approval", {"by": "ada"})
    print("[somebody else] approved")
    print(f"[second process] {begin(folder).communicate()[0].strip()}")
    print(f"[second process] the order is {runs[0].status}")
    print(f"log: {', '.join(Path(folder, 'log').read_text().splitlines())}")


if __name__ == "__main__":
    fulfil(7) if sys.argv[1:] == ["fulfil"] else main()
