"""Before a run goes on its steps are held against what was noted of them: damage must not look like a new call.

Values carry checksums of their own. What calls are matched by stands twice in its row, in another form and at another
place, so that neither a changed bit nor a stretch of equal bytes changes both alike. That no row is gone is known from
`kept`: see `settling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError
from durable.records import ITEMS, History, StepFlag, StepRecord
from durable.stores.sql.columns import SEQ_MASK
from durable.stores.sql.statements import step_ids

if TYPE_CHECKING:
    import sqlite3

# what `proofs` gives, in SQL: of a row as it is read, its types included (in SQLite every text is less than any bytes)
TWIN = "CAST(content || status || container || '/' || branch AS BLOB)"
TALLY = f"(id & {SEQ_MASK}) + 3 * parent + 7 * occurrence + 13 * flags + 31 * coalesce(done, 0)"
_WHOLE = f"twin = {TWIN} AND tally = {TALLY} AND content >= x'' AND status < x'' AND container < x'' AND branch < x''"
_HISTORY = (
    f"SELECT count(*), coalesce(sum({_WHOLE}), 0), coalesce(sum(id <= :kept), 0), "  # noqa: S608 -- our own names
    f"coalesce(sum(task != :items), 0), coalesce(max(id) - :first, 0), coalesce(max(done), 0), "
    f"coalesce(sum(status = 'succeeded' AND task != :items), 0), "
    f"coalesce(max(CASE WHEN flags & :always THEN 0 ELSE done END), 0) "
    f"FROM steps WHERE id BETWEEN :first AND :last"
)


def proofs(step: StepRecord) -> tuple[bytearray, int]:
    """Give what a row repeats of a step: its bytes and texts, and its numbers."""
    _, seq, parent, container, branch, _, _, content, occurrence, status, flags, _, _, _, _, _, done, _, _, _ = step
    twin = bytearray(content + f"{status}{container}/{branch}".encode())
    return twin, seq + 3 * parent + 7 * occurrence + 13 * flags + 31 * (done or 0)


def whole_history(db: sqlite3.Connection, run_id: str) -> History:
    """Count a run's steps; raises CorruptRecordError if one of them is not what was written, or is gone."""
    pk, found = db.execute("SELECT pk, id FROM runs WHERE id = ?", (run_id,)).fetchone()
    kept, until = db.execute("SELECT steps, last FROM kept WHERE run = ?", (pk,)).fetchone() or (0, 0)
    first, last = step_ids(pk)
    asked = {"first": first, "last": last, "kept": until, "items": ITEMS, "always": int(StepFlag.ALWAYS)}
    steps, whole, left, *history = db.execute(_HISTORY, asked).fetchone()
    if found != run_id or whole != steps or left < kept:
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
