"""Kernels that are killed in the middle of a cell, restarted, and all cells run again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.kernels import KILLED, Kernel, Kernels, Shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 20
PAYMENTS = 300
MOST_AT_ONCE = 12  # payments of one kernel, so that there are some left for the last one that is killed
CELLS = (
    "%load_ext durable",
    """
import os, signal, threading, time
from durable import task

written = 0
strike_at, delay = -1, 0

def strike():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

def write(line):
    global written
    with open("ledger", "a") as ledger:
        ledger.write(line + "\\n")
        ledger.flush()
        os.fsync(ledger.fileno())
    written += 1
    if written == strike_at:
        threading.Thread(target=strike).start()

@task(idempotent=False, key="{number}")
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


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as opened:
        yield opened


def _ledger(folder: Path) -> list[str]:
    ledger = folder / "ledger"
    return ledger.read_text().splitlines() if ledger.exists() else []


def _decide(kernel: Kernel, message: str, folder: Path) -> Shown:
    """Decide a doubt as the receiver knows it, whose ledger it is, and run all cells again."""
    step = message.split("'")[1]
    number = step.removeprefix("pay:")
    verdict = f"--happened {number}" if f"pay {number}" in _ledger(folder) else "--did-not-happen"
    return kernel.run(f"%durable resolve {step} {verdict}", *CELLS[2:])


@pytest.mark.slow
def test_no_paid_call_is_repeated(kernels: Kernels, tmp_path: Path) -> None:
    """A kernel is killed 20 times at random in cells that pay; run again, each payment happens once, doubts being resolved."""
    chance = random.Random(7)
    doubts = 0
    for restart in range(KILLS + 1):
        kernel = kernels.open(tmp_path)
        count = chance.randint(1, MOST_AT_ONCE) if restart < KILLS else -1
        blow = f"strike_at, delay = {count}, {chance.choice((0, chance.uniform(0, 0.004)))}"
        shown = kernel.run(*CELLS[:2], blow, *CELLS[2:])
        while shown.error == "StepInDoubtError":
            doubts += 1
            shown = _decide(kernel, shown.message, tmp_path)
        assert shown.error == (KILLED if restart < KILLS else "")
        kernel.kill()
    assert doubts
    assert shown.value == str(sum(range(PAYMENTS)))
    assert sorted(_ledger(tmp_path)) == sorted(f"pay {number}" for number in range(PAYMENTS))
