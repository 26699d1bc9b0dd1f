"""A process that a program spawns begins as plain Python: what was made a task from outside is a plain function there, and
that is said. (A forked one knows the tasks, and warns or refuses by itself.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.runs.execution import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def warn_of_spawned_processes(names: Iterable[str]) -> None:
    """Warn when `multiprocessing` starts a process that does not know these tasks."""
    message = (
        f"multiprocessing starts a process by 'spawn' or 'forkserver', where nothing is recorded: {', '.join(names)} are not "
        f"tasks in it. Make a task of the function that hands out the work."
    )

    import wrapt  # noqa: PLC0415 -- not quick to import, and most programs need none

    def warn(prepare: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        warn_once("spawned", "", message)
        return prepare(*args, **kwargs)

    def hook(module: ModuleType) -> None:
        wrapt.wrap_function_wrapper(module, "get_preparation_data", warn)

    wrapt.register_post_import_hook(hook, "multiprocessing.spawn")
