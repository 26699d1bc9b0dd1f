"""How late waits end, and how often a process that only waits asks its store.

    python -m tests.benchmarks.waits [--json FILE] [--folder FOLDER]

A sleep is late by what it takes longer than a plain one that follows it, so that a busy machine delays both; a message by
the time from before it is sent, its commit included, to when its receiver has the payload.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import durable
from durable import workflow
from durable.stores.sql.sqlite import SQLiteStore
from tests.benchmarks.steps import Figure, choose_folder, figure_of, report

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_COUNT = 40
_SLEEP = 0.1  # seconds
_IDLE = 10.0  # seconds in which queries are counted
_HERE, _ACROSS = 20.0, 250.0  # ms that a wait may be late
_QUERIES = 4.0  # a second that a process which waits may ask


@workflow(run_id="sleeper")
def sleeper() -> list[float]:
    """Give how much later each sleep ended than a plain one that followed, in seconds."""
    found = []
    for _ in range(_COUNT):
        begun = time.monotonic()
        durable.sleep(_SLEEP)
        between = time.monotonic()
        time.sleep(_SLEEP)
        found.append(between - begun - (time.monotonic() - between))
    return found


@workflow(run_id="async-sleeper")
async def async_sleeper() -> list[float]:
    found = []
    for _ in range(_COUNT):
        begun = time.monotonic()
        await durable.sleep(_SLEEP)
        between = time.monotonic()
        await asyncio.sleep(_SLEEP)
        found.append(between - begun - (time.monotonic() - between))
    return found


@workflow(run_id="receiver")
def receiver() -> list[float]:
    """Give how late each message came, in seconds."""
    return [-(durable.wait_for("time") - time.time()) for _ in range(_COUNT)]


@workflow(run_id="async-receiver")
async def async_receiver() -> list[float]:
    return [-((await durable.wait_for("time")) - time.time()) for _ in range(_COUNT)]


def _send(run_id: str, steps: Any) -> None:
    """Send each message when the one before was received, after a pause in which everything comes to rest."""
    for number in range(1, _COUNT + 1):
        while len(steps()) < number:
            time.sleep(0.01)
        time.sleep(random.uniform(0.1, 0.4))
        durable.send(run_id, "time", time.time())


def measure_sleeps() -> dict[str, list[float]]:
    return {"sync": sleeper(), "async": asyncio.run(async_sleeper())}


def measure_messages() -> dict[str, list[float]]:
    found = {}
    for name, program in (("sync", receiver), ("async", async_receiver)):
        run = program.start()
        _send(run.id, lambda run=run: run.steps)
        found[name] = run.result()
    return found


def measure_idleness() -> dict[str, list[float]]:
    """Count the statements of a process that waits for a message and for nothing else."""
    store = SQLiteStore(os.environ["DURABLE_DB"])
    durable.configure(store)
    run = receiver.start()
    time.sleep(2)
    statements: list[str] = []
    connections = store._connections
    assert connections is not None
    for connection in (connections.reader, connections.writer):
        connection.set_trace_callback(statements.append)
    used = time.process_time()
    time.sleep(_IDLE)
    share = (time.process_time() - used) / _IDLE
    run.cancel()
    return {"queries": [len(statements) / _IDLE], "share": [share]}


def receive() -> dict[str, list[float]]:
    """Receive what another process sends."""
    return {"sync": receiver()}


def _child(measure: str, folder: str) -> subprocess.Popen[str]:
    command = f"import json; from tests.benchmarks import waits; print(json.dumps(waits.{measure}()))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    environment["DURABLE_DB"] = f"{folder}/runs.db"
    return subprocess.Popen(
        [sys.executable, "-c", command], cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def _found(child: subprocess.Popen[str]) -> dict[str, list[float]]:
    said, _ = child.communicate()
    if child.returncode:
        sys.exit(1)
    found: dict[str, list[float]] = json.loads(said)
    return found


def _lateness(what: str, seconds: list[float], target: float) -> Iterator[Figure]:
    late = [each * 1000 for each in seconds]
    yield figure_of(f"{what}, late by", late, "ms", target=target)
    yield Figure(f"{what}, the latest of {len(late)}", max(late), "ms")


def figures(home: Path) -> Iterator[Figure]:
    """Measure everything, each in a process and a store of its own."""
    for measure, what in (("measure_sleeps", "sleep"), ("measure_messages", "message in the same process")):
        with tempfile.TemporaryDirectory(dir=home) as folder:
            for kind, seconds in _found(_child(measure, folder)).items():
                yield from _lateness(f"{what}, {kind}", seconds, _HERE)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        child = _child("receive", folder)
        durable.configure(f"{folder}/runs.db")
        while not durable.list_runs():
            time.sleep(0.01)
        _send("receiver", lambda: durable.get_run("receiver").steps)
        yield from _lateness("message from another process", _found(child)["sync"], _ACROSS)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        found = _found(_child("measure_idleness", folder))
        yield Figure("statements of a process that only waits", found["queries"][0], "a second", _QUERIES)
        yield Figure("processor time of a process that only waits", found["share"][0] * 100, "%")


def main() -> None:
    """Measure, print the table as it grows, and then the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures there instead of printing them as JSON")
    parser.add_argument("--folder", help="where the stores go; on a disk")
    options = parser.parse_args()
    report(figures(choose_folder(options.folder)), options.json)


if __name__ == "__main__":
    main()
