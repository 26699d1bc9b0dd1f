"""What is needed to undo a step is known before its body starts: the compensation, and the arguments of the call.

Both go into the step's record, so that a run can be undone by a process that never made the call. What cannot be
stored, and what was recorded before the task had a compensation, is held as long as the execution lasts.
"""

from __future__ import annotations

import inspect
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable.concurrency.transfers import UnsentResult
from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.errors import ConfigurationError
from durable.identity.secrets_of_calls import holds_secrets
from durable.records import StepFlag
from durable.runs.execution import warn_once
from durable.steps.details import Details
from durable.undoing.outstanding import left_to_source
from durable.values.serializers import Serializer, Unserializable

if TYPE_CHECKING:
    from durable.declarations.definitions import Definition
    from durable.identity.calls import Call
    from durable.records import StepRecord
    from durable.runs.execution import Execution

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(slots=True)
class Undoable:
    """What this execution knows of a step with a compensation: its function, and what the record does not hold."""

    undo: TaskDefinition | None
    is_flagged: bool
    arguments: Arguments | None = None
    results: tuple[Any, ...] = ()


def describe(execution: Execution, call: Call, seq: int, key: str, details: bytes) -> bytes:
    """Note a step that is about to be executed, and give its details with what its compensation needs."""
    undo = call.task.undo if isinstance(call.task, TaskDefinition) else None
    undoable = execution.undoables[seq] = Undoable(undo, is_flagged=True)
    if undo is None:
        return details
    arguments = _arguments(call)
    try:
        data = execution.serializer.encode(arguments, run=execution.id, step=_place(key))
        if holds_secrets(call):
            data = execution.serializer.lock(data, run=execution.id, step=_place(key))
    except Unserializable as problem:
        undoable.arguments = arguments
        data = b""
        warn_once(
            "undo",
            call.task.label,
            f"Task {call.task.full_name!r} has undo=, and its arguments cannot be stored ({problem}): they are at hand "
            f"as long as this process lives, but after a crash in the middle of undoing nobody can call {undo.qualname}. "
            f"Give the task what can be stored, and make the rest inside it.",
        )
    recorded = (undo.at(execution.anchor).full_name, b64encode(data).decode())
    return replace(Details.read(details), undo=recorded).write()


def note_replayed(execution: Execution, call: Call, record: StepRecord) -> None:
    """Note a step that is replayed: its compensation is the one that the task has now."""
    assert isinstance(call.task, TaskDefinition)
    recorded = Details.read(record.details).undo
    arguments = None if recorded is not None and recorded[1] else _arguments(call)
    is_flagged = bool(record.flags & (StepFlag.UNDO | StepFlag.CHILD_RUN))
    execution.undoables[record.seq] = Undoable(call.task.undo, is_flagged, arguments)


def keep_result(execution: Execution, seq: int, value: Any) -> None:
    """Hold a result that could not be stored, if it is here."""
    if not isinstance(value, UnsentResult):
        execution.undoables[seq].results = (value,)


def compensation_of(execution: Execution, step: StepRecord) -> tuple[TaskDefinition, tuple[Any, ...], dict[str, Any]]:
    """Give the compensation of a step with its arguments: the result first, then those of the call.

    Raises `ConfigurationError` if this program has no such function. Where something is needed that was not stored, the
    compensation is one that fails and says so.
    """
    child = left_to_source(execution.journal.store, execution.run, step) if step.flags & StepFlag.CHILD_RUN else None
    if child is not None:
        return _impossible(
            step.task.partition("@")[0],
            f"Step {step.key!r} of run {step.run_id} is run {child.id}, which belongs to run {child.parent_run} and is undone "
            f"when that one fails. Undo it by hand if it is to be undone now.",
        )
    known = execution.undoables.get(step.seq) or Undoable(None, is_flagged=True)
    name, stored = Details.read(step.details).undo or ("", "")
    anchor = execution.anchor
    undo = known.undo or _find(step, name, anchor)
    if undo is None:
        raise ConfigurationError(
            f"Step {step.key!r} of run {execution.id} has to be undone with {name or 'its undo='}, which this program does "
            f"not define. Resume the run with the program that does."
        )
    undo = undo.at(anchor)
    if step.value is None and not known.results:
        return _lost(undo, step, "result")
    result = known.results[0] if known.results else _result(execution, step)
    if undo.takes_one:
        return undo, (result,), {}
    if known.arguments is None and not stored:
        return _lost(undo, step, "arguments")
    args, kwargs = known.arguments or _stored_arguments(execution, step, stored)
    return undo, (result, *args), kwargs


def _lost(undo: TaskDefinition, step: StepRecord, what: str) -> tuple[TaskDefinition, tuple[Any, ...], dict[str, Any]]:
    return _impossible(
        undo.full_name,
        f"Step {step.key!r} of run {step.run_id} cannot be undone by {undo.qualname}: the {what} of the call could not "
        f"be stored, and the process that had them has ended. Undo it by hand.",
    )


def _impossible(name: str, why: str) -> tuple[TaskDefinition, tuple[Any, ...], dict[str, Any]]:
    def fail() -> None:
        raise ConfigurationError(why)

    return TaskDefinition(function=fail, name=name), (), {}


def _place(key: str) -> str:
    return f"{key} (arguments)"


def _arguments(call: Call) -> Arguments:
    return ordered_arguments(call.task, call.args_with_self, call.kwargs)


def ordered_arguments(task: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments in the order of the parameters, defaults included, so that names do not matter but where they must."""
    signature = inspect.signature(task.plain)
    parameters = list(signature.parameters.values())[task.takes_self :]
    bound = signature.replace(parameters=parameters).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args, bound.kwargs


def _result(execution: Execution, step: StepRecord) -> Any:
    assert step.value is not None
    run, key = step.run_id, step.key
    value = execution.session.fetch(step.value, run=run, step=key)
    return execution.serializer.decode(value, run=run, step=key)


def _stored_arguments(execution: Execution, step: StepRecord, stored: str) -> Arguments:
    found: Any = execution.serializer.decode(b64decode(stored), run=step.run_id, step=_place(step.key))
    args, kwargs = found
    return args, kwargs


def moved_arguments(serializer: Serializer, step: StepRecord, to: str) -> bytes | None:
    """Give the details of a step of another run: the arguments of its compensation are sealed for that one."""
    details = Details.read(step.details)
    if details.undo is None or not details.undo[1]:
        return step.details
    name, stored = details.undo
    place = _place(step.key)
    data = serializer.seal(serializer.unseal(b64decode(stored), run=step.run_id, step=place), run=to, step=place)
    return replace(details, undo=(name, b64encode(data).decode())).write()


def _find(step: StepRecord, name: str, anchor: str | None) -> TaskDefinition | None:
    """Find a compensation by the task that has it now, else by its recorded name."""
    task = registry.tasks.get(step.task.partition("@")[0], anchor)
    if task is not None and task.undo is not None:
        return task.undo
    return registry.tasks.get(name, anchor) or _loaded(name, anchor)


def _loaded(name: str, anchor: str | None) -> TaskDefinition | None:
    """Find a function in what is imported already: importing could execute a script."""
    module, _, function_name = name.rpartition(".")
    for loaded in (sys.modules.get(module), sys.modules.get("__main__")):
        function = getattr(loaded, function_name, None)
        if callable(function) and (found := TaskDefinition(function=function).at(anchor)).full_name == name:
            return found
    return None
