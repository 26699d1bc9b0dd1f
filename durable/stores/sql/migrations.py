"""Bring a store to the present format: a newer one is refused, an older one is migrated in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from durable.errors import StoreTooNewError, StoreUnusableError
from durable.stores.sql.tables import APPLICATION_ID, FORMAT, MATCHED_BY, messages, metadata

if TYPE_CHECKING:
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


def read_format(connection: Connection, url: str) -> int:
    """Give the format of a database, 0 for an empty one; refuse what is not ours or newer. Changes nothing."""
    application = connection.execute(text("PRAGMA application_id")).scalar_one()
    found = int(connection.execute(text("PRAGMA user_version")).scalar_one())
    if application != APPLICATION_ID:
        if application or found or connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one():
            raise StoreUnusableError(
                f"{url} is a SQLite database of another program; it was not touched. Choose another path with "
                f"DURABLE_DB."
            )
        return 0
    if found > FORMAT:
        raise StoreTooNewError(
            f"{url} has store format {found}, and this release of durable knows formats up to {FORMAT}. Nothing was "
            f"read or changed. Upgrade durable, or choose another store with DURABLE_DB."
        )
    return found


def migrate(connection: Connection, found: int) -> None:
    """Make the tables or bring them to the present format; the caller holds the write lock and a transaction."""
    if found == 0:
        metadata.create_all(connection)
    for number in range(found + 1, FORMAT + 1) if found else ():
        _STEPS[number](connection)
    connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
    connection.execute(text(f"PRAGMA user_version = {FORMAT}"))
