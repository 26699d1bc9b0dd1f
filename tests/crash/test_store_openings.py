"""What cannot be a store is refused before anything executes; what is older is migrated, however often that is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from durable.runs import sessions
from durable.stores.sql import migrations
from durable.stores.sql.columns import FORMAT, SEQ_BITS, STEP_FIELDS
from tests.crash.faults import inject
from tests.crash.orders import check_once, orders, orders_until_paid, settle
from tests.crash.zygote import KILLED
from tests.integration.sqlite_formats import STEPS_1, read_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.crash.scenes import Scene


def _directory(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("not a database " * 1000)


def _other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.close()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "absent" / "durable.db")


@pytest.mark.parametrize("make", [_directory, _text, _other_program, _pipe, _device, _dangling])
def test_no_store(scene: Scene, make: Callable[[Path], None]) -> None:
    """A path that holds something else is refused by name before anything executes, and stays as it is."""
    scene.db.parent.mkdir()
    make(scene.db)
    before = scene.db.lstat()
    outcome = scene.start(orders)
    assert outcome.error == "StoreUnusableError", outcome
    assert str(scene.db) in outcome.message
    assert scene.ledger == []
    after = scene.db.lstat()
    assert (stat.S_IFMT(after.st_mode), after.st_size) == (stat.S_IFMT(before.st_mode), before.st_size)


def test_newer_format(scene: Scene) -> None:
    """A store that a newer release migrated is refused with both formats; when that is undone the run goes on."""
    scene.kill("", orders_until_paid)
    ledger = scene.ledger
    _execute(scene, f"PRAGMA user_version = {FORMAT + 1}")
    outcome = scene.start(orders)
    assert outcome.error == "StoreTooNewError"
    assert f"format {FORMAT + 1}" in outcome.message
    assert scene.ledger == ledger
    _execute(scene, f"PRAGMA user_version = {FORMAT}")
    check_once(scene, scene.start(settle))


def _execute(scene: Scene, *statements: str) -> None:
    connection = sqlite3.connect(scene.db, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def _make_5(scene: Scene) -> None:
    """Bring an interrupted run's store back to the fifth format."""
    scene.kill("", orders_until_paid)
    _execute(
        scene,
        "DROP TABLE kept",
        "ALTER TABLE steps DROP COLUMN twin",
        "ALTER TABLE steps DROP COLUMN tally",
        "CREATE INDEX steps_in_order ON steps (id, content, parent, container, branch, occurrence)",
        "PRAGMA user_version = 5",
    )


def _make_old(scene: Scene) -> None:
    """Bring an interrupted run's store back to the first format."""
    _make_5(scene)
    _execute(
        scene,
        "DROP TABLE messages",
        "DROP INDEX steps_in_order",
        "ALTER TABLE steps RENAME TO present_steps",
        STEPS_1,
        f"INSERT INTO steps SELECT id >> {SEQ_BITS}, id % (1 << {SEQ_BITS}), {', '.join(STEP_FIELDS[1:])} FROM present_steps",
        "DROP TABLE present_steps",
        "CREATE INDEX steps_by_content ON steps (run, content)",
        "DROP INDEX runs_by_owner",
        "ALTER TABLE runs DROP COLUMN request",
        "PRAGMA user_version = 1",
    )


def killed_in_migration(number: int) -> list[str]:
    """Be killed when the migration to this format is done and not committed."""
    step = migrations._STEPS[number]

    def kill(connection: Connection) -> None:
        step(connection)
        os.kill(os.getpid(), signal.SIGKILL)

    migrations._STEPS[number] = kill
    return orders()


def migrating_under(rule: str) -> list[str]:
    inject(rule)
    return orders()


def _is_like_new(scene: Scene) -> bool:
    migrated = read_schema(scene.db)
    scene.db = scene.folder / "new" / "durable.db"
    scene.start(orders)
    return migrated == read_schema(scene.db)


def test_killed_in_migrations(scene: Scene) -> None:
    """Killed inside a migration five times in a row, the store is then migrated as at once, and the run goes on."""
    _make_old(scene)
    for number in (FORMAT, 2, FORMAT, 2, FORMAT):
        assert scene.risk(killed_in_migration, number) == KILLED
    check_once(scene, scene.start(settle))
    assert _is_like_new(scene)


@pytest.mark.usefixtures("syscalls")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_killed_while_a_migration_is_written(scene: Scene, call: str) -> None:
    """Killed at the first, second, ... write or flush of an opening that migrates: the same store in the end."""
    _make_old(scene)
    killed = [scene.risk(migrating_under, f"{call}:signal=SIGKILL:when={number}") == KILLED for number in range(1, 6)]
    assert killed[0]
    check_once(scene, scene.start(settle))
    assert _is_like_new(scene)


def closing() -> None:
    sessions.current().store.close()


@pytest.mark.parametrize("make", [_make_old, _make_5])
def test_migration_at_once(scene: Scene, make: Callable[[Scene], None]) -> None:
    """An old store opened and closed again is a new one, with every record."""
    make(scene)
    ledger = scene.ledger
    assert scene.start(closing).error == ""
    assert scene.ledger == ledger
    check_once(scene, scene.start(settle))
    assert _is_like_new(scene)
