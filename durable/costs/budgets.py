"""No body starts once the budget of its run, or of one that called it, is spent; what was paid for by then is kept.

The run stops when the paid calls that are under way have ended: async ones would be cancelled, and paid for again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from durable.records import StepFlag, StepStatus
from durable.steps.effects import Effect

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from durable.costs.ledgers import Ledger
    from durable.runs.execution import Body
    from durable.steps.attempts import Attempts

_LOOK = 0.005  # seconds between two looks at steps that end elsewhere


def admitted(attempts: Attempts, life: Generator[Effect, Any, Any]) -> Generator[Effect, Any, Any]:
    """Execute a body if it may start."""
    yield from admission(attempts)
    return (yield from life)


def admission(attempts: Attempts) -> Generator[Effect, Any, None]:
    """Let a body start, or stop its execution because a budget is spent; what undoes is paid for in any case."""
    ledger = attempts.execution.ledger
    if ledger is None or attempts.execution.undoing is not None:
        return
    exhausted = ledger.exhausted()
    if exhausted is not None:
        yield _PaidStepsEnd(attempts, exhausted)
        raise attempts.execution.stop(exhausted.exceeded())


class _PaidStepsEnd(Effect):
    """Steps that are paid for and under way have ended: all but those that are held up themselves."""

    __slots__ = ("_attempts", "_ledger")

    def __init__(self, attempts: Attempts, ledger: Ledger) -> None:
        self._attempts = attempts
        self._ledger = ledger

    def act(self) -> None:
        with self._ledger.holding_up(self._attempts):
            while self._is_awaited():
                time.sleep(_LOOK)

    async def act_async(self) -> None:
        with self._ledger.holding_up(self._attempts):
            while self._is_awaited():
                await asyncio.sleep(_LOOK)

    def _is_awaited(self) -> bool:
        """Whether there is a step to wait for: none that waits for one of those that are held up."""
        if self._attempts.execution.stopped is not None:
            return False
        held_up = {place for attempts in list(self._ledger.held_up) for place in _places(attempts)}
        for active in list(self._ledger.execution.session.active.values()):
            if active.ledger is None or self._ledger not in active.ledger.calling():
                continue
            for step in list(active.in_flight):
                if (active.id, getattr(step, "seq", 0)) not in held_up and _is_paid(step, self._ledger):
                    return True
        return False


def _places(attempts: Attempts) -> Iterator[tuple[str, int]]:
    """Name a step and those that it was called in, by run and number."""
    yield attempts.execution.id, attempts.seq
    body: Body | None = attempts.frame.body
    while body is not None:
        yield body.execution.id, body.seq
        body = body.outer if body.outer is not None else body.execution.caller


def _is_paid(step: object, ledger: Ledger) -> bool:
    """Whether a body runs that costs something, as far as it is known: by its task's `cost=`, or from calls before."""
    record = getattr(step, "record", None)
    return (
        record is not None
        and record.status == StepStatus.STARTED
        and not record.flags & StepFlag.RETRYING
        and (bool(record.flags & StepFlag.COST) or record.task in ledger.paid_tasks)
    )
