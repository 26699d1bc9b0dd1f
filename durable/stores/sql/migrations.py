"""Bring the tables of an older store to the present format, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from durable.stores.sql.columns import APPLICATION_ID, FORMAT, SEQ_BITS, STEP_FIELDS
from durable.stores.sql.rows import TALLY, TWIN
from durable.stores.sql.settling import SETTLE_ALL
from durable.stores.sql.tables import kept, messages, steps

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from sqlalchemy import Connection


def _add_requests(connection: Connection) -> None:
    """Format 2: other processes can leave a request for a run's owner."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN request TEXT"))
    connection.execute(text("CREATE INDEX runs_by_owner ON runs (owner)"))


def _drop_index(connection: Connection) -> None:
    """Format 3: another index, which format 5 replaces."""
    connection.execute(text("DROP INDEX steps_by_content"))


def _add_messages(connection: Connection) -> None:
    """Format 4: messages wait for runs."""
    messages.create(connection)


def _append_steps(connection: Connection) -> None:
    """Format 5: rows of steps stand in the order of the calls."""
    _copy_steps(connection, f"(run << {SEQ_BITS}) + seq")


def _prove_steps(connection: Connection) -> None:
    """Format 6: rows of steps say twice what calls are matched by, and are counted: no index does it any more."""
    _copy_steps(connection, "id")
    kept.create(connection)
    connection.execute(text(SETTLE_ALL))


def _copy_steps(connection: Connection, number: str) -> None:
    connection.execute(text("ALTER TABLE steps RENAME TO former_steps"))
    connection.execute(text("DROP INDEX IF EXISTS steps_by_content"))
    steps.create(connection)
    others = ", ".join(STEP_FIELDS[1:])
    connection.execute(
        text(
            f"INSERT INTO steps (id, {others}, twin, tally) SELECT id, {others}, {TWIN}, {TALLY} "  # noqa: S608 -- our own names
            f"FROM (SELECT {number} AS id, {others} FROM former_steps) ORDER BY id"
        )
    )
    connection.execute(text("DROP TABLE former_steps"))


_STEPS: dict[int, Callable[[Connection], None]] = {
    2: _add_requests,
    3: _drop_index,
    4: _add_messages,
    5: _append_steps,
    6: _prove_steps,
}


def migrate(open_file: Callable[[], sqlite3.Connection], found: int) -> None:
    """Bring the tables of a store of the format `found` to the present one; the caller holds the write lock."""
    engine = create_engine("sqlite://", creator=open_file, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("PRAGMA journal_mode = WAL"))
            connection.execute(text("BEGIN IMMEDIATE"))
            for number in range(found + 1, FORMAT + 1):
                _STEPS[number](connection)
            connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
            connection.execute(text(f"PRAGMA user_version = {FORMAT}"))
            connection.execute(text("COMMIT"))
    except DBAPIError as error:
        raise error.orig or error from None
