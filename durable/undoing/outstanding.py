"""What is outstanding when a run fails: what its finished steps did, in it and in the runs that it called.

Whatever became of a run that was called, what finished in it holds as long as nobody has undone it.
"""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from durable.records import RunFilter, RunRecord, StepFlag, StepQuery, StepRecord, StepStatus
from durable.step_pages import all_steps, step_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from durable.runs.execution import Execution
    from durable.stores.protocol import Store

COMPENSATION = "~undo"  # ends the container of a compensation; names and keys hold no such character
PENDING = "undo"  # in the outcome of a run that is being undone: the number of the event that began it
SETTLED = StepFlag.NO_EFFECT | StepFlag.RESOLVED | StepFlag.RETRYING
TO_UNDO = StepFlag.UNDO | StepFlag.CHILD_RUN
_MAYBE = (StepStatus.STARTED, StepStatus.FAILED, StepStatus.CANCELLED)


class Outstanding(NamedTuple):
    """The numbers of steps that are to be undone, the last one first, and steps of which nobody knows, with their runs."""

    finished: list[int]
    doubtful: list[tuple[StepRecord, RunRecord]]


def is_being_undone(run: RunRecord) -> bool:
    """Whether an earlier execution of a run failed and did not get to the end of its compensations."""
    return f'"{PENDING}"' in run.outcome and PENDING in json.loads(run.outcome)


def look(execution: Execution) -> Outstanding:
    """Find what is to be undone, and what nobody knows whether to undo."""
    execution.journal.flush_all()
    store, finished, others = execution.journal.store, [], []
    for step in _steps_to_undo(execution):
        if step.status == StepStatus.SUCCEEDED:
            finished.append((float(step.done or 0), step.seq))
        else:
            others.append(step)
    doubtful = [(step, execution.run) for step in others if _is_doubtful(step)]
    unfinished = [step for step in others if step.flags & StepFlag.CHILD_RUN]
    children = called_runs(store, execution.id) if unfinished else {}
    for step in unfinished:
        if (child := children.get(step.key)) is None:
            continue
        steps = list(_outstanding_in(store, child))
        doubtful += [(each, run) for each, run in steps if each.status != StepStatus.SUCCEEDED]
        if steps or is_being_undone(child):
            finished.append((step.done or inf, step.seq))
    return Outstanding([seq for _, seq in sorted(finished, reverse=True)], doubtful)


def called_runs(store: Store, run_id: str) -> dict[str | None, RunRecord]:
    """The runs that steps of a run are, by the keys of the steps."""
    return {summary.run.parent_step: summary.run for summary in reversed(store.runs(RunFilter(parent_run=run_id)))}


def load(execution: Execution, seq: int) -> StepRecord:
    """Read a step of the run."""
    return step_at(execution.journal.store, execution.id, seq)


def _steps_to_undo(execution: Execution) -> Iterator[StepRecord]:
    yield from _not_compensating(all_steps(execution.journal.store, execution.id, StepQuery(flags=TO_UNDO)))
    for seq, undoable in list(execution.undoables.items()):
        if not undoable.is_flagged:
            yield load(execution, seq)


def _outstanding_in(store: Store, run: RunRecord) -> Iterator[tuple[StepRecord, RunRecord]]:
    """Give what is outstanding in a run that did not end well, and in those that it called."""
    query = StepQuery(flags=StepFlag.UNDO, statuses=(StepStatus.SUCCEEDED, *_MAYBE))
    for step in _not_compensating(all_steps(store, run.id, query)):
        if step.status == StepStatus.SUCCEEDED or _is_doubtful(step):
            yield step, run
    for summary in store.runs(RunFilter(parent_run=run.id)):
        yield from _outstanding_in(store, summary.run)


def _not_compensating(steps: Iterable[StepRecord]) -> Iterator[StepRecord]:
    return (step for step in steps if COMPENSATION not in step.container)


def _is_doubtful(step: StepRecord) -> bool:
    return step.status in _MAYBE and bool(step.flags & StepFlag.NOT_IDEMPOTENT) and not step.flags & SETTLED
