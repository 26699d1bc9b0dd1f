"""Runs of twenty steps one after the other; every body is given all that the earlier ones gave.

A value is new each time a body is executed, so a value that was given and is another one later gives a repetition away.
In a sequence, a body that began proves that everything before it is recorded: the ledger alone says what may be repeated.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable import task, workflow
from tests.crash.killing_stores import KillingStore
from tests.crash.plays import Ledger, Play

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 20
NAMES = [f"{kind} {number}" for number, kind in enumerate(["again", "once", "keyed"] * 7)][:COUNT]

play: Play


def _body(name: str, given: list[str]) -> str:
    play.write("ack", f"before {name}", ",".join(given))
    value = f"{name} {play.token()}"
    play.begin(name, value)
    return value


@task
def again(name: str, given: list[str]) -> str:
    return _body(name, given)


@task(key="{name}")
def keyed(name: str, given: list[str]) -> str:
    return _body(name, given)


@task(idempotent=False, key="{name}")
def once(name: str, given: list[str]) -> str:
    return _body(name, given)


@task
async def async_again(name: str, given: list[str]) -> str:
    await asyncio.sleep(0)
    return _body(name, given)


@task(key="{name}")
async def async_keyed(name: str, given: list[str]) -> str:
    await asyncio.sleep(0)
    return _body(name, given)


@task(idempotent=False, key="{name}")
async def async_once(name: str, given: list[str]) -> str:
    await asyncio.sleep(0)
    return _body(name, given)


TASKS: dict[str, Callable[..., str]] = {"again": again, "keyed": keyed, "once": once}
ASYNC_TASKS: dict[str, Any] = {"again": async_again, "keyed": async_keyed, "once": async_once}


@workflow(run_id="{run_id}")
def sequence(run_id: str) -> list[str]:
    given: list[str] = []
    for name in NAMES:
        given = [*given, TASKS[name.split()[0]](name, given)]
        play.point()
    return given


@workflow(run_id="{run_id}")
async def async_sequence(run_id: str) -> list[str]:
    given: list[str] = []
    for name in NAMES:
        given = [*given, await ASYNC_TASKS[name.split()[0]](name, given)]
        play.point()
    return given


@dataclass(frozen=True)
class Stage:
    """Where a run is played."""

    folder: str
    run_id: str
    is_async: bool

    @property
    def ledger(self) -> str:
        return f"{self.folder}/{self.run_id}.ledger"


def perform(
    stage: Stage, kill_at: int = 0, when: str = "", commit: int = 0, blow: signal.Signals = signal.SIGKILL
) -> list[str]:
    """Call the workflow until it succeeds; killed (or interrupted) at a point of its code, before or after a commit."""
    global play
    play = Play(stage.ledger, "", kill_at, blow)
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # not while SQLAlchemy opens: it may hide the interruption
    store = KillingStore(f"{stage.folder}/durable.db", when, commit, blow)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return list(play.perform(store, stage.run_id, lambda: _call(stage)))


def _call(stage: Stage) -> list[str]:
    return asyncio.run(async_sequence(stage.run_id)) if stage.is_async else sequence(stage.run_id)


def faults(stage: Stage, result: list[str]) -> list[str]:
    """Name what must not happen, by the ledger."""
    ledger = Ledger.read(stage.ledger)
    found = ledger.faults()
    seen: list[str] = []
    for number, execution in enumerate(ledger.executions):
        for position, (_, name, _) in enumerate(execution.begun):
            if name in seen and (position or name != seen[-1]):
                found.append(f"{number}: {name!r} executed again, though {seen[-1]!r} had begun")
            seen.append(name)
        for place, joined in execution.acknowledged:
            given = joined.split(",") if joined else []
            if given != result[: len(given)]:
                found.append(f"{number}: {place} was given what the result does not begin with: {given}")
    found += [
        f"{name!r} executed {count} times" for name, count in Counter(seen).items() if "once" in name and count > 1
    ]
    last = {name: value for _, name, value in ledger.begun}
    if list(last) != NAMES or list(last.values()) != result:
        found.append(f"executed {last}, result {result}")
    return [f"{stage.run_id}, execution {fault}" for fault in found]
