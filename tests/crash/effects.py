"""What programs under test do in the world: each effect is on disk in a ledger before anything else happens.

`did` and `reach` are also the points where a process may be killed; the environment says where.
"""

from __future__ import annotations

import os
import signal

from durable.runs import sessions


def did(effect: str) -> None:
    """Write one line to the ledger, flush it to disk, and be killed if this is the point."""
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as ledger:
        ledger.write(f"{effect}\n")
        ledger.flush()
        os.fsync(ledger.fileno())
    reach(effect)


def effects() -> list[str]:
    """Read the ledger."""
    with open(os.environ["LEDGER"], encoding="utf-8") as ledger:
        return ledger.read().splitlines()


def reach(point: str) -> None:
    """End this process without a trace if it is to be killed here."""
    if os.environ.get("KILL_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def saved(point: str) -> None:
    """Reach a point when everything so far is recorded."""
    sessions.current().journal.flush_all()
    reach(point)


def is_first_start() -> bool:
    """Whether this start of the program was told to be the first; programs that change between starts ask this."""
    return os.environ.get("START") == "first"


def await_signal() -> None:
    """Tell who sends signals that this process waits for one from now on."""
    with open(f"{os.environ['WAITING']}.new", "w", encoding="utf-8") as waiting:
        waiting.write(str(os.getpid()))
    os.rename(waiting.name, os.environ["WAITING"])
