"""What `durable run` adds to the start of a script, beside plain Python on the same machine.

    python -m tests.benchmarks.scripts [--rounds N]

Plain and durable starts of an empty script alternate, each in a fresh process; figures are medians. Wall time counts what
else the machine does, CPU time does not. The store exists, as it does from the second start on; what making it costs is
measured apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
_TARGET = 250  # ms
_STARTS = {
    "durable run script.py": ("-m", "durable", "run", "empty.py"),
    "the same with --task": ("-m", "durable", "run", "--task", "work", "empty.py"),
    "the same with --patch smtplib": ("-m", "durable", "run", "--patch", "smtplib", "empty.py"),
    "import durable.auto": ("automatic.py",),
}


class Start(NamedTuple):
    """What one start takes, from before the process is made to after its end, in ms."""

    wall: float
    cpu: float


def measure(folder: Path, words: tuple[str, ...], *arguments: str) -> Start:
    """Start Python once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DURABLE_", "PYTHON"))}
    environment["PYTHONPATH"] = str(_ROOT)
    before, begun = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, *words, *arguments], cwd=folder, env=environment, check=True, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Start(wall * 1000, cpu * 1000)


def median(starts: list[Start]) -> Start:
    """Give the medians of both times."""
    return Start(*(statistics.median(times) for times in zip(*starts, strict=True)))


def main() -> None:
    """Print what each way to start adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp())
    (folder / ".durable").mkdir(mode=0o700)
    (folder / "empty.py").write_text("def work(): ...\n")
    (folder / "automatic.py").write_text("import durable.auto\n")
    made = measure(folder, _STARTS["durable run script.py"], "0")
    plain: list[Start] = []
    ours: dict[str, list[Start]] = {name: [] for name in _STARTS}
    for number in range(rounds):
        for name, words in _STARTS.items():
            plain.append(measure(folder, ("empty.py",)))
            ours[name].append(measure(folder, words, str(number + 1)))
    floor = median(plain)
    print(f"{'ms':<40}{'wall':>8}{'CPU':>8}\n{'plain python script.py':<40}{floor.wall:8.0f}{floor.cpu:8.0f}")
    for name, starts in {**ours, "the first start, which makes the store": [made]}.items():
        wall, cpu = (taken - base for taken, base in zip(median(starts), floor, strict=True))
        verdict = "" if starts == [made] else "ok" if wall <= _TARGET else f"short of {_TARGET}"
        print(f"{name:<40}{wall:+8.0f}{cpu:+8.0f}   {verdict}")


if __name__ == "__main__":
    main()
