"""A recorded step gives what it gave, value or exception, without executing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.errors import CorruptRecordError
from durable.records import StepFlag, StepStatus
from durable.runs.execution import warn_once
from durable.steps.failures import mark
from durable.steps.verdicts import code_changed
from durable.telling.observers import observers
from durable.values.exceptions import decode_exception

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition
    from durable.records import StepRecord
    from durable.runs.execution import Execution
    from durable.steps.matching import Match

_SUCCEEDED = StepStatus.SUCCEEDED.value
_NOT_AT_ONCE = StepFlag.VALUE_UNAVAILABLE | StepFlag.STATE | StepFlag.COST


def replay_at_once(match: Match, record: StepRecord) -> Any:
    """Give the stored result if nothing speaks against it, else NotImplemented: most calls of a resumed run."""
    task = match.task
    if (
        record.status != _SUCCEEDED
        or record.flags & _NOT_AT_ONCE
        or task.label not in match.execution.code_seen
        or not task.replays_at_once
    ):
        return NotImplemented
    if observers:
        match.execution.tell_replayed(record)
    return replay(match.execution, record)


def replay(execution: Execution, record: StepRecord) -> Any:
    """Give the stored result; raises the recorded NotSerializableError if it could not be stored."""
    if record.flags & StepFlag.VALUE_UNAVAILABLE:
        raise replay_failure(execution, record)
    value, run, step = record.value, record.run_id, record.key
    assert value is not None
    try:
        if value[:1] == b"\0":  # most values stand in their rows
            value = execution.session.fetch(value, run=run, step=step)
        return execution.serializer.decode(value, run=run, step=step)
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
