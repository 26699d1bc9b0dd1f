"""What is read from a store's tables; every statement is closed before its rows are used.

An open statement pins the WAL and the state that later reads on its connection see.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from durable.records import (
    ENDED,
    ITEMS,
    Message,
    Replayed,
    Request,
    RunFilter,
    RunRecord,
    RunSummary,
    StepFlag,
    StepQuery,
    StepRecord,
    StepStatus,
)
from durable.stores.sql.columns import STEP_FIELDS
from durable.stores.sql.statements import run_list, run_select, step_ids, step_select

if TYPE_CHECKING:
    import sqlite3

_PAGE_BYTES = 8 * 1024 * 1024  # a page of steps stops after about so much
_CHUNK = 100
_VALUE, _ERROR = STEP_FIELDS.index("value"), STEP_FIELDS.index("error")
_LEAN_FIELDS = (
    *("seq", "container", "branch", "task", "label", "content", "occurrence", "flags", "done", "details"),
    *("status", "value"),
)
_LEAN_STATUS, _LEAN_VALUE = itemgetter(-2), itemgetter(-1)
_SUCCEEDED = StepStatus.SUCCEEDED.value


def load_run(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """Read one run."""
    row = db.execute(run_select(), (run_id,)).fetchone()
    return RunRecord(*row) if row is not None else None


def _pk(db: sqlite3.Connection, run_id: str) -> int:
    """Give the primary key of a run, and one that no run has for one that is absent."""
    row = db.execute("SELECT pk FROM runs WHERE id = ?", (run_id,)).fetchone()
    return int(row[0]) if row is not None else 0


def _pk_for(db: sqlite3.Connection, run_id: str, query: StepQuery) -> int:
    """Give the primary key of a run whose steps are asked for; by content they can be found afterwards."""
    pk = _pk(db, run_id)
    if query.content is not None:
        _note_contents(db, pk)
    return pk


def _note_contents(db: sqlite3.Connection, pk: int) -> None:
    """Make a temporary index of a run's steps by content, once after each claim.

    Few runs are ever asked, and an index that is kept with the steps costs each of them a page more to write.
    """
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS contents "
        "(run INTEGER, epoch INTEGER, content BLOB, id INTEGER, PRIMARY KEY (run, content, id)) WITHOUT ROWID"
    )
    epoch = db.execute("SELECT epoch FROM runs WHERE pk = ?", (pk,)).fetchone()
    noted = db.execute("SELECT epoch FROM contents WHERE run = ? LIMIT 1", (pk,)).fetchone()
    if noted != epoch:
        db.execute("DELETE FROM contents WHERE run = ?", (pk,))
        db.execute(
            "INSERT INTO contents SELECT ?, ?, content, id FROM steps WHERE id BETWEEN ? AND ? ORDER BY content, id",
            (pk, *epoch, *step_ids(pk)),
        )


def read_steps(db: sqlite3.Connection, run_id: str, query: StepQuery) -> list[StepRecord]:
    """Read a page of steps, shorter than asked for if they are large."""
    if query.lean and query.parent is not None:
        return _read_lean_steps(db, run_id, query, query.parent)
    sql, values = step_select(STEP_FIELDS, _pk_for(db, run_id, query), query)
    found: list[StepRecord] = []
    room = _PAGE_BYTES
    with closing(db.execute(sql, (*values, query.limit))) as cursor:
        while room > 0 and (rows := cursor.fetchmany(_CHUNK)):
            found += [StepRecord._make((run_id, *row)) for row in rows]
            room -= sum(map(len, filter(None, chain.from_iterable((row[_VALUE], row[_ERROR]) for row in rows))))
    return found


def _read_lean_steps(db: sqlite3.Connection, run_id: str, query: StepQuery, parent: int) -> list[StepRecord]:
    """The same with columns left out, each of which costs as much as a twentieth of a replayed step."""
    sql, values = step_select(_LEAN_FIELDS, _pk_for(db, run_id, query), query)
    found: list[StepRecord] = []
    room = _PAGE_BYTES
    with closing(db.execute(sql, (*values, query.limit))) as cursor:
        while room > 0 and (rows := cursor.fetchmany(_CHUNK)):
            values_read = list(map(_LEAN_VALUE, rows))
            if set(map(_LEAN_STATUS, rows)) != {_SUCCEEDED} or None in values_read:
                whole = replace(query, after=rows[0][0] - 1, limit=len(rows), lean=False)
                records = read_steps(db, run_id, whole)
            else:
                records = _lean_records(run_id, parent, rows)
            found += records
            room -= sum(map(len, filter(None, values_read)))
    return found


def _lean_records(run_id: str, parent: int, rows: list[Any]) -> list[StepRecord]:
    new, kind = tuple.__new__, StepRecord  # a quarter quicker than to call it
    return [
        new(
            kind,
            (run_id, seq, parent, c, b, task, label, says, n, s, flags, 0, 0, 0, 0.0, None, done, value, None, details),
        )
        for seq, c, b, task, label, says, n, flags, done, details, s, value in rows
    ]


def read_step_tasks(db: sqlite3.Connection, run_id: str, query: StepQuery) -> frozenset[str]:
    """Give the task names among the steps that match."""
    sql, values = step_select(("task",), _pk_for(db, run_id, query), query, distinct=True)
    return frozenset(task for (task,) in db.execute(sql, values).fetchall())


def count_replayed(db: sqlite3.Connection, run_id: str, parent: int, last: int, epoch: int) -> Replayed:
    """Count the steps that an execution used as they were recorded, and their seconds."""
    first, newest = step_ids(_pk(db, run_id))
    row = db.execute(
        "SELECT count(*), coalesce(sum(max(0.0, ended_at - started_at)), 0.0) FROM steps "
        "WHERE id BETWEEN ? AND ? AND parent = ? AND epoch < ? AND status IN (?, ?, ?) AND flags & ? = 0",
        (first, newest if last < 0 else first + last, parent, epoch, *ENDED, int(StepFlag.NO_BODY)),
    ).fetchone()
    return Replayed(*row)


def read_requests(db: sqlite3.Connection, owner: str) -> dict[str, Request]:
    """Give what is pending for an owner's runs."""
    rows = db.execute(
        "SELECT id, coalesce(request, ''), "
        "coalesce((SELECT max(number) FROM messages WHERE run = pk AND step IS NULL), 0) AS mail "
        "FROM runs WHERE owner = ? AND (request IS NOT NULL OR mail)",
        (owner,),
    ).fetchall()
    return {run_id: Request(*row) for run_id, *row in rows}


def read_message(db: sqlite3.Connection, run_id: str, name: str, after: int) -> Message | None:
    """Give the oldest message of a name that waits."""
    row = db.execute(
        "SELECT payload, sent_at, key, number FROM messages "
        "WHERE run = (SELECT pk FROM runs WHERE id = ?) AND step IS NULL AND name = ? AND number > ? "
        "ORDER BY number LIMIT 1",
        (run_id, name, after),
    ).fetchone()
    return Message(run_id, name, *row) if row is not None else None


def list_runs(db: sqlite3.Connection, which: RunFilter) -> list[RunSummary]:
    """List runs, the newest first, with the number of their steps by status."""
    sql, values = run_list(which)
    return [RunSummary(RunRecord(*row), _count_steps(db, pk)) for pk, *row in db.execute(sql, values).fetchall()]


def _count_steps(db: sqlite3.Connection, pk: int) -> dict[str, int]:
    sql = "SELECT status, count(*) FROM steps WHERE id BETWEEN ? AND ? AND task != ? GROUP BY status"
    return dict(db.execute(sql, (*step_ids(pk), ITEMS)).fetchall())


def read_state(db: sqlite3.Connection) -> dict[str, str]:
    """Describe the durability in force and whether the database is whole."""
    mode, level, integrity = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "quick_check(1)")
    )
    return {
        "durability": f"journal_mode={mode}, synchronous={ {2: 'FULL', 3: 'EXTRA'}.get(level, level) }",
        "integrity": str(integrity),
    }
