"""Wherever Ctrl-C meets a run, the same process can go on with it at once, and it ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import time
from itertools import count

import pytest

from tests.crash.plays import Ledger
from tests.crash.sequences import COUNT, Stage, perform
from tests.crash.sequences import faults as all_faults
from tests.crash.zygote import INTERRUPTED, Zygote

pytestmark = pytest.mark.slow

POINTS = 3 * COUNT  # before and after the effect of every body, and behind the call
INTERRUPTIONS = 100  # at random moments, in each of two tests
UNDISTURBED = 5  # runs that say how long one lasts
OF_PYTHON = (  # warnings about what Python's own functions left when they were interrupted
    "warned unclosed",  # a source file that was being read, or a loop that was being made
    "warned coroutine 'async_sequence' was never awaited",  # asyncio.run had not yet taken it
    "warned coroutine 'BaseEventLoop.shutdown_",  # asyncio.run was closing its loop
)
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def faults(stage: Stage, result: list[str]) -> list[str]:
    return [fault for fault in all_faults(stage, result) if not any(text in fault for text in OF_PYTHON)]


@both_kinds
def test_interrupted_at_every_boundary_of_every_body(zygote: Zygote, memory_folder: str, is_async: bool) -> None:
    """Ctrl-C before and after every effect and behind every call: it leaves the workflow, and the same call in the same
    process goes on; nothing that finished is repeated."""
    found: list[str] = []
    for point in range(1, POINTS + 1):
        stage = Stage(memory_folder, f"point-{point}", is_async)
        found += faults(stage, zygote.run(perform, stage, point, "", 0, signal.SIGINT))
        assert len(Ledger.read(stage.ledger).executions) > 1
    assert found == []


@both_kinds
@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupted_at_every_commit(zygote: Zygote, memory_folder: str, when: str, is_async: bool) -> None:
    """Ctrl-C before or after every commit: the same."""
    found: list[str] = []
    for number in count(1):
        stage = Stage(memory_folder, f"commit-{number}", is_async)
        result = zygote.run(perform, stage, 0, when, number, signal.SIGINT)
        found += faults(stage, result)
        if number > 2 * COUNT:
            break
    assert found == []


@both_kinds
def test_interrupted_at_any_moment(zygote: Zygote, memory_folder: str, is_async: bool) -> None:
    """Ctrl-C at a random moment, from the first look at the run to the end: the same, if need be in another process."""
    seed = random.Random(1)
    found: list[str] = []
    begun = time.monotonic()
    for number in range(UNDISTURBED):
        stage = Stage(memory_folder, f"undisturbed-{number}", is_async)
        found += faults(stage, zygote.run(perform, stage))
    lasts = (time.monotonic() - begun) / UNDISTURBED
    interruptions = 0
    for number in count():
        if interruptions >= INTERRUPTIONS:
            break
        stage = Stage(memory_folder, f"moment-{number}", is_async)
        begun = time.monotonic()
        result = zygote.run(perform, stage, blow=(seed.uniform(0, lasts), signal.SIGINT))
        if result == INTERRUPTED:  # while it looked at what is recorded
            result = zygote.run(perform, stage)
            interruptions += 1
        elif len(Ledger.read(stage.ledger).executions) > 1:
            interruptions += 1
        else:
            lasts = time.monotonic() - begun  # the machine may be less busy than it was
        found += faults(stage, result)
    assert found == []
