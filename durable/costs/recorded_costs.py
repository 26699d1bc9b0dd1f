"""What runs cost, read off their records: each amount counts once, in the run that spent it and in those that called it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.called_runs import called_runs
from durable.costs.costs import Cost, cost_of, total_of, unpacked
from durable.records import StepFlag, StepQuery, StepStatus
from durable.step_pages import all_steps
from durable.steps.details import Details

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import RunRecord, StepRecord
    from durable.stores.protocol import Store


def step_cost(step: StepRecord, *, alive: bool = False) -> Cost:
    """Give what a step cost its run, without steps below it; `alive`: whether somebody executes the run now."""
    if not step.flags & StepFlag.COST:
        return Cost()
    details = Details.read(step.details)
    if details.spent is None:
        return Cost()
    was_killed = step.status == StepStatus.STARTED and not step.flags & StepFlag.RETRYING and not alive
    unknown = details.unknown + bool(step.flags & StepFlag.COST_UNKNOWN) + was_killed
    return cost_of(unpacked(details.spent), unknown)


def saved_cost(step: StepRecord) -> Cost:
    """Give what it would cost to execute a step again: what it cost here, or in the run that it was copied from."""
    details = Details.read(step.details)
    return cost_of(unpacked(details.spent or details.elsewhere or {}))


def cost_steps(store: Store, run_id: str) -> Iterator[StepRecord]:
    """Read the steps of a run that cost something, or hold such that do."""
    return all_steps(store, run_id, StepQuery(flags=StepFlag.COST))


def own_steps(store: Store, run_id: str, children: list[RunRecord]) -> Iterator[StepRecord]:
    """Read the steps whose amounts are the run's own: of those that are runs, only where these are gone."""
    present = {child.parent_step for child in children}
    for step in cost_steps(store, run_id):
        if not step.flags & StepFlag.CHILD_RUN or step.key not in present:
            yield step


def run_cost(store: Store, run_id: str, *, alive: bool = False) -> Cost:
    """Give what a run cost, in all its executions and with the runs that it called."""
    children = called_runs(store, run_id)
    own = total_of(step_cost(step, alive=alive) for step in own_steps(store, run_id, children))
    return total_of([own, *(run_cost(store, child.id, alive=alive) for child in children)])


def child_cost(store: Store, step: StepRecord) -> Cost:
    """Give what the run that a step is cost."""
    children = [child for child in called_runs(store, step.run_id) if child.parent_step == step.key]
    return total_of(run_cost(store, child.id, alive=True) for child in children)
