"""Before a run goes on its steps are held against what was noted of them: damage must not look like a new call.

Values carry checksums of their own. What calls are matched by stands twice in its row: see `rows`. That no row is gone
is known from `kept`: see `settling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError
from durable.records import ITEMS, History, StepFlag
from durable.stores.sql.rows import WHOLE
from durable.stores.sql.statements import step_ids

if TYPE_CHECKING:
    import sqlite3

_DAMAGED = f"SELECT 1 FROM steps WHERE id BETWEEN ? AND ? AND ({WHOLE}) IS NOT TRUE LIMIT 1"  # noqa: S608 -- our own names
_HISTORY = (
    "SELECT coalesce(sum(id <= :kept), 0), coalesce(sum(task != :items), 0), coalesce(max(id) - :first, 0), "
    "coalesce(max(done), 0), "
    "coalesce(sum(status = 'succeeded' AND task != :items), 0), "
    "coalesce(max(CASE WHEN flags & :always THEN 0 ELSE done END), 0) "
    "FROM steps WHERE id BETWEEN :first AND :last"
)


def whole_history(db: sqlite3.Connection, run_id: str) -> History:
    """Count a run's steps; raises CorruptRecordError if one of them is not what was written, or is gone."""
    pk, found = db.execute("SELECT pk, id FROM runs WHERE id = ?", (run_id,)).fetchone()
    kept, until = db.execute("SELECT steps, last FROM kept WHERE run = ?", (pk,)).fetchone() or (0, 0)
    first, last = step_ids(pk)
    asked = {"first": first, "last": last, "kept": until, "items": ITEMS, "always": int(StepFlag.ALWAYS)}
    left, *history = db.execute(_HISTORY, asked).fetchone()
    if found != run_id or left < kept or db.execute(_DAMAGED, (first, last)).fetchone():
        raise damaged(run_id)
    return History(*history)


def check_absence(db: sqlite3.Connection, run_id: str) -> None:
    """Raise CorruptRecordError if a run that its index does not know is there all the same."""
    if db.execute("SELECT 1 FROM runs NOT INDEXED WHERE id = ?", (run_id,)).fetchone():
        raise damaged(run_id)


def damaged(run_id: str) -> CorruptRecordError:
    """Say that a run cannot go on."""
    return CorruptRecordError(
        f"Records of run {run_id} are damaged or gone. Nothing was executed. Restore the store from a backup, or begin "
        f"again with DURABLE_FRESH=1: then everything is executed anew."
    )
