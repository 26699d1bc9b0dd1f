"""What a user sees of a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable.costs.costs import Cost
from durable.costs.recorded_costs import step_cost
from durable.identity.step_keys import idempotency_key
from durable.telling.explaining import is_left_in_doubt

if TYPE_CHECKING:
    from durable.records import StepRecord
    from durable.steps.verdicts import Past


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a run, for reading: `attempts` counts executions of the body, times are seconds since 1970, `cost` is what
    they cost without steps below it.
    """

    key: str
    number: int
    name: str
    status: str
    attempts: int
    started_at: float
    ended_at: float | None
    parent: int
    in_doubt: bool
    idempotency_key: str
    cost: Cost = field(default_factory=Cost)


def view_of(record: StepRecord, past: Past | None) -> StepView:
    """Show a step's record to a user; `past` is what the next execution of its run finds, None while one is under way."""
    return StepView(
        record.key,
        record.seq,
        record.task,
        record.status,
        record.attempts,
        record.started_at,
        record.ended_at,
        record.parent,
        past is not None and is_left_in_doubt(record, past),
        idempotency_key(record),
        step_cost(record, alive=past is None),
    )
