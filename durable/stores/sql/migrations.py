"""Bring the tables of an older store to the present format, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from durable.stores.sql.columns import APPLICATION_ID, FORMAT, MATCHED_BY
from durable.stores.sql.tables import messages

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from sqlalchemy import Connection


def _add_requests(connection: Connection) -> None:
    """Format 2: other processes can leave a request for a run's owner."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN request TEXT"))
    connection.execute(text("CREATE INDEX runs_by_owner ON runs (owner)"))


def _index_what_is_matched(connection: Connection) -> None:
    """Format 3: everything that calls are matched by stands in the index too, so that damage shows."""
    connection.execute(text("DROP INDEX steps_by_content"))
    connection.execute(text(f"CREATE INDEX steps_by_content ON steps (run, {', '.join(MATCHED_BY)})"))


def _add_messages(connection: Connection) -> None:
    """Format 4: messages wait for runs."""
    messages.create(connection)


_STEPS: dict[int, Callable[[Connection], None]] = {2: _add_requests, 3: _index_what_is_matched, 4: _add_messages}


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
