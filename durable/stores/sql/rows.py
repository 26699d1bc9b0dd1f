"""A step as a row: what calls are matched by stands in it twice, in another form and at another place.

So neither a changed bit nor a stretch of equal bytes changes both alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.stores.sql.blobs import BLOB_SIZE, Blobs
from durable.stores.sql.columns import SEQ_MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable.records import StepRecord
    from durable.stores.sql.settling import Writer

_PAGE = 4096  # bytes

# what a row repeats, and whether it still says the same both times, in the types that it was written with (in SQLite every
# text is less than any bytes); most steps stand in no scope and no branch, and to join less is quicker
TWIN = "CAST(content || status || container || '/' || branch AS BLOB)"
TALLY = f"(id & {SEQ_MASK}) + 3 * parent + 7 * occurrence + 13 * flags + 31 * coalesce(done, 0)"
WHOLE = (
    f"CASE WHEN container = '' AND branch = '' THEN twin = CAST(content || status || '/' AS BLOB) "
    f"ELSE container < x'' AND branch < x'' AND twin = {TWIN} END "
    f"AND content >= x'' AND status < x'' AND tally = {TALLY}"
)


def step_row(step: StepRecord, fences: Mapping[str, tuple[int, str]], blobs: Blobs, db: Writer) -> tuple[Any, ...]:
    """Give the values of a step for `step_upsert`: bytes as an array and nothing as 0.

    `sqlite3` of Python 3.11 looks for an adapter of every value that is bytes or None, which took a ninth of a step.
    """
    # fmt: off
    (
        run_id, seq, parent, container, branch, task, label, content, occurrence, status, flags, epoch,
        attempts, interruptions, started_at, ended_at, done, value, error, details,
    ) = step
    # fmt: on
    return (
        seq,
        parent,
        container,
        branch,
        task,
        label,
        bytearray(content),
        occurrence,
        status,
        flags,
        epoch,
        attempts,
        interruptions,
        started_at,
        ended_at or 0,
        done or 0,
        0 if value is None else bytearray(value) if len(value) < _PAGE else _large(value, blobs, db),
        0 if error is None else bytearray(error) if len(error) < _PAGE else _large(error, blobs, db),
        0 if details is None else bytearray(details),
        bytearray(content + f"{status}{container}/{branch}".encode()),
        seq + 3 * parent + 7 * occurrence + 13 * flags + 31 * (done or 0),
        run_id,
        *fences[run_id],
    )


def _large(value: bytes, blobs: Blobs, db: Writer) -> bytearray:
    if len(value) > BLOB_SIZE:
        return bytearray(blobs.put(value))
    db.pages += len(value) // _PAGE
    return bytearray(value)
