"""What is outstanding when a run fails: what its finished steps did, in it and in the runs that it called.

Whatever became of a run that was called, what finished in it holds as long as nobody has undone it.
"""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from durable.called_runs import called_runs, runs_by_step
from durable.records import RunRecord, StepFlag, StepQuery, StepRecord, StepStatus
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
    children = runs_by_step(store, execution.id) if unfinished else {}
    for step in unfinished:
        if (child := children.get(step.key)) is None:
            continue
        steps = list(outstanding_in(store, child))
        doubtful += [(each, run) for each, run in steps if each.status != StepStatus.SUCCEEDED]
        if steps or is_being_undone(child):
            finished.append((step.done or inf, step.seq))
    return Outstanding([seq for _, seq in sorted(finished, reverse=True)], doubtful)


def left_to_source(store: Store, run: RunRecord, step: StepRecord) -> RunRecord | None:
    """Find the run that a copied step is, and that was not copied with it, if something in it would be undone here."""
    origin: RunRecord | None = run
    while origin is not None:
        entry = json.loads(origin.entry)
        source = entry.get("forked_from") or entry.get("hydrated_from")
        origin = store.load_run(source) if source else None
        child = runs_by_step(store, source).get(step.key) if source else None
        if child is not None:
            return child if any(outstanding_in(store, child)) else None
    return None


def load(execution: Execution, seq: int) -> StepRecord:
    """Read a step of the run."""
    return step_at(execution.journal.store, execution.id, seq)


def _steps_to_undo(execution: Execution) -> Iterator[StepRecord]:
    yield from _not_compensating(all_steps(execution.journal.store, execution.id, StepQuery(flags=TO_UNDO)))
    for seq, undoable in list(execution.undoables.items()):
        if not undoable.is_flagged:
            yield load(execution, seq)


def outstanding_in(store: Store, run: RunRecord) -> Iterator[tuple[StepRecord, RunRecord]]:
    """Give what is outstanding in a run that did not end well, and in those that it called."""
    query = StepQuery(flags=StepFlag.UNDO, statuses=(StepStatus.SUCCEEDED, *_MAYBE))
    for step in _not_compensating(all_steps(store, run.id, query)):
        if step.status == StepStatus.SUCCEEDED or _is_doubtful(step):
            yield step, run
    for child in called_runs(store, run.id):
        yield from outstanding_in(store, child)


def _not_compensating(steps: Iterable[StepRecord]) -> Iterator[StepRecord]:
    return (step for step in steps if COMPENSATION not in step.container)


def _is_doubtful(step: StepRecord) -> bool:
    return step.status in _MAYBE and bool(step.flags & StepFlag.NOT_IDEMPOTENT) and not step.flags & SETTLED
