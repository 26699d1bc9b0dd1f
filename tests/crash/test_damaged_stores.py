"""A store that was damaged says so; nothing that was executed is executed again in its place."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable
from durable import workflow
from durable.runs import sessions
from tests.crash.effects import did
from tests.crash.orders import note, orders, pay, recorded, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Outcome, Scene

_PAGE, _LEAF = 4096, 13  # bytes; how a page begins that holds rows of a table
_TYPED = ("StoreUnusableError", "CorruptRecordError", "StoreFailedError")


def orders_without_end() -> None:
    """Leave a run that ended and one of which everything but the end is recorded, in the log alone."""
    finished()
    os.environ["KILL_AT"] = f"note 3 receipt-{os.getpid()}-3"
    orders()


@workflow
def finished() -> int:
    return note(9, "nothing")


def carry_over() -> None:
    """Open the store and close it, so that the log is in the database."""
    sessions.current().store.close()


def _log(scene: Scene) -> Path:
    return Path(f"{scene.db}-wal")


def _refused(scene: Scene, ledger: list[str]) -> Outcome:
    outcome = scene.start(orders)
    assert outcome.error == "StoreUnusableError", outcome
    assert str(scene.db) in outcome.message
    assert scene.ledger == ledger
    return outcome


def test_log_is_missing(scene: Scene) -> None:
    """Without its log the store is refused each time; with the log back the run goes on."""
    scene.kill("", orders_without_end)
    ledger = scene.ledger
    away = scene.folder / "log"
    shutil.move(_log(scene), away)
    for _ in range(2):
        assert "was removed" in _refused(scene, ledger).message
    assert not _log(scene).exists()
    shutil.move(away, _log(scene))
    scene.forget()
    assert scene.start(settle).error == ""
    assert [line.split()[:2] for line in scene.ledger] == [*(["got", str(n)] for n in (1, 2, 3)), ["note", "3"]]


def test_database_is_missing(scene: Scene) -> None:
    """Beside the log of a database that was moved away no new one is made, which would cost the log; with it back the run
    goes on."""
    scene.kill("", orders_without_end)
    ledger = scene.ledger
    away = scene.folder / "database"
    shutil.move(scene.db, away)
    for _ in range(2):
        assert "was moved or removed" in _refused(scene, ledger).message
    assert scene.start(recorded).error == "StoreUnusableError"
    assert not scene.db.exists()
    shutil.move(away, scene.db)
    scene.forget()
    assert scene.start(settle).error == ""
    assert [line.split()[:2] for line in scene.ledger] == [*(["got", str(n)] for n in (1, 2, 3)), ["note", "3"]]


@pytest.mark.parametrize("damage", ["header", "first", "middle", "last", "cut", "empty"])
def test_log_is_damaged(scene: Scene, damage: str) -> None:
    """A log with damage anywhere in what was committed is refused each time and left as it is."""
    scene.kill("", orders_without_end)
    ledger = scene.ledger
    log = bytearray(_log(scene).read_bytes())
    at = {"header": 17, "first": 100, "middle": len(log) // 2, "last": len(log) - 1}.get(damage)
    if at is not None:
        log[at] ^= 0x10
    left = bytes(log[: {"cut": len(log) - 1000, "empty": 0}.get(damage)])
    _log(scene).write_bytes(left)
    for _ in range(2):
        _refused(scene, ledger)
    assert _log(scene).read_bytes() == left


def test_loss_is_accepted(scene: Scene) -> None:
    """After the file that the error names was deleted, the store opens with what is left."""
    scene.kill("", orders_without_end)
    _log(scene).unlink()
    Path(_refused(scene, scene.ledger).message.rpartition("delete ")[2]).unlink()
    assert scene.start(orders).error == ""


def orders_emptied(which: str) -> None:
    """Empty a file of the open store before the second step, and be killed after it."""
    with durable.run("emptied"):
        pay(1)
        if which:
            sessions.current().journal.flush_all()
            os.truncate(os.environ["DURABLE_DB"] + which.removeprefix("database"), 0)
        pay(2)
        sessions.current().journal.flush_all()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("which", ["database", "-wal"])
def test_a_file_is_emptied_while_open(scene: Scene, which: str) -> None:
    """Where the database or its log was emptied under a process that was killed later, the next start is refused."""
    assert scene.is_killed(orders_emptied, which)
    ledger = scene.ledger
    assert [line.split()[:2] for line in ledger] == [["pay", "1"], ["pay", "2"]]
    for _ in range(2):
        outcome = scene.start(orders_emptied, "")
        assert outcome.error == "StoreUnusableError", outcome
        assert scene.ledger == ledger


def _again(scene: Scene, data: bytes, ledger: list[str]) -> None:
    shutil.rmtree(scene.db.parent)
    scene.db.parent.mkdir(mode=0o700)
    scene.db.write_bytes(data)
    scene.forget()
    scene.write_ledger(ledger)


def _damages(data: bytes, how: str) -> Iterator[tuple[int, bytes]]:
    chance = random.Random(how)
    if how == "rows":  # the last rows of each leaf of a table are gone, and SQLite does not see it
        for start in range(0, len(data), _PAGE):
            at = start or 100
            count = int.from_bytes(data[at + 3 : at + 5])
            for left in {count - 1, count // 2} if data[at] == _LEAF and count > 1 else ():
                yield at + 3, left.to_bytes(2)
    elif how == "page":
        for start in range(0, len(data), _PAGE):
            yield start, chance.choice((bytes(_PAGE), chance.randbytes(_PAGE)))
    else:
        written = [at for at, byte in enumerate(data) if byte]
        for at in chance.sample(written, 100):
            yield at, bytes([data[at] ^ 1 << chance.randrange(8)])


@pytest.mark.parametrize("how", ["page", "bit", "rows"])
def test_database_is_damaged(scene: Scene, how: str) -> None:
    """With any page or bit of the database damaged, or rows gone from any page, nothing is executed twice: all is well,
    or the error is a store's."""
    scene.kill("", orders_without_end)
    scene.start(carry_over)
    ledger, data = scene.ledger, scene.db.read_bytes()
    refused = 0
    for at, damage in _damages(data, how):
        _again(scene, data[:at] + damage + data[at + len(damage) :], ledger)
        outcome = scene.start(orders)
        assert outcome.error in (*_TYPED, ""), (at, outcome)
        refused += outcome.error != ""
        paid = [line for line in scene.ledger if line.startswith("pay")]
        assert paid == [line for line in ledger if line.startswith("pay")], (at, data[at - 30 : at + 30])
        assert not any(line.startswith(("note 1", "note 2")) for line in scene.ledger[len(ledger) :])
    assert refused > {"page": 5, "bit": 5, "rows": 4}[how]


def test_other_runs_of_a_damaged_store(scene: Scene) -> None:
    """One run's damaged step blocks that run by name; the store lists all runs, and the others go on."""
    scene.kill("", orders_without_end)
    scene.start(carry_over)
    label = b"orders.paypay:2"
    data = scene.db.read_bytes()
    at = data.index(label) + len(label)  # what the call is recognised by
    scene.db.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    ledger = scene.ledger
    outcome = scene.start(orders)
    assert outcome.error == "CorruptRecordError"
    assert "run orders-" in outcome.message
    assert scene.ledger == ledger
    assert len(scene.start(recorded).value) == 7
    assert scene.start(finished).value == 9
    assert scene.ledger == ledger


def orders_while(change: str) -> list[str]:
    """Change the files of the open store between two steps."""
    receipts = []
    db, away = os.environ["DURABLE_DB"], os.environ["DURABLE_DB"] + ".away"
    with durable.run("changed"):
        for number in (1, 2, 3):
            if number == 2:
                sessions.current().journal.flush_all()
                for suffix in {"database": ("",), "log": ("-wal",)}.get(change.partition(" ")[0], ("", "-wal", "-shm")):
                    os.rename(db + suffix, away + suffix)
                    if change.endswith("replaced"):
                        shutil.copy(away + suffix, db + suffix)
            try:
                receipts.append(pay(number)[0])
            except BaseException:
                did("stopped")
                raise
    return receipts


@pytest.mark.parametrize("what", ["database", "log", "all"])
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_files_change_while_open(scene: Scene, what: str, change: str) -> None:
    """When a file is removed or replaced under an open store nothing further starts, and the error names the file."""
    outcome = scene.start(orders_while, f"{what} {change}")
    assert outcome.error == "StoreFailedError", outcome
    assert f"{change} while it was open" in outcome.message
    assert "Put back the files" in outcome.message
    assert str(scene.db) in outcome.message
    assert scene.ledger[1:] == ["stopped"]
    assert scene.ledger[0].startswith("pay 1")
