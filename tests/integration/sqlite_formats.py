"""Databases as former formats of the store had them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from durable.stores.sql.columns import APPLICATION_ID

if TYPE_CHECKING:
    from pathlib import Path

STEPS_1 = """
CREATE TABLE steps (
    run INTEGER NOT NULL, seq INTEGER NOT NULL, parent INTEGER NOT NULL, container TEXT NOT NULL, branch TEXT NOT NULL,
    task TEXT NOT NULL, label TEXT NOT NULL, content BLOB NOT NULL, occurrence INTEGER NOT NULL, status TEXT NOT NULL,
    flags INTEGER NOT NULL, epoch INTEGER NOT NULL, attempts INTEGER NOT NULL, interruptions INTEGER NOT NULL,
    started_at FLOAT NOT NULL, ended_at FLOAT, done INTEGER, value BLOB, error BLOB, details BLOB,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID
"""
_FORMAT_1 = f"""
CREATE TABLE runs (
    pk INTEGER NOT NULL, id TEXT NOT NULL, workflow TEXT NOT NULL, status TEXT NOT NULL, epoch INTEGER NOT NULL,
    owner TEXT NOT NULL, created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    ended_at FLOAT, parent_run TEXT, parent_step TEXT, entry TEXT NOT NULL, inputs BLOB, arguments BLOB, result BLOB,
    error BLOB, outcome TEXT NOT NULL, mark BIGINT NOT NULL, lineage TEXT NOT NULL, PRIMARY KEY (pk), UNIQUE (id)
);
CREATE INDEX runs_by_lineage ON runs (lineage, created_at);
{STEPS_1};
CREATE INDEX steps_by_content ON steps (run, content);
INSERT INTO runs VALUES (1, 'run', 'demo.workflow', 'running', 1, '', 1000.0, 1000.0, '', 0, NULL, NULL, NULL, '{{}}',
    NULL, NULL, NULL, NULL, '{{}}', 0, 'run');
INSERT INTO steps VALUES (1, 1, 0, '', '', 'demo.task', 'task:1', x'63636363636363636363636363636363', 1, 'succeeded', 0,
    1, 1, 0, 1001.0, 1001.5, 1, x'76616c75652031', NULL, NULL);
PRAGMA user_version = 1;
"""


def write_format_1(path: Path) -> None:
    """Make a database as the first format had it, with one run of one step."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"{_FORMAT_1} PRAGMA application_id = {APPLICATION_ID};")
    connection.close()


def read_schema(path: Path) -> list[tuple[str, str]]:
    """Give every column and every index of a database."""
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [
            (table, str(column[1:])) for table in tables for column in connection.execute(f"PRAGMA table_info({table})")
        ]
        indexes = connection.execute("SELECT name, 'index' FROM sqlite_master WHERE type = 'index'").fetchall()
        return sorted(columns + indexes)
    finally:
        connection.close()
