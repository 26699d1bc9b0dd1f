"""A receiver that forgets idempotency keys protects for a time only; it is counted from the first use of a key.

Later the step counts as not idempotent: another request with the same key would have another effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from durable.details import Details
from durable.records import StepFlag, StepStatus

if TYPE_CHECKING:
    from durable.records import StepRecord


def is_forgotten(details: bytes | None, now: float) -> bool:
    """Whether the receiver does not know the idempotency key of a step any more (`now` in seconds since 1970)."""
    expires = Details.read(details).expires
    return expires is not None and now >= expires


def with_expiry(details: bytes, window: float, now: float, record: StepRecord | None) -> bytes:
    """Note in a step's details when its key, which is used first now unless it is recorded, will be forgotten."""
    expires = None
    if record is not None and record.status != StepStatus.SUCCEEDED and not record.flags & StepFlag.RESOLVED:
        expires = Details.read(record.details).expires
    return replace(Details.read(details), expires=now + window if expires is None else expires).write()
