"""Code that collects whatever its calls raise is told when its run has to end: what it makes of that is not its result."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Scene


@task(idempotent=False, key="{number}")
def pay(number: int) -> int:
    did(f"pay {number}")
    return number


@task(idempotent=False, key="{number}")
async def pay_async(number: int) -> int:
    did(f"pay {number}")
    return number


@task
def by_suppressing() -> list[int]:
    found = []
    for number in (1, 2):
        with contextlib.suppress(BaseException):
            found.append(pay(number))
    return found


@task
def by_submitting() -> list[int]:
    found = []
    for future in pay.map([1, 2], concurrency=1).futures:
        with contextlib.suppress(BaseException):
            found.append(future.result())
    return found


@task
def by_generating() -> Iterator[int]:
    for number in (1, 2):
        with contextlib.suppress(BaseException):
            yield pay(number)


@task
def by_failing() -> list[int]:
    try:
        return [pay(1), pay(2)]
    except BaseException as error:
        raise ValueError(error) from error


@task
async def by_gathering() -> list[int]:
    found = await asyncio.gather(pay_async(1), pay_async(2), return_exceptions=True)
    return [each for each in found if not isinstance(each, BaseException)]


@workflow(run_id="collected", max_workers=1)
def collected(how: str, below: bool) -> list[int]:
    called: Any = globals()[how]
    return list(called.submit().result() if below else called())


@workflow(run_id="gathered")
async def gathered(how: str, below: bool) -> list[int]:
    called: Any = globals()[how]
    found: list[int] = await (called.submit() if below else called())
    return found


def _decided(program: Any, *args: Any) -> Any:
    """Call a program until nothing is in doubt any more, deciding by what the ledger says."""
    doubts = 0
    while True:
        try:
            called = program(*args)
            return doubts, asyncio.run(_awaited(called)) if program is gathered else called
        except durable.StepInDoubtError as doubt:
            number, doubts = int(doubt.step_key[-1]), doubts + 1
            happened = durable.happened(number) if f"pay {number}" in effects() else durable.did_not_happen
            durable.get_run(doubt.run_id).resolve(doubt.step_key, happened)


async def _awaited(value: Any) -> Any:
    return await value


@pytest.mark.parametrize(
    ("program", "how", "below"),
    [
        (collected, "by_suppressing", False),
        (collected, "by_suppressing", True),
        (collected, "by_submitting", False),
        (collected, "by_generating", False),
        (collected, "by_failing", True),
        (gathered, "by_gathering", False),
        (gathered, "by_gathering", True),
    ],
)
def test_what_is_made_of_a_doubt_is_no_result(scene: Scene, program: Any, how: str, below: bool) -> None:
    """A payment in doubt stops the run inside a task that goes on whatever its calls raise: when it is decided, the task
    is executed again and pays the rest."""
    scene.kill("pay 1", program, how, below)
    doubts, value = scene.start(_decided, program, how, below).value
    assert doubts > 0
    assert value == [1, 2]
    assert sorted(scene.ledger) == ["pay 1", "pay 2"]


@task
def cancels_itself(how: str) -> int:
    run = durable.get_run("cancelled")
    did("cancel")
    if effects().count("cancel") == 1:
        run.cancel()
    if how == "ends":
        return 7
    with contextlib.suppress(BaseException):
        return pay(7)
    return -1


@workflow(run_id="cancelled")
def cancelled(how: str) -> int:
    return cancels_itself(how)


@pytest.mark.parametrize(("how", "again"), [("ends", ["cancel"]), ("goes on", ["cancel", "cancel", "pay 7"])])
def test_what_is_made_of_a_cancellation_is_no_result(scene: Scene, how: str, again: list[str]) -> None:
    """A run is cancelled inside a task: one that ends by itself has its result, one that calls others is executed again."""
    assert scene.start(cancelled, how).error == "RunCancelledError"
    assert scene.start(cancelled, how).value == 7
    assert scene.ledger == again
