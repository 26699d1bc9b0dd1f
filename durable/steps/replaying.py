"""A recorded step gives what it gave, value or exception, without executing anything."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from durable.errors import CorruptRecordError
from durable.records import StepFlag, StepRecord, StepStatus, step_key
from durable.runs.execution import warn_once
from durable.steps.failures import mark
from durable.steps.verdicts import code_changed
from durable.telling.observers import observers
from durable.values.exceptions import decode_exception

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition
    from durable.runs.execution import Execution

_SUCCEEDED = StepStatus.SUCCEEDED.value
_TOLD = ("run_id", "container", "branch", "label", "occurrence", "value")
_told = itemgetter(*map(StepRecord._fields.index, _TOLD))  # at a third of the price of the fields one by one


def is_given_at_once(execution: Execution, task: TaskDefinition, record: StepRecord) -> bool:
    """Whether nothing speaks against the stored result of a call: so it is with most calls of a resumed run."""
    return (
        record.status == _SUCCEEDED
        and not record.flags & execution.past.not_at_once
        and task.label in execution.code_seen
        and task.replays_at_once
    )


def give(execution: Execution, record: StepRecord) -> Any:
    """Give a stored result that nothing speaks against."""
    if observers:
        execution.tell_replayed(record)
    run, container, branch, label, occurrence, value = _told(record)
    return _stored(execution, value, run, step_key(container, branch, label, occurrence))


async def give_in_turn(execution: Execution, record: StepRecord) -> Any:
    """Do what `give` does when it is the turn of the recorded completion."""
    if record.done is not None:
        await execution.arrivals.turn(record.done)
    return give(execution, record)


def replay(execution: Execution, record: StepRecord) -> Any:
    """Give the stored result; raises the recorded NotSerializableError if it could not be stored."""
    if record.flags & StepFlag.VALUE_UNAVAILABLE:
        raise replay_failure(execution, record)
    assert record.value is not None
    return _stored(execution, record.value, record.run_id, record.key)


def _stored(execution: Execution, value: bytes, run: str, step: str) -> Any:
    try:
        if value[:1] == b"\0":  # most values stand in their rows
            value = execution.session.fetch(value, run=run, step=step)
        return execution.serializer.decode(value, run, step)
    except CorruptRecordError as error:
        raise execution.stop(error) from error


def recorded_changes(execution: Execution, record: StepRecord) -> Any:
    """Give what a step changed in the state of its run."""
    run, step = record.run_id, record.key
    assert record.value is not None
    try:
        data = execution.session.fetch(record.value, run=run, step=step)
        return execution.serializer.decode_beside(data, run=run, step=step)
    except CorruptRecordError as error:
        raise execution.stop(error) from error


def replay_failure(execution: Execution, record: StepRecord) -> BaseException:
    """Give the stored exception."""
    execution.replayed_failures.append(record.key)
    assert record.error is not None
    try:
        data = execution.session.fetch(record.error, run=execution.id, step=record.key)
        error = decode_exception(data, execution.serializer, run=execution.id, step=record.key)
    except CorruptRecordError as corrupt:
        raise execution.stop(corrupt) from corrupt
    mark(error, execution.id, record.seq)
    return error


def warn_of_new_code(execution: Execution, task: TaskDefinition, record: StepRecord) -> None:
    """Say once per task and run that its body changed since the results were recorded."""
    if task.label in execution.code_seen:
        return
    execution.code_seen.add(task.label)
    if task.code is not None and code_changed(record, task.code):
        is_idempotent = task.is_idempotent(execution.workflow.idempotent)
        way_out = "a new version=" if not is_idempotent else "on_code_change='rerun' or a new version="
        warn_once(
            "code",
            f"{execution.id}:{task.label}:{task.code_hex}",
            f"The body of task {task.full_name!r} changed since run {execution.id} recorded its results; they are "
            f"kept. To execute it again use {way_out}.",
        )
