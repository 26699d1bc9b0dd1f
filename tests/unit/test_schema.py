from __future__ import annotations

import re
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from durable.stores.sql.schema import SCHEMA
from durable.stores.sql.tables import metadata


def normalised(statement: object) -> str:
    return re.sub(r"\s+", " ", str(statement)).strip()


def test_a_new_store_has_the_tables_that_are_declared() -> None:
    """The statements for a new SQLite store are those that SQLAlchemy makes of the tables, in whatever order."""
    declared: list[Any] = [
        statement
        for table in metadata.sorted_tables
        for statement in (CreateTable(table), *(CreateIndex(index) for index in table.indexes))
    ]
    dialect: Any = sqlite.dialect  # which has no types
    dialect = dialect()
    wanted = {normalised(statement.compile(dialect=dialect)) for statement in declared}
    assert {normalised(statement) for statement in SCHEMA} == wanted
