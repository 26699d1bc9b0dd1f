from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.arrival_programs import POINTS, SHAPES, Stage, is_unique, perform
from tests.crash.plays import Ledger
from tests.crash.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("SEEDS", "300"))
TOGETHER = 25  # killed runs that one process lets end
DRIFTED = 0.01  # of the runs: the order of arrival is kept as far as that is cheap
_PROGRAMS = "tests.crash.arrival_programs"
_PRELOADED = (_PROGRAMS, "anyio._backends._asyncio")
_ROOT = Path(__file__).parents[2]


def _disturb(zygote: Zygote, stages: list[Stage], undisturbed: list[str]) -> list[tuple[list[str], bool]]:
    """Kill runs once or twice, let them end in another process, and name what went wrong and whether one drifted."""
    for stage in stages:
        seed = random.Random(stage.seed)
        for number in range(1 + (stage.seed % 4 == 0)):
            zygote.run(perform, [stage], number, seed.randint(1, POINTS[stage.shape]))
    results = zygote.run(perform, stages, 9, 0)
    return [_judge(stage, result, undisturbed) for stage, result in zip(stages, results, strict=True)]


def _judge(stage: Stage, result: list[str], undisturbed: list[str]) -> tuple[list[str], bool]:
    ledger = Ledger.read(stage.ledger)
    os.unlink(stage.ledger)
    faults = [f"{stage.shape}, seed {stage.seed}, execution {fault}" for fault in ledger.faults(unique=is_unique)]
    if result != undisturbed:
        faults.append(f"{stage.shape}, seed {stage.seed}: {result}")
    return faults, ledger.drifted


@pytest.fixture(scope="module")
def zygotes() -> Iterator[tuple[Zygote, Zygote]]:
    """Two, so that two runs are played at the same time."""
    with Zygote(*_PRELOADED) as one, Zygote(*_PRELOADED) as other:
        yield one, other


@pytest.mark.parametrize("is_paid", [False, True], ids=["idempotent", "paid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_order_of_arrival_makes_a_finished_step_look_new(
    shape: str, is_paid: bool, zygotes: tuple[Zygote, Zygote], memory_folder: str
) -> None:
    """Killed anywhere, resumed with other delays: nothing finished is repeated, every branch keeps what it was given,
    and only what was in flight is in doubt. Half of the runs take the same course on any machine: few of them drift."""
    [undisturbed] = zygotes[0].run(perform, [Stage(memory_folder, shape, is_paid, -1)], 0, 0)

    def play(zygote: Zygote, seeds: range) -> list[tuple[list[str], bool]]:
        folder = Path(memory_folder, str(seeds.start))  # a store of their own, where nobody else writes
        folder.mkdir()
        stages = [Stage(str(folder), shape, is_paid, seed, is_steady=seed % 2 == 0) for seed in seeds]
        return [
            outcome
            for start in range(0, len(stages), TOGETHER)
            for outcome in _disturb(zygote, stages[start : start + TOGETHER], undisturbed)
        ]

    with ThreadPoolExecutor(2) as pool:
        steady, timed = pool.map(play, zygotes, (range(0, SEEDS, 2), range(1, SEEDS, 2)))
    assert [fault for faults, _ in (*steady, *timed) for fault in faults] == []
    assert sum(drifted for _, drifted in steady) <= DRIFTED * len(steady)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_process_of_its_own_resumes_what_another_left(shape: str, memory_folder: str) -> None:
    """A run that a whole interpreter left by SIGKILL is resumed by another interpreter."""
    program = (
        f"from {_PROGRAMS} import *; import sys; "
        f"perform([Stage({memory_folder!r}, {shape!r}, False, 0)], int(sys.argv[1]), int(sys.argv[2]))"
    )

    def start(number: int, kill_at: int) -> int:
        arguments = [sys.executable, "-c", program, str(number), str(kill_at)]
        return subprocess.run(arguments, cwd=_ROOT, check=False, stderr=subprocess.DEVNULL).returncode

    assert start(0, POINTS[shape] // 3) == -signal.SIGKILL
    assert start(1, 0) == 0
    assert Ledger.read(Stage(memory_folder, shape, False, 0).ledger).faults(unique=is_unique) == []
