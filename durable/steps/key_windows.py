"""A receiver that forgets idempotency keys protects for a time only; it is counted from the first use of a key.

Later the step counts as not idempotent: another request with the same key would have another effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from durable.steps.details import Details

if TYPE_CHECKING:
    from durable.records import StepRecord


def is_forgotten(details: bytes | None, now: float) -> bool:
    """Whether the receiver does not know the idempotency key of a step any more (`now` in seconds since 1970)."""
    expires = Details.read(details).expires
    return expires is not None and now >= expires


def with_expiry(details: bytes, window: float, now: float, record: StepRecord | None) -> bytes:
    """Note in a step's details when its key will be forgotten; it is used first now, unless it is recorded.

    A step that is executed again although its key was forgotten, by somebody's decision, uses the key as if it were new.
    """
    expires = Details.read(record.details).expires if record is not None else None
    if expires is None or expires <= now:
        expires = now + window
    return replace(Details.read(details), expires=expires).write()
