"""A run is removed with the runs that it called: nobody else can call those, and called again it would find them as they were.

One that is named by its workflow's `run_id=` may be meant by others, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.called_runs import called_runs
from durable.errors import RunInProgressError
from durable.records import StepFlag, StepQuery
from durable.runs.claims import Claiming, Opening
from durable.runs.copies import derived_id
from durable.runs.recorded_runs import is_under_way
from durable.step_pages import all_steps
from durable.telling.notices import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import RunRecord
    from durable.runs.sessions import Session
    from durable.stores.protocol import Store


def own_runs(store: Store, run: RunRecord) -> Iterator[RunRecord]:
    """Give the runs that a run called and that nobody else can call, and all below them: each before its caller."""
    if not (called := called_runs(store, run.id)):
        return
    steps = {step.key: step for step in all_steps(store, run.id, StepQuery(flags=StepFlag.CHILD_RUN))}
    for child in called:
        step = steps.get(child.parent_step or "")
        if step is None or child.lineage == derived_id(child.lineage, step):
            yield from own_runs(store, child)
            yield child


def remove(session: Session, run: RunRecord) -> None:
    """Remove a run and its own runs with their steps and values. Raises `RunInProgressError` while one of them executes."""
    below = list(own_runs(session.store, run))
    for each in (run, *below):
        if is_under_way(session, each):
            raise RunInProgressError(
                f"Run {each.id} is in progress on {each.host} with pid {each.pid}, so nothing was removed. Stop it first, "
                f"with: {shell_command('cancel', each.id)}",
                each.id,
            )
    with Opening(session, run):
        Claiming(session, run.id).act()  # so that nobody resumes it now
        for each in below:
            with Opening(session, each):
                Claiming(session, each.id).act()
                session.store.delete_run(each.id)
        session.store.delete_run(run.id)
