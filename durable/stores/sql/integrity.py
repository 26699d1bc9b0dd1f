"""Before a run goes on its steps are held against what the index says of them: damage must not look like a new call.

Values carry checksums of their own. What calls are matched by stands twice in the database, in the row and in the
index over it, and both must agree, row by row and in number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError
from durable.records import StepStatus
from durable.stores.sql.columns import MATCHED_BY
from durable.stores.sql.statements import step_ids

if TYPE_CHECKING:
    import sqlite3

_AGREE = " AND ".join(f"indexed.{name} = step.{name}" for name in ("id", *MATCHED_BY))
_STATUSES = ", ".join(f"'{status}'" for status in StepStatus)
_WHOLE = f"step.status IN ({_STATUSES}) AND typeof(step.flags) = 'integer' AND typeof(step.done) IN ('integer', 'null')"
_COUNT = (
    f"SELECT count(*), count(indexed.id), "  # noqa: S608 -- our own names
    f"(SELECT count(*) FROM steps INDEXED BY steps_in_order WHERE id BETWEEN :first AND :last) "
    f"FROM steps AS step NOT INDEXED LEFT JOIN steps AS indexed INDEXED BY steps_in_order ON {_AGREE} AND {_WHOLE} "
    f"WHERE step.id BETWEEN :first AND :last"
)


def check_steps(db: sqlite3.Connection, run_id: str) -> None:
    """Raise CorruptRecordError if a step of a run is not what was written, or is gone."""
    row = db.execute("SELECT pk, id FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return
    first, last = step_ids(row[0])
    steps, whole, indexed = db.execute(_COUNT, {"first": first, "last": last}).fetchone()
    if row[1] != run_id or not steps == whole == indexed:
        raise damaged(run_id)


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
