"""What takes the calls of tasks that are made outside any run: a notebook, where one is open; elsewhere nothing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.runs.execution import Frame

IN_THREADS = (  # how code that starts threads itself gives them the run
    "A thread carries a run if it is started with contextvars.copy_context().run: "
    "Thread(target=copy_context().run, args=(function, ...)), or pool.submit(copy_context().run, function, ...)."
)


class Notebook(Protocol):
    """Something whose code is no workflow, but whose calls of tasks are steps of a run all the same."""

    def is_here(self) -> bool:
        """Whether code that carries no run context is the notebook's."""
        ...

    def call(
        self,
        task: TaskDefinition,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a task as a step of the notebook's run."""
        ...

    def check_workflow(self, workflow: WorkflowDefinition) -> None:
        """Refuse a workflow that has to be named after the notebook while nobody knows how that is called."""
        ...

    def frame(self) -> Frame:
        """Give the place that its code stands in."""
        ...

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Give the calls in a block a scope of this name."""
        ...


_notebook: Notebook | None = None


def set_notebook(notebook: Notebook | None) -> None:
    """Let a notebook take the calls of this process; None: nothing takes them."""
    global _notebook  # noqa: PLW0603 -- a process is the kernel of one notebook
    _notebook = notebook


def frame_here() -> Frame | None:
    """Give the place that a notebook's code stands in which is called here, if there is a notebook."""
    notebook = notebook_here()
    return notebook.frame() if notebook is not None else None


def check_workflow(workflow: WorkflowDefinition) -> None:
    """Raise `ConfigurationError` if a workflow is called in a notebook whose name, which it needs, is not known."""
    if _notebook is not None:
        _notebook.check_workflow(workflow)


def notebook_here() -> Notebook | None:
    """Give the notebook that takes calls made here, if there is one."""
    return _notebook if _notebook is not None and _notebook.is_here() else None
