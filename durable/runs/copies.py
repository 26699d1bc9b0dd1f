"""What another run can begin with: the finished steps of a run, its doubts, and the places of all others.

A copied step keeps its number, its place and the idempotency key that the outside world knows it by. What it keeps of a
doubt is the doubt: no copy makes a step that may have happened look new.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError, StoreFailedError
from durable.identity.step_keys import content_digest, idempotency_key, is_items_container
from durable.records import Batch, StepFlag, StepRecord, StepStatus
from durable.step_pages import all_steps
from durable.steps.details import Details
from durable.undoing.outstanding import outstanding_in
from durable.undoing.undoables import moved_arguments
from durable.values.exceptions import move_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable.records import RunRecord
    from durable.runs.sessions import Session
    from durable.stores.protocol import Store

_OUTCOME = StepFlag.STATE | StepFlag.VALUE_UNAVAILABLE | StepFlag.NO_EFFECT | StepFlag.RESOLVED
_OUTCOME |= StepFlag.COST_UNKNOWN | StepFlag.LEFT
FINISHED = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED, StepStatus.UNDONE)


def copyable(records: list[StepRecord], is_copied: Callable[[StepRecord], bool] = lambda _: True) -> list[StepRecord]:
    """Give the steps as another run may begin with them: items of generators are not copied, so those are executed again."""
    generators = {record.parent for record in records if is_items_container(record.container)}
    for step in records:
        if step.seq in generators and step.flags & StepFlag.NOT_IDEMPOTENT and is_copied(step):
            raise ConfigurationError(
                f"Step {step.key!r} of run {step.run_id} is a generator that is not idempotent. Its items are not copied, so "
                f"it would have to be executed again. Nothing was done. Fork from a step before it, or resume the run."
            )
    steps = (step for step in records if not is_items_container(step.container))
    return [opened(step) if step.seq in generators else step for step in steps]


def carried(
    steps: Iterable[StepRecord], is_kept: Callable[[StepRecord], bool], is_doubt: Callable[[StepRecord], bool]
) -> list[StepRecord]:
    """Give each step as the other run begins with it: kept, in doubt, or to be executed again in its old place.

    None is left out, since a call that is not recorded is a new one, which may stand in the way of others.
    """
    return [_in_doubt(step) if is_doubt(step) else step if is_kept(step) else opened(step) for step in steps]


def _in_doubt(step: StepRecord) -> StepRecord:
    return _undecided(step, step.flags & ~(_OUTCOME | StepFlag.RETRYING))


def opened(step: StepRecord) -> StepRecord:
    """Give a step as one between two attempts: it is executed again, and finished steps in it are not."""
    details = replace(Details.read(step.details), tries=0, until=None, pause=None, retry=(), expires=None, first=None)
    step = _undecided(step, (step.flags & ~_OUTCOME) | StepFlag.RETRYING)
    return step._replace(attempts=max(step.attempts, 1), details=details.write())


def _undecided(step: StepRecord, flags: int) -> StepRecord:
    return step._replace(
        status=StepStatus.STARTED, flags=flags, interruptions=0, ended_at=None, done=None, value=None, error=None
    )


def moved(session: Session, step: StepRecord, run_id: str) -> StepRecord:
    """Give a stored step as one of another run, with its values sealed for that one."""
    serializer, source, key = session.serializer, step.run_id, step.key
    value, error = step.value, step.error
    if value is not None:
        data = session.fetch(value, run=source, step=key)
        value = serializer.seal(serializer.unseal(data, run=source, step=key), run=run_id, step=key)
    if error is not None:
        error = move_exception(session.fetch(error, run=source, step=key), serializer, run=source, step=key, to=run_id)
    details = _with_cost_elsewhere(step, moved_arguments(serializer, step, run_id))
    return named(step._replace(value=value, error=error, details=details), run_id)


def _with_cost_elsewhere(step: StepRecord, details: bytes | None) -> bytes | None:
    """Note what a step cost as what another run spent: copying it costs nothing."""
    if not step.flags & StepFlag.COST:
        return details
    found = Details.read(details)
    return replace(found, spent=None, elsewhere=found.spent or found.elsewhere, unknown=0).write()


def named(step: StepRecord, run_id: str) -> StepRecord:
    """Give a step another run, and note the idempotency key that it had, unless it is executed again in any case."""
    if step.flags & (StepFlag.RETRYING | StepFlag.ALWAYS):
        return step._replace(run_id=run_id, epoch=1, flags=step.flags & ~StepFlag.COPIED)
    details = replace(Details.read(step.details), key=idempotency_key(step))
    return step._replace(run_id=run_id, epoch=1, flags=step.flags | StepFlag.COPIED, details=details.write())


def derived_id(lineage: str, step: StepRecord) -> str:
    """Give the id that the run has which a step is, if ids of its kind are derived."""
    digest = content_digest(step.run_id.encode(), idempotency_key(step).encode())
    return f"{lineage.rpartition('-')[0]}-{digest.hex()[:16]}"


def to_be_undone(store: Store, child: RunRecord) -> list[StepRecord] | None:
    """Give the steps of a run that one of the finished steps is, if something in it is undone when the caller fails.

    One that could not be called again afterwards, because its generators cannot be copied, is left to its caller.
    """
    if not any(outstanding_in(store, child)):
        return None
    try:
        return copyable(list(all_steps(store, child.id)))
    except ConfigurationError:
        return None


def plant(session: Session, runs: Iterable[tuple[RunRecord, list[StepRecord]]]) -> bool:
    """Store new runs with their steps, owned by nobody, in one transaction; False if one of them exists already."""
    owner = session.store.owner
    planted = [(replace(run, epoch=1, owner=owner), steps) for run, steps in runs]
    batch = Batch(
        created=tuple(run for run, _ in planted),
        steps=tuple(step for _, steps in planted for step in steps),
        ended=tuple(replace(run, owner="") for run, _ in planted),
        fences={run.id: (1, owner) for run, _ in planted},
    )
    try:
        return not session.store.write(batch)
    except StoreFailedError as error:
        raise session.journal.give_up(error) from error
