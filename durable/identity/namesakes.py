"""No function is given what another one of the same name has done, and no object what another of its type has.

Closures, lambdas, partials and wrappers without `functools.wraps` are called like the function that made them, so two of
them may make calls that say the same. So may two objects that count by their type alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from weakref import ref

from durable.declarations import registry
from durable.errors import DefinitionError, FingerprintError
from durable.identity.run_inputs import attributes_of, counts_by_type
from durable.runs.execution import warn_once
from durable.steps.verdicts import recorded_code

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.identity.calls import Call
    from durable.records import StepRecord
    from durable.runs.execution import Execution
    from durable.steps.matching import Match

_MOST_OBJECTS = 10_000  # calls of one run whose objects are remembered


def refuse_confusion(match: Match) -> None:
    """Raise `DefinitionError` or `FingerprintError` if another function or object made the same call in this execution."""
    if match.task.is_anonymous:
        _refuse_equal_call(match)
    if match.call.instance is not None:
        refuse_other_object(match.execution, match.task, match.call, match.record)


def _refuse_equal_call(match: Match) -> None:
    """Raise `DefinitionError` if another function of this name made the same call in this execution."""
    task, calls = match.task, match.execution.anonymous_calls
    assert task.code is not None
    if calls.setdefault(match.call.content, task.code) != task.code:
        raise _error(f"Task {task.full_name!r}", "was called with equal arguments")


def refuse_foreign_record(task: TaskDefinition, record: StepRecord) -> None:
    """Raise `DefinitionError` if a record is that of another function of this name that lives."""
    code = recorded_code(record)
    if code != task.code_hex and any(other.code_hex == code for other in registry.tasks.namesakes(task)):
        raise _error(f"Task {task.full_name!r}", f"recorded step {record.key!r} with equal arguments")


def refuse_other_object(execution: Execution, task: TaskDefinition, call: Call, record: StepRecord | None) -> None:
    """Raise `FingerprintError` if another object of the type made the same call of a method; warns if it may be repeated."""
    objects = execution.objects
    if task.key is not None or not counts_by_type(call):
        return
    known = objects.get(call.content)
    if known is None:
        if len(objects) < _MOST_OBJECTS:
            with contextlib.suppress(TypeError):  # an object of which no weak reference can be made
                objects[call.content] = ref(call.instance), attributes_of(call.instance)
        return
    reference, attributes = known
    other = reference()
    if other is not None:
        attributes = attributes_of(other)
    if other is call.instance or attributes == attributes_of(call.instance):
        return
    kind = type(call.instance).__qualname__
    problem = (
        f"two objects of type {kind} make the same call in one run. They count by their type alone, so their results are "
        f"told apart by nothing but the order of the calls. Give {kind} a __durable_key__(), or name the call with key=."
    )
    if task.is_idempotent(execution.workflow.idempotent) or record is not None:
        warn_once("objects", task.label, f"Task {task.full_name!r}: {problem}")
    else:
        raise FingerprintError(f"Task {task.full_name!r} was not executed: {problem}")


def refuse_foreign_run(workflow: WorkflowDefinition, run_id: str, code: str | None) -> None:
    """Raise `DefinitionError` if a run is that of another workflow of this name that lives; warns if it may be."""
    if not workflow.is_anonymous or code in (None, workflow.code_hex):
        return
    if any(other.code_hex == code for other in registry.workflows.namesakes(workflow)):
        raise _error(f"Workflow {workflow.full_name!r}", f"recorded run {run_id} with equal inputs")
    warn_once(
        "held",
        f"{run_id}:{workflow.code_hex}",
        f"The body of workflow {workflow.full_name!r}, or what it holds of the variables around it, changed since run "
        f"{run_id} was recorded; the run is kept. Variables do not count as inputs: pass them as arguments.",
    )


def _error(who: str, what: str) -> DefinitionError:
    return DefinitionError(
        f"{who} was not executed: another function of this program has the same name, does something else and {what}, so "
        f"their results could not be told apart. Pass what differs as an argument, give each a name=, or let the decorator "
        f"that makes them use functools.wraps."
    )
