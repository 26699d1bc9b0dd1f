"""What a step costs, as ratios to floors that are measured in the same run.

    python -m tests.benchmarks.steps [--quick] [--million] [--json FILE] [--folder FOLDER]

Floors and subjects alternate in rounds, each round in fresh processes and on fresh files; figures are medians over the
rounds. Commits alternate with bare ones every few dozen steps, so a disk that is slow for a while slows both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROOT = Path(__file__).parents[2]
_MUST_NOT_BE_IMPORTED = ("sqlalchemy", "dill", "tenacity", "filelock", "typer", "rich")
_SAME = 1.25  # costs a step that differ by no more are the same on a noisy machine
_MEGABYTE = 1e6
_TIMEOUT = 1800


@dataclass(frozen=True)
class Figure:
    """One line of the table; `target` is the most that is allowed, `aim` what would be good."""

    what: str
    value: float
    unit: str
    target: float | None = None
    aim: float | None = None
    spread: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "ok" if self.value <= self.target else "short"


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    steps: int
    rounds: int
    imports: int
    replays: tuple[int, ...]
    replay_rounds: int


_FULL = Scale(steps=1000, rounds=11, imports=15, replays=(1_000, 10_000, 100_000), replay_rounds=7)
_QUICK = Scale(steps=400, rounds=5, imports=10, replays=(1_000, 10_000), replay_rounds=3)


def measure(name: str, folder: Path, count: int) -> dict[str, float]:
    """Run one measure in a fresh process, with the store of the folder."""
    command = "from tests.benchmarks.subjects import main; main()"
    return _child(command, name, str(folder), str(count), db=str(folder / "runs.db"))


def _child(command: str, *arguments: str, db: str = "") -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    if db:
        environment["DURABLE_DB"] = db
    finished = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if finished.returncode:
        sys.exit(f"{arguments or command} failed:\n{finished.stderr}")
    found: dict[str, float] = json.loads(finished.stdout)
    return found


def figure_of(
    what: str, values: list[float], unit: str, *, target: float | None = None, aim: float | None = None
) -> Figure:
    quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Figure(what, statistics.median(values), unit, target, aim, (quarters[0], quarters[-1]))


def first_executions(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure the cost of a step whose body does nothing on fresh stores."""
    subjects = {"sync": (1.6, 1.4), "sync, idempotent=False": (2.6, None), "async": (1.8, 1.5)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for _ in range(scale.rounds):
        for name, rounds in found.items():
            with tempfile.TemporaryDirectory(dir=home) as folder:
                rounds.append(measure(name, Path(folder), scale.steps))
    floors = [one["floor"] * 1e6 for rounds in found.values() for one in rounds]
    yield figure_of("floor: raw sqlite3 insert and commit", floors, "µs")
    for name, (target, aim) in subjects.items():
        ratios = [one["ratio"] for one in found[name]]
        yield figure_of(f"first execution, {name}", ratios, "x floor", target=target, aim=aim)
        over = [one["over"] * 1e6 for one in found[name]]
        yield figure_of(f"first execution, {name}", over, "µs over floor")


def replays(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure the cost of a replayed step in runs of several lengths that are resumed in a new process."""
    medians = []
    for count in scale.replays:
        with tempfile.TemporaryDirectory(dir=home) as name:
            folder = Path(name)
            measure("record", folder, count)
            if count == min(scale.replays):
                _check_recording(folder, home, count)
            floors, subjects = [], []
            for _ in range(scale.replay_rounds):
                floors.append(measure("select", folder, count)["seconds"] / count * 1e6)
                subjects.append(measure("replay", folder, count)["seconds"] / count * 1e6)
        yield figure_of(f"floor: raw select in pages, {count:,} rows", floors, "µs a row")
        yield figure_of(f"replay, {count:,} steps", subjects, "µs a step", target=15, aim=10)
        medians.append(statistics.median(subjects))
    yield Figure("replay, dearest length over cheapest", max(medians) / min(medians), "x", target=_SAME)


def async_replays(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure the cost of a replayed step of async workflows."""
    count = min(scale.replays)
    for name in ("replay async", "replay gather"):
        with tempfile.TemporaryDirectory(dir=home) as folder:
            measure(name, Path(folder), count)
            found = [measure(name, Path(folder), count)["seconds"] / count * 1e6 for _ in range(scale.replay_rounds)]
        yield figure_of(f"{name}, {count:,} steps", found, "µs a step")


def _check_recording(folder: Path, home: Path, count: int) -> None:
    """Recording with merged transactions must leave the rows that single commits leave, but for times."""
    with tempfile.TemporaryDirectory(dir=home) as plain:
        measure("replay", Path(plain), count)  # executes: nothing is recorded there yet
        if _rows(Path(plain)) != _rows(folder):
            sys.exit("The long runs are not realistic: merged recording left other rows than the engine.")


def _rows(folder: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "runs.db") as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(steps)")]
        kept = ", ".join(f'"{name}"' for name in names if name not in ("started_at", "ended_at", "error"))
        found = database.execute(f"SELECT {kept}, error IS NULL FROM steps ORDER BY id").fetchall()
    database.close()
    return found


def million(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure cost and memory of a resumed run of a million steps."""
    count = 1_000_000
    with tempfile.TemporaryDirectory(dir=home) as long, tempfile.TemporaryDirectory(dir=home) as empty:
        measure("record", Path(empty), 0)
        measure("record", Path(long), count)
        rounds = min(3, scale.replay_rounds)
        without = [measure("replay", Path(empty), 0)["peak_bytes"] for _ in range(rounds)]
        found = [measure("replay", Path(long), count) for _ in range(rounds)]
    micros = [one["seconds"] / count * 1e6 for one in found]
    yield figure_of(f"replay, {count:,} steps", micros, "µs a step", target=15, aim=10)
    over = [(one["peak_bytes"] - statistics.median(without)) / _MEGABYTE for one in found]
    yield figure_of(f"replay, {count:,} steps: peak memory over an empty run", over, "MB", target=200)


def gathers(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure the cost of a task in a gather of 1,000 that do nothing."""
    plain, subject = _beside_plain("gather", 1000, scale, home)
    yield figure_of("floor: plain asyncio.gather of 1,000", plain, "µs a task")
    yield figure_of("gather of 1,000", subject, "µs a task", target=90, aim=60)


def maps(scale: Scale, home: Path) -> Iterator[Figure]:
    """Measure the cost of a task in a map over 10,000 items by 8 threads that do nothing."""
    plain, subject = _beside_plain("map", 10_000, scale, home)
    yield figure_of("floor: ThreadPoolExecutor(8).map of 10,000", plain, "µs a task")
    yield figure_of("map of 10,000, 8 threads", subject, "µs a task", target=60)


def _beside_plain(name: str, count: int, scale: Scale, home: Path) -> tuple[list[float], list[float]]:
    plain, subject = [], []
    for _ in range(scale.rounds):
        with tempfile.TemporaryDirectory(dir=home) as folder:
            found = measure(name, Path(folder), count)
        plain.append(found["plain_seconds"] / count * 1e6)
        subject.append(found["seconds"] / count * 1e6)
    return plain, subject


def imports(scale: Scale) -> Iterator[Figure]:
    """Measure the import in fresh interpreters, and what it must not bring along."""
    subject = "from durable import task, workflow"
    millis: dict[str, list[float]] = {"import wrapt": [], "import asyncio": [], subject: []}
    unwanted: set[str] = set()
    for _ in range(scale.imports):
        for statement, found in millis.items():
            child = _child(
                f"import time; begun = time.perf_counter(); {statement}; seconds = time.perf_counter() - begun\n"
                f"import json, sys; print(json.dumps({{'seconds': seconds}} | "
                f"{{name: 1 for name in {_MUST_NOT_BE_IMPORTED} if name in sys.modules}}))"
            )
            found.append(child.pop("seconds") * 1e3)
            if statement == subject:
                unwanted |= set(child)
    for statement, found in millis.items():
        is_subject = statement == subject
        yield figure_of(
            statement if is_subject else f"floor: {statement}", found, "ms", target=150 if is_subject else None
        )
    what = f"slow packages imported with it{''.join(f' {name}' for name in sorted(unwanted))}"
    yield Figure(what, len(unwanted), "", target=0)


def _is_in_memory(folder: Path) -> bool:
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    around = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    return bool(around) and max(around, key=lambda mount: len(mount[0]))[1] in ("tmpfs", "ramfs")


def choose_folder(given: str | None) -> Path:
    candidates = [given] if given else [tempfile.gettempdir(), "/var/tmp", str(Path.cwd())]
    for candidate in candidates:
        if Path(candidate).is_dir() and not _is_in_memory(Path(candidate)):
            return Path(candidate)
    sys.exit(f"A flush costs nothing in memory: name a folder on a disk with --folder, not {', '.join(candidates)}.")


def line_of(figure: Figure) -> str:
    bounds = [f"{bound:g}" if bound is not None else "" for bound in (figure.target, figure.aim)]
    spread = f"{figure.spread[0]:.2f}-{figure.spread[1]:.2f}" if figure.spread else ""
    return (
        f"{figure.what:<58} {figure.value:>9.2f} {figure.unit:<14} {spread:>16} {bounds[0]:>7} {bounds[1]:>6}  "
        f"{figure.verdict}"
    ).rstrip()


def report(figures: Iterable[Figure], file: str | None) -> None:
    """Print a table of figures as they are measured, and then the same as JSON, or write that to a file."""
    print(f"{'':<58} {'median':>9} {'':<14} {'quarters':>16} {'target':>7} {'aim':>6}")
    measured = []
    for figure in figures:
        print(line_of(figure), flush=True)
        measured.append(asdict(figure) | {"verdict": figure.verdict})
    machine = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "processors": os.cpu_count()}
    text = json.dumps({"machine": machine, "figures": measured}, indent=1, ensure_ascii=False)
    if file:
        Path(file).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def main() -> None:
    """Measure, print the table as it grows, and then the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and no long runs")
    parser.add_argument("--million", action="store_true", help="also resume a run of 1,000,000 steps")
    parser.add_argument("--only", choices=("steps", "replay", "gather", "map", "import"), help="one group of figures")
    parser.add_argument("--json", metavar="FILE", help="write the figures there instead of printing them as JSON")
    parser.add_argument("--folder", help="where the stores go; on a disk")
    options = parser.parse_args()
    scale, home = _QUICK if options.quick else _FULL, choose_folder(options.folder)
    groups = {
        "steps": [first_executions(scale, home)],
        "replay": [replays(scale, home), async_replays(scale, home)],
        "gather": [gathers(scale, home)],
        "map": [maps(scale, home)],
        "import": [imports(scale)],
    }
    chosen = groups[options.only] if options.only else [group for several in groups.values() for group in several]
    if options.million:
        chosen.append(million(scale, home))
    report(chain.from_iterable(chosen), options.json)


if __name__ == "__main__":
    main()
