"""What an execution of a run did, and what it did not have to do again: every number is counted from the records.

Replayed steps are counted when the run ends, so that replaying itself costs nothing more.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.costs.costs import Cost, cost_of, dollars, packed, total_of, unpacked
from durable.costs.recorded_costs import cost_steps, run_cost, saved_cost
from durable.errors import StoreError
from durable.records import ENDED, StepFlag, StepQuery
from durable.telling.notices import counted, lasted

if TYPE_CHECKING:
    from durable.records import RunRecord, StepRecord
    from durable.runs.execution import Execution
    from durable.steps.history import StepHistory
    from durable.stores.protocol import Store

_TALLY = "tally"  # in the outcome of a run


class Tally(NamedTuple):
    """Steps that were replayed and executed, what was spent, and what was not spent again: money and seconds of steps.

    A replayed step counts as one, whatever was called in it; `cost` is what the run cost in all its executions.
    """

    replayed: int = 0
    executed: int = 0
    seconds: float = 0.0
    spent: Cost = Cost()
    saved: Cost = Cost()
    cost: Cost = Cost()

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.replayed or self.spent or self.cost.unknown)

    def __str__(self) -> str:
        """Say it in one line: `412 replayed, 3 executed, $1.24 spent, $38.10 and 51 min not spent again`."""
        parts = [f"{self.replayed} replayed"] if self.replayed else []
        parts.append(f"{self.executed} executed")
        if self.spent.usd:
            parts.append(f"{dollars(self.spent.usd)} spent")
        saved = not_spent_again(self.saved, self.seconds)
        parts += [saved] if saved else []
        if unknown := self.cost.unknown:
            parts.append(f"the cost of {counted(unknown, 'execution')} of steps is unknown")
        return ", ".join(parts)

    def joined(self, below: Tally) -> Tally:
        """Add what was done in a run that this one called; its costs are counted here already."""
        return self._replace(
            replayed=self.replayed + below.replayed,
            executed=self.executed + below.executed,
            seconds=self.seconds + below.seconds,
            saved=self.saved + below.saved,
        )


def not_spent_again(saved: Cost, seconds: float) -> str:
    """Say what replaying saved; nothing of less than a second."""
    parts = [dollars(saved.usd)] if saved.usd else []
    parts += [lasted(seconds)] if seconds >= 1 else []
    return f"{' and '.join(parts)} not spent again" if parts else ""


def tally_of(execution: Execution) -> Tally:
    """Count what an execution did that is about to end; nothing is read for one that was neither resumed nor paid for."""
    store, ledger = execution.session.store, execution.ledger
    tally = Tally(executed=execution.executed - execution.repeated)
    is_resumed = bool(execution.past.last_event)
    try:
        if is_resumed:
            for history in list(execution.histories.values()):
                replayed, seconds = _replayed(store, execution, history)
                tally = tally._replace(replayed=tally.replayed + replayed, seconds=tally.seconds + seconds)
        if ledger is not None:
            execution.journal.flush_all()
            tally = tally._replace(
                spent=cost_of(ledger.spent),
                cost=run_cost(store, execution.id, alive=True),
                saved=_saved(store, execution.id, ledger.replayed) if ledger.replayed else Cost(),
            )
    except StoreError:  # the end of the run says so
        return tally
    for below in execution.tallies:
        tally = tally.joined(below)
    if execution.caller is not None:
        execution.caller.execution.tallies.append(tally)
    return tally


def _replayed(store: Store, execution: Execution, history: StepHistory) -> tuple[int, float]:
    """Count the steps below one body that were used as they were recorded, and their seconds."""
    epoch = execution.run.epoch
    last, unused, ahead = history.extent()
    found = store.replayed(execution.id, history.parent, last, epoch)
    steps, seconds = found.steps, found.seconds
    for sign, numbers in ((-1, unused), (1, ahead)):
        for number in numbers:
            for step in store.steps(execution.id, StepQuery(after=number - 1, limit=1)):
                if is_replayed(step, epoch):
                    steps, seconds = steps + sign, seconds + sign * took(step)
    return steps, seconds


def is_replayed(step: StepRecord, epoch: int) -> bool:
    """Whether a step that was used at this epoch gave what was recorded: it had a body, which was not executed."""
    return step.epoch < epoch and step.status in ENDED and not step.flags & StepFlag.NO_BODY


def took(step: StepRecord) -> float:
    """Seconds that the last execution of a step took."""
    return max(0.0, step.ended_at - step.started_at) if step.ended_at is not None else 0.0


def _saved(store: Store, run_id: str, replayed: set[int]) -> Cost:
    """Add up what the replayed steps had cost, with what was called in them."""
    costs = []
    for step in cost_steps(store, run_id):
        if step.seq in replayed or step.parent in replayed:
            replayed = replayed | {step.seq}
            costs.append(saved_cost(step))
    return total_of(costs)


def with_tally(run: RunRecord, tally: Tally) -> RunRecord:
    """Keep what an execution did with the run that it ends."""
    if not tally:
        return run
    kept = {
        "replayed": tally.replayed,
        "executed": tally.executed,
        "seconds": tally.seconds,
        "unknown": tally.cost.unknown,
        **{name: packed(cost.amounts) for name, cost in _costs(tally).items() if cost.amounts},
    }
    return replace(run, outcome=json.dumps(json.loads(run.outcome or "{}") | {_TALLY: kept}))


def _costs(tally: Tally) -> dict[str, Cost]:
    return {"spent": tally.spent, "saved": tally.saved, "cost": tally.cost}


def recorded_tally(run: RunRecord) -> Tally:
    """Give what the last execution of a run did that has ended."""
    kept: dict[str, Any] = json.loads(run.outcome or "{}").get(_TALLY, {})
    spent, saved, cost = (cost_of(unpacked(kept.get(name, {}))) for name in ("spent", "saved", "cost"))
    return Tally(
        kept.get("replayed", 0),
        kept.get("executed", 0),
        kept.get("seconds", 0.0),
        spent,
        saved,
        replace(cost, unknown=kept.get("unknown", 0)),
    )


def returned_savings(store: Store, run: RunRecord) -> str:
    """Say what a run that succeeded does not do again when its stored result is returned."""
    seconds = store.replayed(run.id, 0, -1, run.epoch + 1).seconds
    return not_spent_again(recorded_tally(run).cost, seconds)
