"""The statements that make the tables of a new SQLite store: those of `tables`, as a test proves.

They are written down because a first run would import SQLAlchemy for nothing else, which takes longer than the run.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from durable.stores.sql.columns import APPLICATION_ID, FORMAT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

SCHEMA = (
    """
    CREATE TABLE kept (
        run INTEGER NOT NULL,
        steps INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (run)
    )
    """,
    """
    CREATE TABLE messages (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        payload BLOB NOT NULL,
        sent_at FLOAT NOT NULL,
        "key" TEXT,
        step INTEGER
    )
    """,
    'CREATE UNIQUE INDEX messages_by_key ON messages (run, "key")',
    "CREATE INDEX messages_by_name ON messages (run, step, name, number)",
    """
    CREATE TABLE runs (
        pk INTEGER NOT NULL,
        id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        status TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        owner TEXT NOT NULL,
        created_at FLOAT NOT NULL,
        updated_at FLOAT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        ended_at FLOAT,
        parent_run TEXT,
        parent_step TEXT,
        entry TEXT NOT NULL,
        inputs BLOB,
        arguments BLOB,
        result BLOB,
        error BLOB,
        outcome TEXT NOT NULL,
        mark BIGINT NOT NULL,
        lineage TEXT NOT NULL,
        request TEXT,
        PRIMARY KEY (pk),
        UNIQUE (id)
    )
    """,
    "CREATE INDEX runs_by_lineage ON runs (lineage, created_at)",
    "CREATE INDEX runs_by_owner ON runs (owner)",
    """
    CREATE TABLE steps (
        id INTEGER NOT NULL,
        parent INTEGER NOT NULL,
        container TEXT NOT NULL,
        branch TEXT NOT NULL,
        task TEXT NOT NULL,
        label TEXT NOT NULL,
        content BLOB NOT NULL,
        occurrence INTEGER NOT NULL,
        status TEXT NOT NULL,
        flags INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        interruptions INTEGER NOT NULL,
        started_at FLOAT NOT NULL,
        ended_at FLOAT,
        done INTEGER,
        twin BLOB NOT NULL,
        tally INTEGER NOT NULL,
        value BLOB,
        error BLOB,
        details BLOB,
        PRIMARY KEY (id)
    )
    """,
)


def create(open_file: Callable[[], sqlite3.Connection]) -> None:
    """Make the tables in one transaction; the caller holds the write lock."""
    with closing(open_file()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
