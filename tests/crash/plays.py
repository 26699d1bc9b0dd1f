"""Executions of one run, each in a process that may be killed, with a ledger of everything that its tasks did.

A body writes `begin` with its step key, what it is called and what it gives; code that got a value writes `ack`. Every
execution begins with what is recorded by then, so the ledger alone tells what was repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import durable
from durable.steps.verdicts import INTERRUPTIONS_ALLOWED

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.stores import Store

LONGEST_PAUSE = 0.002  # seconds
_ENOUGH_EXECUTIONS = 100
_EXPECTED = ("Step ", "Run ")  # executed again, or another order of arrival


class Play:
    """One process's part: its ledger, its random delays and the point where it is killed (0: nowhere), or interrupted."""

    def __init__(self, path: str, seed: str, kill_at: int, blow: signal.Signals = signal.SIGKILL) -> None:
        self.path = path
        self._ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._random = random.Random(seed)
        self._kill_at = kill_at
        self._blow = blow
        self.points = 0
        self.tokens = 0

    def write(self, *words: object) -> None:
        os.write(self._ledger, ("\t".join(map(str, words)) + "\n").encode())
        os.fsync(self._ledger)

    def begin(self, name: str, value: object) -> None:
        self.point()
        self.write("begin", durable.current().step_key, name, value)
        self.point()

    def token(self) -> str:
        self.tokens += 1
        return f"token-{os.getpid()}-{self.tokens}"

    def point(self) -> None:
        self.points += 1
        if self.points == self._kill_at:
            os.kill(os.getpid(), self._blow)

    async def pause(self) -> None:
        """Take nothing, some passes of the loop, or some time."""
        self.point()
        for _ in range(self._random.choice((0, 0, 1, 5))):
            await asyncio.sleep(0)
        if self._random.random() < 0.5:  # one half
            await asyncio.sleep(self._random.random() * LONGEST_PAUSE)
        self.point()

    def perform(self, db: str | Store, run_id: str, call: Callable[[], Any]) -> Any:
        """Call a workflow until it ends, deciding doubts by the ledger."""
        durable.configure(db)
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: self.write("warning", str(message).replace("\n", " "))
        for _ in range(_ENOUGH_EXECUTIONS):
            try:
                self._note_records(run_id)
                return call()
            except durable.RunBlockedError as blocked:
                self._decide(run_id, blocked)
            except (KeyboardInterrupt, asyncio.CancelledError):
                # asyncio.run forgets a Ctrl-C that comes while it begins, but not that it has cancelled the task for it
                self.write("interrupted")
        raise AssertionError(f"{run_id} does not end")

    def _note_records(self, run_id: str) -> None:
        self.write("execution")
        with contextlib.suppress(durable.NotFoundError):
            for step in durable.get_run(run_id).steps:
                self.write("record", step.status, step.key)

    def _decide(self, run_id: str, blocked: durable.RunBlockedError) -> None:
        self.write("doubt" if isinstance(blocked, durable.StepInDoubtError) else "loop", blocked.step_key)
        given = [value for key, _, value in Ledger.read(self.path).begun if key == blocked.step_key]
        decision = durable.happened(given[-1]) if given else durable.did_not_happen
        durable.get_run(run_id).resolve(blocked.step_key, decision)


@dataclass
class Execution:
    """What the ledger says about one execution; `records` is what was stored before it began."""

    records: dict[str, str] = field(default_factory=dict)
    begun: list[tuple[str, str, str]] = field(default_factory=list)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)

    @property
    def finished(self) -> set[str]:
        return {key for key, status in self.records.items() if status == "succeeded"}


@dataclass
class Ledger:
    """All executions of one run."""

    executions: list[Execution]

    @property
    def begun(self) -> list[tuple[str, str, str]]:
        return [line for execution in self.executions for line in execution.begun]

    @property
    def drifted(self) -> bool:
        """Whether a call that follows from another order of arrival met an older one in its place."""
        return any("which is not recorded" in text for execution in self.executions for text in execution.warnings)

    @staticmethod
    def read(path: str) -> Ledger:
        executions: list[Execution] = []
        with open(path, encoding="utf-8") as ledger:
            for line in ledger:
                kind, *words = line.rstrip("\n").split("\t")
                if kind == "execution":
                    executions.append(Execution())
                elif kind == "record":
                    executions[-1].records[words[1]] = words[0]
                elif kind == "begin":
                    executions[-1].begun.append((words[0], words[1], words[2]))
                elif kind == "ack":
                    executions[-1].acknowledged.append((words[0], words[1]))
                elif kind == "warning":
                    executions[-1].warnings.append(words[0])
                elif kind == "doubt":
                    executions[-1].doubts.append(words[0])
                elif kind == "loop":
                    executions[-1].loops.append(words[0])
        return Ledger(executions)

    def faults(self, *, unique: Callable[[str], bool] = bool) -> list[str]:
        """Name what must not happen; names that are `unique` are called once in the run."""
        found: list[str] = []
        names: dict[str, str] = {}
        last: dict[str, str] = {}  # that each key gave
        given: dict[str, str] = {}  # to each place in the code
        for number, execution in enumerate(self.executions):
            finished = execution.finished
            over = {names[key] for key in finished if key in names}
            for key, name, _ in execution.begun:
                if key in finished:
                    found.append(f"{number}: {name!r} executed again under {key}")
                elif name in over and unique(name):
                    found.append(f"{number}: {name!r} executed again under the new key {key}")
            stored = {last[key] for key in finished if key in last}
            for place, value in execution.acknowledged:
                if place in given and given[place] in stored and given[place] != value:
                    found.append(f"{number}: {place} was given {given[place]}, then {value}")
                given[place] = value
            names.update({key: name for key, name, _ in execution.begun})
            last.update({key: value for key, _, value in execution.begun})
            for key in execution.doubts:
                if execution.records.get(key) not in {"started", "cancelled", "failed"}:
                    found.append(f"{number}: doubt about {key}, recorded as {execution.records.get(key)}")
            if execution.loops and number < INTERRUPTIONS_ALLOWED:
                found.append(f"{number}: blocked because of {execution.loops}")
            found += [f"{number}: warned {text}" for text in execution.warnings if not text.startswith(_EXPECTED)]
        return found
