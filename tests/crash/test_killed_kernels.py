"""Kernels that are killed in the middle of a cell, restarted, and all cells run again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.kernels import KILLED, Kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 20
PAYMENTS = 300
CELLS = (
    "%load_ext durable",
    """
import os, signal, threading, time
from durable import task

def write(line):
    with open("ledger", "a") as ledger:
        ledger.write(line + "\\n")
        ledger.flush()
        os.fsync(ledger.fileno())

@task(idempotent=False)
def pay(number):
    write(f"pay {number}")
    return number

@task
def fetch(number):
    return [number] * number
""",
    "pages = [len(fetch(number)) for number in range(20)]",
    f"paid = [pay(number) for number in range({PAYMENTS // 2})]",
    f"""%%durable rest
more = sum(pay(number) for number in range({PAYMENTS // 2}, {PAYMENTS}))
""",
    "sum(paid) + more",
)
BLOW = """
def strike():
    time.sleep({delay})
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=strike, daemon=True).start()
"""


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as opened:
        yield opened


def _ledger(folder: Path) -> list[str]:
    ledger = folder / "ledger"
    return ledger.read_text().splitlines() if ledger.exists() else []


def test_no_paid_call_is_repeated(kernels: Kernels, tmp_path: Path) -> None:
    """A kernel is killed 20 times at random in cells that pay; run again, each payment happens once, doubts being resolved."""
    chance = random.Random(7)
    kills = 0
    while kills < KILLS:
        kernel = kernels.open(tmp_path)
        assert not kernel.run(*CELLS[:2]).error
        kernel.run(BLOW.format(delay=chance.uniform(0, 0.05)))
        shown = kernel.run(*CELLS[2:])
        while shown.error == "StepInDoubtError":
            step = shown.message.split("'")[1]
            number = _ledger(tmp_path)[-1].split()[1]
            happened = kernel.run(f"%durable resolve {step} --happened {number}")
            assert happened.error in ("", KILLED)
            shown = kernel.run(*CELLS[2:])
        kills += shown.error == KILLED
        kernel.kill()
    kernel = kernels.open(tmp_path)
    shown = kernel.run(*CELLS)
    print(shown)
    assert shown.value == str(sum(range(PAYMENTS)))
    assert sorted(_ledger(tmp_path)) == sorted(f"pay {number}" for number in range(PAYMENTS))
