"""What stands for a run where DURABLE_DISABLE is set: it lives as long as the call of its workflow, and nothing is kept.

Messages reach runs of this process alone, while their workflow is executed.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from durable.errors import ConfigurationError, NotFoundError, OutsideRunError, WaitTimeoutError
from durable.options import ABSENT

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.disabled.plain_submissions import PlainSubmission

_POLL = 0.01  # seconds between two looks for messages without blocking the event loop

Compensation = tuple["TaskDefinition", tuple[Any, ...], dict[str, Any]]


class PlainRun:
    """One call of a workflow."""

    outer = None  # as of a workflow's body, for its state

    def __init__(self, run_id: str, context: Any) -> None:
        self.id = run_id
        self.context = context
        self.state: Any = None  # made when it is asked for
        self.submissions: list[PlainSubmission] = []
        self.compensations: list[Compensation] = []
        self.mail: dict[str, deque[Any]] = {}
        self.arrival = threading.Condition()
        self.outcome: Future[Any] = Future()

    def take(self, name: str, timeout: float | None) -> Any:
        """Block until there is a message of this name, and give it."""
        with self.arrival:
            if not self.arrival.wait_for(lambda: self.mail.get(name), timeout):
                raise self._missing(name, timeout)
            return self.mail[name].popleft()

    async def take_async(self, name: str, timeout: float | None) -> Any:
        """Do the same without blocking the event loop."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.mail.get(name):
            if deadline is not None and time.monotonic() >= deadline:
                raise self._missing(name, timeout)
            await asyncio.sleep(_POLL)
        return self.mail[name].popleft()

    def _missing(self, name: str, timeout: float | None) -> WaitTimeoutError:
        return WaitTimeoutError(
            f"No message {name!r} came to run {self.id} within {timeout:g} s. DURABLE_DISABLE is set, so messages come from "
            f"this process alone."
        )


class PlainBody:
    """A function of the user under execution: the workflow itself, or a task."""

    def __init__(self, run: PlainRun, *, is_async: bool) -> None:
        self.run = run
        self.is_async = is_async
        from uuid import uuid4  # noqa: PLC0415 -- slow to import, and seldom needed

        self.idempotency_key = str(uuid4())


BODY: contextvars.ContextVar[PlainBody | None] = contextvars.ContextVar("durable_plain_body", default=None)
RUNS: dict[str, PlainRun] = {}


def plain_body(what: str) -> PlainBody:
    """Give the function under execution. Raises `OutsideRunError` outside workflows, as if they were recorded."""
    body = BODY.get()
    if body is None:
        raise OutsideRunError(f"{what} was called outside a run, or in a thread that carries no run context.")
    return body


def plain_run(workflow: WorkflowDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PlainRun:
    """Make what stands for a run; the id is the one that its caller chose, else any."""
    run_id = workflow.exact_run_id
    if run_id is None and workflow.run_id is not None:
        bound = inspect.signature(workflow.plain).bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            run_id = workflow.run_id.format_map(bound.arguments)
        except Exception as error:
            raise ConfigurationError(
                f"Workflow {workflow.full_name!r} was not executed: its run_id={workflow.run_id!r} names no run for this "
                f"call: {type(error).__name__}: {error}"
            ) from error
    body = BODY.get()
    inherited = body.run.context if body is not None else ABSENT
    context = inherited if workflow.context is ABSENT else workflow.context
    return PlainRun(run_id or f"{workflow.title}-{os.urandom(8).hex()}", context)


def post(run_id: str, name: str, payload: Any) -> Any:
    """Give a message to a run of this process; an awaitable in an async function of a run."""
    run = RUNS.get(run_id)
    if run is None:
        raise NotFoundError(
            f"No run {run_id!r} is executed in this process, so the message {name!r} was not sent: DURABLE_DISABLE is set, and "
            f"nothing is recorded."
        )
    with run.arrival:
        run.mail.setdefault(name, deque()).append(payload)
        run.arrival.notify_all()
    body = BODY.get()
    return asyncio.sleep(0) if body is not None and body.is_async else None
