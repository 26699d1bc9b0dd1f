"""A fork is a new run that begins with what was finished before some step; the run that it comes from stays as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.declarations.naming import check_run_id
from durable.errors import ConfigurationError, NotFoundError
from durable.identity.run_calls import sealed_inputs
from durable.records import RunFilter, StepFlag, StepStatus
from durable.runs import sessions
from durable.runs.checkpoints import is_checkpoint
from durable.runs.copies import carried, moved, plant
from durable.steps.verdicts import is_tried_again
from durable.telling.explaining import is_left_in_doubt, recorded_past

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.records import RunRecord, StepRecord
    from durable.runs.sessions import Session

_KEPT = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.UNDONE)


def fork_point(steps: list[StepRecord], name: str, find_step: Callable[[str], StepRecord]) -> StepRecord:
    """Find a step by its key or number, a checkpoint by its name, or a step by the beginning of its key."""
    if not isinstance(name, str):
        raise ConfigurationError(
            f"A fork begins at a step key, a #number or the name of a checkpoint, not at {name!r}."
        )
    exact = [step for step in steps if name in (step.key, f"#{step.seq}")]
    found = exact or [step for step in steps if name and is_checkpoint(step, name)]
    if not found:
        return find_step(name)
    if len(found) > 1:
        shown = ", ".join(f"#{step.seq} {step.key}" for step in found[:5])
        raise NotFoundError(f"{name!r} is the name of several steps: {shown}. Name one by its #number.")
    return found[0]


def fork_run(session: Session, run: RunRecord, steps: list[StepRecord], point: StepRecord) -> str:
    """Make a run that keeps what was finished before this step; gives its id."""
    past = recorded_past(run, steps)
    kept = carried(
        (step for step in steps if step.seq < point.seq),
        lambda step: (
            step.status in _KEPT
            and step.done is not None
            and step.done < point.seq
            and (step.status == StepStatus.SUCCEEDED or not is_tried_again(step, past))
        ),
        lambda step: is_left_in_doubt(step, past),
    )
    return _plant_fork(session, run, point, kept)


def _plant_fork(session: Session, run: RunRecord, point: StepRecord, kept: list[StepRecord]) -> str:
    now = sessions.clock()
    entry = json.loads(run.entry) | {"forked_from": run.id, "forked_at": point.key}
    number = 1 + len(session.store.runs(RunFilter(prefix=f"{run.id}-fork-")))
    while True:
        run_id = check_run_id(f"{run.id}-fork-{number}")
        fork = replace(
            run,
            id=run_id,
            lineage=run_id,
            created_at=now,
            updated_at=now,
            ended_at=None,
            parent_run=None,
            parent_step=None,
            entry=json.dumps(entry),
            inputs=sealed_inputs(session, run, run_id),
            result=None,
            error=None,
            outcome="{}",
            mark=0,
        )
        if session.store.load_run(run_id) is None and plant(
            session, [(fork, [moved(session, step, run_id) for step in kept])]
        ):
            return run_id
        number += 1


def executed_again(steps: list[StepRecord], point: StepRecord) -> list[StepRecord]:
    """List the steps of a run that a fork executes again and that are not idempotent."""
    return [
        step
        for step in steps
        if step.flags & StepFlag.NOT_IDEMPOTENT
        and step.status != StepStatus.STARTED
        and (step.done or 0) >= point.seq
        and not step.flags & StepFlag.NO_EFFECT
    ]
