"""A trip whose last booking fails: what was booked is cancelled, although the process is killed in the middle of it.

Command:

    python examples/08_saga_with_compensations.py

Expected output:

    first start: the cars are sold out
      booked flight
      booked hotel
      cancelled hotel
      -- killed with SIGKILL --
    second start, the same command
      cancelled flight
      failed: no car left; undone: flight, hotel
    third start: there are cars again
      booked flight
      booked hotel
      booked car
      result: flight, hotel, car
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import durable
from durable import task, workflow


def cancel(booking: str, kind: str) -> None:
    """Undo a booking: called with its result and its arguments."""
    if os.environ.get("KILLED_AT") == kind:
        print("  -- killed with SIGKILL --", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"  cancelled {booking}", flush=True)


@task(undo=cancel, key="{kind}")
def book(kind: str) -> str:
    if os.environ.get("SOLD_OUT") == kind:
        raise RuntimeError(f"no {kind} left")
    print(f"  booked {kind}", flush=True)
    return kind


@workflow(run_id="trip")
def trip() -> str:
    return ", ".join(book(kind) for kind in ("flight", "hotel", "car"))


def start() -> None:
    try:
        print(f"  result: {trip()}")
    except RuntimeError as error:
        undone = [step.key.partition(":")[2] for step in durable.get_run("trip").steps if step.status == "undone"]
        print(f"  failed: {error}; undone: {', '.join(undone)}")


def main() -> None:
    environment = {**os.environ, "DURABLE_DB": str(Path(tempfile.mkdtemp()) / "store.db")}
    for title, more in (
        ("first start: the cars are sold out", {"SOLD_OUT": "car", "KILLED_AT": "flight"}),
        ("second start, the same command", {"SOLD_OUT": "car"}),
        ("third start: there are cars again", {}),
    ):
        print(title, flush=True)
        subprocess.run(
            [sys.executable, __file__, "start"], env=environment | more, stderr=subprocess.DEVNULL, check=False
        )


if __name__ == "__main__":
    start() if sys.argv[1:] else main()
