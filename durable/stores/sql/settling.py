"""Steps are counted before they leave the log: there SQLite's checksums guard them, in the database nothing does.

So a row that damage takes out of the database is missed, and a step costs one page of the log and no more. SQLite would
carry the log over whenever it has grown; here that waits for the count, which costs a commit in a hundred.
"""

from __future__ import annotations

import sqlite3

from durable.stores.sql.columns import SEQ_BITS

LONG = 100  # pages of the log at which it is carried over
_START = f"coalesce(last, pk << {SEQ_BITS})"
_SETTLE = (
    f"INSERT OR REPLACE INTO kept (run, steps, last) "  # noqa: S608 -- our own names
    f"SELECT pk, coalesce(counted, 0) + (SELECT count(*) FROM steps WHERE id > {_START} AND id <= newest), newest "
    f"FROM (SELECT pk, kept.steps AS counted, last, "
    f"(SELECT max(id) FROM steps WHERE id > {_START} AND id < (pk + 1) << {SEQ_BITS}) AS newest "
    f"FROM runs LEFT JOIN kept ON run = pk WHERE {{which}}) WHERE newest IS NOT NULL"
)
SETTLE_ALL = _SETTLE.format(which="true")
_SETTLE_HELD = _SETTLE.format(which="owner > ''")
_SETTLE_ONE = _SETTLE.format(which="runs.id = ?")


class Writer(sqlite3.Connection):
    """A connection that writes; `pages` counts, about, what it added to the log since that was carried over."""

    pages = 0


def settle(db: sqlite3.Connection, run_id: str) -> None:
    """Count the steps of a run that ends, in the transaction that ends it; a step that comes late only adds to them."""
    db.execute(_SETTLE_ONE, (run_id,))


def settle_held(db: sqlite3.Connection) -> None:
    """Count the steps of all runs that a process holds, or held when it died; a damaged store goes on without."""
    try:
        db.execute(_SETTLE_HELD)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_CORRUPT:
            raise


def carry_over(db: Writer) -> None:
    """Copy the log to the database, unless a transaction was left open."""
    if db.in_transaction:
        return
    settle_held(db)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    db.pages = 0
