"""Whatever system call of the store kills the process or fails, nothing acknowledged is lost and nothing runs twice."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.runs import sessions
from durable.stores.sql import connections
from tests.crash.effects import did
from tests.crash.faults import inject
from tests.crash.orders import COUNT, check_once, note, orders, orders_until_paid, pay, recorded, settle
from tests.crash.zygote import KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Scene

pytestmark = pytest.mark.usefixtures("syscalls")
_STRIDE = 3  # between two writes where the program fails: a commit has about five
_FEWEST = 0  # hits below which a test tests nothing
_WRITERS = 2  # threads: the caller's and the background writer; each counts its calls by itself and may meet the fault
_ENOUGH_MISSES = 3  # SQLite swallows some failures; after so many in a row the program was through
_FAILURES = ["fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=ENOSPC"]


def _fail(rule: str, *suffixes: str) -> None:
    inject(rule, on=[Path(os.environ["DURABLE_DB"] + suffix) for suffix in suffixes or ("-wal",)])


def orders_under(rule: str) -> list[str]:
    _fail(rule)
    return orders()


def orders_then_closing(rule: str) -> list[str]:
    receipts = orders()
    _fail(rule, "")
    sessions.current().store.close()
    return receipts


class Sweep:
    """One play a point: at the first call of a kind, at the fourth, and so on, until the program is through before it."""

    def __init__(self, scene: Scene, rule: str) -> None:
        self._scene = scene
        self._rule = rule
        self.hits = 0
        self._misses = 0

    def __iter__(self) -> Iterator[str]:
        for number in itertools.count(1, 1 if self._rule.startswith("fdatasync") else _STRIDE):
            self._scene.db = self._scene.folder / str(number) / "durable.db"
            self._scene.forget()
            yield f"{self._rule}:when={number}"
            if self._misses == _ENOUGH_MISSES:
                break
        assert self.hits > _FEWEST

    def note(self, *, hit: bool) -> None:
        """Say whether the fault was met."""
        self.hits += hit
        self._misses = 0 if hit else self._misses + 1


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_killed_while_recording(scene: Scene, call: str) -> None:
    """Killed at the n-th write or flush of the log, for every n: each payment is made once."""
    sweep = Sweep(scene, f"{call}:signal=SIGKILL")
    for rule in sweep:
        sweep.note(hit=scene.risk(orders_under, rule) == KILLED)
        check_once(scene, scene.start(settle))


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_killed_while_closing(scene: Scene, call: str) -> None:
    """Killed at the n-th write or flush of the database itself, when the log is carried over: the result is kept."""
    sweep = Sweep(scene, f"{call}:signal=SIGKILL")
    for rule in sweep:
        sweep.note(hit=scene.risk(orders_then_closing, rule) == KILLED)
        ledger = scene.ledger
        check_once(scene, scene.start(settle))
        assert scene.ledger == ledger


def orders_carrying_over(rule: str) -> list[str]:
    connections.LONG = 3  # type: ignore[attr-defined]  # imported there
    durable.list_runs()
    _fail(rule, "", "-wal")
    return orders()


def test_killed_while_carrying_over(scene: Scene) -> None:
    """Killed at the n-th write of log and database, where the log is carried over between steps: as if it were not."""
    sweep = Sweep(scene, "pwrite64:signal=SIGKILL")
    for rule in sweep:
        sweep.note(hit=scene.risk(orders_carrying_over, rule) == KILLED)
        check_once(scene, scene.start(settle))


def test_failing_to_carry_over(scene: Scene) -> None:
    """Where the log cannot be carried over nothing is lost, and the run goes on once it can."""
    sweep = Sweep(scene, "fdatasync:error=EIO")
    for rule in sweep:
        outcome = scene.start(orders_carrying_over, rule)
        assert outcome.error in ("StoreFailedError", "StoreUnusableError", "")
        sweep.note(hit=outcome.error != "")
        check_once(scene, scene.start(settle))


@workflow
def stubborn() -> None:
    for number in range(1, COUNT + 1):
        try:
            receipt, _ = pay(number)
            did(f"got {number} {receipt}")
            note(number, receipt)
        except BaseException:
            did("stopped")


def stubborn_under(rule: str) -> None:
    _fail(rule)
    stubborn()


@pytest.mark.parametrize("failure", _FAILURES)
def test_failed_write(scene: Scene, failure: str) -> None:
    """After a write that failed no body starts, whatever the code swallows, and the error names what is not recorded."""
    sweep = Sweep(scene, failure)
    for rule in sweep:
        outcome = scene.start(stubborn_under, rule)
        sweep.note(hit=outcome.error != "")
        if not outcome.error:
            continue
        if outcome.error == "StoreUnusableError":
            assert scene.ledger == []
            continue
        assert outcome.error == "StoreFailedError"
        assert str(scene.db) in outcome.message
        assert "Nothing further is executed" in outcome.message
        stopped = scene.ledger.index("stopped") if "stopped" in scene.ledger else len(scene.ledger)
        assert set(scene.ledger[stopped:]) <= {"stopped"}
        kept = {key for key, status in scene.start(recorded).value.items() if status == "succeeded"}
        made = {f"pay:{line.split()[1]}" for line in scene.ledger if line.startswith("pay")}
        got = {f"pay:{line.split()[1]}" for line in scene.ledger if line.startswith("got")}
        assert got <= kept
        assert all(key in kept or key in outcome.message for key in made)


def orders_again(rule: str) -> list[str]:
    _fail(rule)
    for _ in range(_WRITERS):
        try:
            return orders()
        except durable.StoreError:
            did("failed")
    return orders()


@pytest.mark.parametrize("failure", _FAILURES)
def test_disk_that_works_again(scene: Scene, failure: str) -> None:
    """After a write failed, once a thread, the next call in the same process records what it kept and goes on, in no doubt."""
    sweep = Sweep(scene, failure)
    for rule in sweep:
        check_once(scene, scene.start(orders_again, rule))
        sweep.note(hit="failed" in scene.ledger)
        check_once(scene, scene.start(settle))


def resuming_again(rule: str) -> list[str]:
    durable.list_runs()
    return orders_again(rule)


@pytest.mark.parametrize("failure", _FAILURES)
def test_run_that_cannot_be_claimed(scene: Scene, failure: str) -> None:
    """A run that could not be claimed for a failed write is claimed by the next call in the same process."""
    scene.kill("", orders_until_paid)
    outcome = scene.start(resuming_again, f"{failure}:when=1")
    assert "failed" in scene.ledger
    check_once(scene, outcome)


def orders_on_a_dead_disk(rule: str) -> list[str]:
    _fail(rule)
    said = []
    for _ in range(4):
        with pytest.raises(durable.StoreError) as failed:
            orders()
        said.append(str(failed.value))
        did("failed")
    return said


@pytest.mark.parametrize("failure", _FAILURES)
def test_disk_that_stays_broken(scene: Scene, failure: str) -> None:
    """While every write fails, every call fails and starts no body; on a working disk the run goes on."""
    outcome = scene.start(orders_on_a_dead_disk, f"{failure}:when=6+")
    assert outcome.error == ""
    assert all(str(scene.db) in message for message in outcome.value)
    first = scene.ledger.index("failed")
    assert set(scene.ledger[first:]) == {"failed"}
    assert first < 3 * COUNT
    check_once(scene, scene.start(settle))


@task(idempotent=False)
async def transfer(number: int) -> int:
    did(f"transfer {number}")
    return number


@workflow
async def transfers() -> None:
    async def attempt(number: int) -> None:
        try:
            await transfer(number)
            did(f"got {number}")
        except BaseException:
            did("stopped")
            raise

    await attempt(0)
    await asyncio.gather(*(attempt(number) for number in (1, 2, 3)), return_exceptions=True)
    await attempt(4)


async def transfers_under(rule: str) -> None:
    _fail(rule)
    await transfers()


@pytest.mark.parametrize("failure", _FAILURES[:1])
def test_failed_write_beside_a_loop(scene: Scene, failure: str) -> None:
    """In async code, too: after a write that failed no body starts, and what was got is stored."""
    sweep = Sweep(scene, failure)
    for rule in sweep:
        outcome = scene.start(transfers_under, rule)
        sweep.note(hit=outcome.error != "")
        if not outcome.error:
            continue
        assert outcome.error in ("StoreFailedError", "StoreUnusableError"), outcome
        assert str(scene.db) in outcome.message
        stopped = scene.ledger.index("stopped") if "stopped" in scene.ledger else len(scene.ledger)
        assert not any(line.startswith("transfer") for line in scene.ledger[stopped:])
        kept = scene.start(recorded).value
        assert sum(status == "succeeded" for status in kept.values()) >= sum(
            line.startswith("got") for line in scene.ledger
        )


@pytest.mark.parametrize("call", ["pread64", "openat", "flock", "fcntl"])
def test_failed_reads(scene: Scene, call: str) -> None:
    """When the store cannot be read, locked or opened, the error is one of the store's and nothing is executed twice."""
    met = set()
    for number in range(1, 9, 3):
        scene.db = scene.folder / str(number) / "durable.db"
        scene.forget()
        scene.kill("", orders_until_paid)
        outcome = scene.start(orders_with_files_failing, f"{call}:error=EIO:when={number}")
        assert outcome.error in ("StoreFailedError", "StoreUnusableError", "CorruptRecordError", ""), outcome
        met.add(outcome.error)
        check_once(scene, scene.start(settle))
    assert met != {""}


def orders_with_files_failing(rule: str) -> list[str]:
    path = Path(os.environ["DURABLE_DB"])
    inject(rule, on=[path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", ".lock"))])
    return orders()
