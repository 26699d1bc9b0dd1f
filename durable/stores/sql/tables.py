"""The tables of a store; their columns are the fields of the records, in their order."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("workflow", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("ended_at", Float),
    Column("parent_run", Text),
    Column("parent_step", Text),
    Column("entry", Text, nullable=False),
    Column("inputs", LargeBinary),
    Column("arguments", LargeBinary),
    Column("result", LargeBinary),
    Column("error", LargeBinary),
    Column("outcome", Text, nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("request", Text),
    Index("runs_by_lineage", "lineage", "created_at"),
    Index("runs_by_owner", "owner"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", Integer, primary_key=True),  # see `columns.SEQ_BITS`
    Column("parent", Integer, nullable=False),
    Column("container", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("occurrence", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("done", Integer),
    Column("twin", LargeBinary, nullable=False),  # see `rows`
    Column("tally", Integer, nullable=False),
    Column("value", LargeBinary),
    Column("error", LargeBinary),
    Column("details", LargeBinary),
)

kept = Table(
    "kept",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("steps", Integer, nullable=False),  # at least so many, see `settling`
    Column("last", Integer, nullable=False),  # up to this one
)

messages = Table(
    "messages",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("key", Text),
    Column("step", Integer),  # that consumed it; the payload is empty then
    Index("messages_by_key", "run", "key", unique=True),
    Index("messages_by_name", "run", "step", "name", "number"),
    sqlite_autoincrement=True,
)
