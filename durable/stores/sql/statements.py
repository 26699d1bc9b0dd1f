"""SQL texts: an upsert of whole steps that is fenced by the run's row, and reads of runs and of steps in order."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from durable.stores.sql.columns import RUN_FIELDS, SEQ_BITS, STEP_FIELDS, STEP_OPTIONAL, STEP_PROOFS

if TYPE_CHECKING:
    from durable.records import RunFilter, StepQuery

UPSERT_CHUNK = 64  # rows in one statement


@cache
def step_upsert(rows: int) -> str:
    """Write so many steps, those of runs whose epoch and owner still hold.

    The values of a row are those of a record, its proofs, the run's id, and the fence.
    """
    columns = (*STEP_FIELDS, *STEP_PROOFS)
    places = ", ".join("nullif(?, 0)" if name in STEP_OPTIONAL else "?" for name in columns)
    row = f"SELECT (pk << {SEQ_BITS}) + {places} FROM runs WHERE id = ? AND epoch = ? AND owner = ?"  # noqa: S608 -- our own names
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return (
        f"INSERT INTO steps (id, {', '.join(columns[1:])}) {' UNION ALL '.join([row] * rows)} "
        f"ON CONFLICT (id) DO UPDATE SET {changes}"
    )


@cache
def run_insert() -> str:
    """Make a run unless one of its id exists."""
    places = ", ".join("?" * len(RUN_FIELDS))
    return f"INSERT INTO runs ({', '.join(RUN_FIELDS)}) VALUES ({places}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 -- our own names


@cache
def run_update() -> str:
    """Replace a run's row; the caller has checked its fence in the same transaction."""
    changes = ", ".join(f"{name} = ?" for name in RUN_FIELDS)
    return f"UPDATE runs SET {changes} WHERE id = ?"  # noqa: S608 -- our own names


@cache
def run_select() -> str:
    """Read a run."""
    return f"SELECT {', '.join(RUN_FIELDS)} FROM runs WHERE id = ?"  # noqa: S608 -- our own names


def run_list(which: RunFilter) -> tuple[str, list[Any]]:
    """Read the runs that match a filter, the newest first, each after its primary key."""
    conditions = ["true"]
    values: list[Any] = []
    for condition, value in (
        ("lineage = ?", which.lineage),
        ("workflow = ?", which.workflow),
        ("parent_run = ?", which.parent_run),
        ("workflow != ?", which.other_than),
        ("ended_at < ?", which.ended_before),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if which.prefix is not None:
        conditions.append("id >= ? AND substr(id, 1, ?) = ?")
        values += (which.prefix, len(which.prefix), which.prefix)
    if which.statuses:
        conditions.append(f"status IN ({', '.join('?' * len(which.statuses))})")
        values += which.statuses
    values.append(-1 if which.limit is None else which.limit)
    order = "ORDER BY created_at DESC, pk DESC LIMIT ?"
    return f"SELECT pk, {', '.join(RUN_FIELDS)} FROM runs WHERE {' AND '.join(conditions)} {order}", values  # noqa: S608 -- our own names


def step_select(columns: tuple[str, ...], pk: int, query: StepQuery, *, distinct: bool = False) -> tuple[str, list[Any]]:
    """Read steps of the run `pk` that match a query; by content they are found in the table of `contents`."""
    first, last = step_ids(pk)
    conditions = ["id > ?", "id <= ?"]
    values: list[Any] = [first + query.after, last]
    if query.content is not None:
        conditions.append("id IN (SELECT id FROM contents WHERE run = ? AND content = ?)")
        values += (pk, query.content)
    if query.parent is not None:
        conditions.append("parent = ?")
        values.append(query.parent)
    if query.scope is not None:
        conditions += ["container = ?", "branch = ?"]
        values += query.scope
    for column, several in (("task", query.tasks), ("status", query.statuses)):
        if several is not None:
            conditions.append(f"{column} IN ({', '.join('?' * len(several))})")
            values += several
    if query.flags is not None:
        conditions.append("flags & ? != 0")
        values.append(query.flags)
    shown = ", ".join(f"id - {first}" if column == "seq" else column for column in columns)
    sql = f"SELECT {'DISTINCT ' if distinct else ''}{shown} FROM steps WHERE {' AND '.join(conditions)}"  # noqa: S608 -- our own names
    return (sql if distinct else f"{sql} ORDER BY id LIMIT ?"), values


def step_ids(pk: int) -> tuple[int, int]:
    """Give the number below the ids of a run's steps, and the largest of them."""
    return pk << SEQ_BITS, ((pk + 1) << SEQ_BITS) - 1
