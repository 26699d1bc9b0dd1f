"""The live object that belongs to an execution and is never stored: whoever executes the run hands it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.disabled.plain_runs import plain_body
from durable.errors import MissingContextError, OutsideRunError
from durable.options import ABSENT
from durable.runs.execution import FRAME
from durable.runs.sessions import is_disabled
from durable.steps.outside import IN_THREADS

if TYPE_CHECKING:
    from durable.runs.execution import Execution


def context() -> Any:
    """Give the object passed with `with_options(context=...)`; a workflow called in a run has that of its caller.

    It is never stored: whoever resumes the run passes one again. Raises `MissingContextError`, which ends the execution
    and leaves its steps as they are, if there is none, and `OutsideRunError` outside a run.
    """
    frame = FRAME.get()
    if frame is None and is_disabled():
        found = plain_body("context()").run
        if found.context is ABSENT:
            missing = f"Run {found.id} asks for its context, and none was given: with_options(context=...)."
            raise MissingContextError(missing, found.id)
        return found.context
    if frame is None:
        raise OutsideRunError(f"context() was called outside a run, or in a thread that carries none. {IN_THREADS}")
    frame.body.check()
    execution = frame.body.execution
    if execution.context is ABSENT:
        raise execution.stop(missing_context(execution))
    return execution.context


def missing_context(execution: Execution) -> MissingContextError:
    """Say that the run needs a context and how to hand it over."""
    title = execution.workflow.title
    return MissingContextError(
        f"Run {execution.id} asks for its context, and none was given. A context is a live object that is not stored, so "
        f"whoever starts or resumes the run passes it: {title}.with_options(context=...)(...), or run.resume(context=...). "
        f"What is recorded stays.",
        execution.id,
    )
