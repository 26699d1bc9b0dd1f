"""What is stored of results, and said of those that cannot be stored: a replay gives what was recorded, or that error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import DefinitionError, NotSerializableError
from durable.runs.execution import warn_once
from durable.runs.states import changes_secrets
from durable.steps.doubts import resolve_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from durable.declarations.definitions import TaskDefinition
    from durable.runs.execution import Execution
    from durable.steps.step_writers import StepWriter
    from durable.values.serializers import Unserializable


def kept(attempts: StepWriter, data: bytes, changes: Sequence[Any] = ()) -> bytes:
    """Give what is stored of a result: of a sensitive step, nothing that can be read without the key."""
    if not attempts.task.sensitive and not changes_secrets(changes):
        return data
    if changes and attempts.execution.state is not None:
        attempts.execution.state.holds_secrets = True
    return attempts.execution.serializer.lock(data, run=attempts.execution.id, step=attempts.key)


def value_unavailable(execution: Execution, key: str, error: Unserializable) -> NotSerializableError:
    """Say that a step succeeded and why its result is not stored."""
    return NotSerializableError(
        f"Step {key!r} of run {execution.id} succeeded, but its result cannot be stored: "
        f"result{error.path} is a {error.culprit} ({error.reason}). It will not be executed again. Return only what "
        f"can be stored; then set this record aside with version=, or decide its result with: "
        f"{resolve_command(execution.id, key)} --happened 'JSON'."
    )


def not_awaited(task: TaskDefinition) -> DefinitionError:
    """Say that a function that is none of `async def` gave a coroutine, which nobody would await."""
    return DefinitionError(
        f"Task {task.full_name!r} gave a coroutine, which nobody awaits: its function is no `async def`, or a decorator "
        f"between it and @task hides that it is one. Put @task right above the function, below the other decorators, or let "
        f"their wrapper be `async def` and await what it wraps; then call again."
    )


def warn_of_mutation(task: TaskDefinition, argument: str) -> None:
    """Say once per task that it changed an argument."""
    warn_once(
        "mutation",
        task.label,
        f"Task {task.full_name!r} changed its argument {argument!r} in place. A replay returns the stored result and "
        f"cannot repeat the change: return the new value instead.",
    )
