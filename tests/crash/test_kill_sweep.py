"""Wherever a run is killed, and wherever its resumption is killed, it ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import time
from itertools import count

import pytest

from tests.crash.sequences import COUNT, Stage, faults, perform
from tests.crash.zygote import KILLED, Zygote

pytestmark = pytest.mark.slow

POINTS = 3 * COUNT  # before and after the effect of every body, and behind the call
KILLS = 75  # at random moments, in each of four tests
UNDISTURBED = 5  # runs that say how long one lasts
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def _end(zygote: Zygote, stage: Stage) -> list[str]:
    """Let a run end, and name what went wrong in all its executions."""
    return faults(stage, zygote.run(perform, stage))


@both_kinds
def test_killed_at_every_boundary_of_every_body(zygote: Zygote, memory_folder: str, is_async: bool) -> None:
    """Killed before and after every effect and behind every call, every other time twice: nothing that finished is
    repeated, and every body is given what was given before."""
    found: list[str] = []
    for point in range(1, POINTS + 1):
        stage = Stage(memory_folder, f"point-{point}", is_async)
        assert zygote.run(perform, stage, point) == KILLED
        if point % 2:
            zygote.run(perform, stage, random.Random(point).randint(1, POINTS))
        found += _end(zygote, stage)
    assert found == []


@both_kinds
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_commit(zygote: Zygote, memory_folder: str, when: str, is_async: bool) -> None:
    """Killed before or after every commit, and again at a commit of the resumption: the same."""
    found: list[str] = []
    for number in count(1):
        stage = Stage(memory_folder, f"commit-{number}", is_async)
        if zygote.run(perform, stage, 0, when, number) != KILLED:
            break
        seed = random.Random(number)
        zygote.run(perform, stage, 0, seed.choice(["before", "after"]), seed.randint(1, 6))
        found += _end(zygote, stage)
    assert number > COUNT
    assert found == []


@both_kinds
@pytest.mark.parametrize("half", [1, 2])
def test_killed_at_any_moment(zygote: Zygote, memory_folder: str, half: int, is_async: bool) -> None:
    """Killed at a random moment, from the opening of the store to the end, up to four times in a row: the same."""
    seed = random.Random(half)
    found: list[str] = []
    begun = time.monotonic()
    for number in range(UNDISTURBED):
        found += _end(zygote, Stage(memory_folder, f"undisturbed-{number}", is_async))
    lasts = (time.monotonic() - begun) / UNDISTURBED
    kills = 0
    for number in count():
        if kills >= KILLS:
            break
        stage = Stage(memory_folder, f"moment-{number}", is_async)
        for _ in range(seed.randint(1, 4)):
            begun = time.monotonic()
            if zygote.run(perform, stage, blow=(seed.uniform(0, lasts), signal.SIGKILL)) != KILLED:
                lasts = time.monotonic() - begun  # the machine may be less busy than it was
                break
            kills += 1
        found += _end(zygote, stage)
    assert found == []
