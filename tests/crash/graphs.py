"""Graphs of a thousand submitted tasks, some of which fail at random; each node depends on a few of those before it.

Each body writes what it gives to the ledger, and says so if more bodies are under execution than are allowed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import durable
from durable import task, workflow
from tests.crash.plays import Ledger, Play

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIMIT = 8
_FAILURES = 0.01  # of all executions
_ENOUGH = 200
_EXPECTED = (ExceptionGroup, durable.UpstreamFailedError, ArithmeticError)

play: Play
_lock = threading.Lock()
_now = 0


class _Executing:
    """Counts the bodies that are under execution."""

    def __enter__(self) -> None:
        global _now
        with _lock:
            _now += 1
            if _now > LIMIT:
                play.write("warning", f"{_now} bodies at once")

    def __exit__(self, *_: object) -> None:
        global _now
        with _lock:
            _now -= 1


def _body(number: int, needs: tuple[str, ...]) -> str:
    value = _value(number, needs)
    play.begin(f"node {number}", value)
    if random.random() < _FAILURES:
        raise ArithmeticError(number)
    return value


def _value(number: int, needs: Iterable[str]) -> str:
    return str(number + max(map(int, needs), default=0))  # text, as the ledger has it that doubts are decided by


@task
def node(number: int, *needs: str) -> str:
    with _Executing():
        return _body(number, needs)


@task
async def async_node(number: int, *needs: str) -> str:
    with _Executing():
        await asyncio.sleep(random.choice((0, 0, 0.0005)))
        return _body(number, needs)


def _needs(number: int) -> Iterator[int]:
    seed = random.Random(number)
    return iter(sorted({seed.randrange(number) for _ in range(seed.choice((0, 0, 1, 2))) if number}))


def expected(count: int) -> list[str]:
    values: list[str] = []
    for number in range(count):
        values.append(_value(number, (values[need] for need in _needs(number))))
    return values


@workflow(run_id="{run_id}", max_workers=LIMIT)
def graph(run_id: str, count: int) -> list[str]:
    futures: list[durable.TaskFuture[str]] = []
    for number in range(count):
        futures.append(node.submit(number, *(futures[need] for need in _needs(number))))
    return [future.result() for future in futures]


@workflow(run_id="{run_id}", max_workers=LIMIT)
async def async_graph(run_id: str, count: int) -> list[str]:
    futures: list[Any] = []
    for number in range(count):
        futures.append(async_node.submit(number, *(futures[need] for need in _needs(number))))
    return [await future for future in futures]


@dataclass(frozen=True)
class Stage:
    """Where a graph is executed."""

    folder: str
    run_id: str
    count: int
    is_async: bool

    @property
    def ledger(self) -> str:
        return f"{self.folder}/{self.run_id}.ledger"


def perform(stage: Stage) -> list[str]:
    """Call the workflow until it succeeds."""
    global play
    play = Play(stage.ledger, "", 0)
    return list(play.perform(f"{stage.folder}/durable.db", stage.run_id, lambda: _call(stage)))


def _call(stage: Stage) -> list[str]:
    for _ in range(_ENOUGH):
        try:
            if stage.is_async:
                return asyncio.run(async_graph(stage.run_id, stage.count))
            return graph(stage.run_id, stage.count)
        except _EXPECTED:
            play._note_records(stage.run_id)
    raise AssertionError(f"{stage.run_id} does not end")


def faults(stage: Stage, result: list[str]) -> list[str]:
    """Name what must not happen, by the ledger."""
    ledger = Ledger.read(stage.ledger)
    found = ledger.faults()
    if ledger.drifted:
        found.append("a call was taken for one whose inputs changed")
    found += [
        f"{place}: {was} instead of {right}"
        for place, (was, right) in enumerate(zip(result, expected(stage.count), strict=True))
        if was != right
    ]
    return [f"{stage.run_id}, execution {fault}" for fault in found]
