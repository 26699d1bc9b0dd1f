"""A function that became a task by its name: inside a run as if it were decorated, outside the plain function."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.declarations.wrappers import Task, caller_of
from durable.runs.execution import FRAME
from durable.runs.sessions import has_active_runs
from durable.steps.outside import notebook_here

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def _call(
    inside: Callable[..., Any],
    definition: TaskDefinition,
    function: Callable[..., Any],
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    # a thread beside a run is told, as for every task
    if FRAME.get() is None and not has_active_runs() and notebook_here() is None:
        return function(*args, **kwargs)
    return inside(definition, function, instance, args, kwargs)


class PatchedTask(Task[P, R]):
    """A task that nobody decorated, so a call outside a run is nothing to warn of."""

    def __init__(self, definition: TaskDefinition) -> None:
        """Wrap the function of a definition."""
        super().__init__(definition, partial(_call, caller_of(definition), definition))

    @classmethod
    def made(cls, function: Callable[P, R], options: dict[str, Any]) -> PatchedTask[P, R]:
        """Make a function a task with these options of `@task`."""
        definition = TaskDefinition(function=function, **options)
        registry.tasks.add(definition)
        return cls(definition)

    def with_options(self, **options: Any) -> PatchedTask[P, R]:
        """Return the same task with some options changed, for one call; see `Task.with_options`."""
        return PatchedTask(self._self_definition.with_options(**options))
