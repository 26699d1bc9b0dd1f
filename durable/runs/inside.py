"""What a task or workflow body can ask of its run: where it stands, its idempotency key, recorded time and chance."""

from __future__ import annotations

import contextlib
import random as random_numbers
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from durable.concurrency.loops import runs_loop_of
from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.disabled.plain_runs import plain_body
from durable.errors import ConfigurationError, OutsideRunError
from durable.identity.calls import Call
from durable.runs.execution import FRAME, Frame, leave
from durable.runs.sessions import is_disabled
from durable.steps import outside
from durable.steps.effects import drive
from durable.steps.matching import Match
from durable.steps.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Current:
    """Where the calling code stands.

    `step_key` is empty and `attempt` 1 in the workflow itself. `replaying` tells whether recorded steps of an earlier
    execution are still ahead of it.
    """

    run_id: str
    step_key: str
    attempt: int
    replaying: bool


def current() -> Current:
    """Tell the run, step and attempt that the calling code stands in. Raises `OutsideRunError` outside a run."""
    if FRAME.get() is None and is_disabled():
        return Current(plain_body("current()").run.id, "", 1, replaying=False)
    frame = frame_of("current()")
    body = frame.body
    return Current(body.execution.id, body.step_key, body.attempt, not body.scope.history.is_empty)


def idempotency_key() -> str:
    """Give the UUID that stands for the current step's effect: the same on every attempt, crash and resume.

    Hand it to the receiver (`Idempotency-Key` header), so that a repeated request has no second effect. Raises
    `OutsideRunError` outside a step.
    """
    if FRAME.get() is None and is_disabled():
        return plain_body("idempotency_key()").idempotency_key
    body = frame_of("idempotency_key()").body
    if not body.idempotency_key:
        raise OutsideRunError(
            "idempotency_key() belongs to a step: call it in the body of a @task, not of the workflow."
        )
    return body.idempotency_key


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Give the calls in the block a scope of this name: their step keys begin with it.

    Calls inside are never matched with calls outside, so a block that is moved or repeated under its own name keeps its
    records. Does nothing outside a run.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"A scope has a name that is a string and not empty, not {name!r}.")
    frame = FRAME.get()
    if frame is None:
        notebook = outside.notebook_here()
        with notebook.scope(name) if notebook is not None else contextlib.nullcontext():
            yield
        return
    token = FRAME.set(Frame(frame.body, frame.scope.named(name)))
    try:
        yield
    finally:
        leave(token)


def now() -> datetime:
    """Give the current time in UTC; a replay gives the recorded one."""
    return datetime.fromtimestamp(_recorded(_NOW), UTC)


def uuid4() -> uuid.UUID:
    """Give a random UUID; a replay gives the recorded one."""
    return uuid.UUID(_recorded(_UUID))


def random() -> float:
    """Give a random number from [0, 1); a replay gives the recorded one."""
    value: float = _recorded(_RANDOM)
    return value


def frame_of(name: str) -> Frame:
    """Give the place that the calling code stands in, for a function of this name. Raises `OutsideRunError`."""
    frame = FRAME.get()
    if frame is None:
        raise OutsideRunError(
            f"{name} was called outside a run, or in a thread that carries none. Call it in a @workflow, its tasks, or "
            f"`with durable.run(...)`. {outside.IN_THREADS}"
        )
    return frame


def is_async_body(frame: Frame) -> bool:
    """Whether the code that calls is awaited: the task or workflow that it stands in, or a loop that this one started."""
    record, workflow = frame.body.record, frame.body.execution.workflow
    task = registry.tasks.get(record.task.partition("@")[0]) if record is not None else None
    is_async = task.is_async if task is not None else workflow.is_async
    return is_async or runs_loop_of(frame.body)


def _recorded(source: TaskDefinition) -> Any:
    frame = FRAME.get()
    if frame is None:
        return source.plain()
    frame.body.check()
    return drive(Step(Match(source, Call(source, None, (), {}), frame), source.plain).life())


def _source(name: str, function: Callable[[], Any]) -> TaskDefinition:
    source = TaskDefinition(function=function, name=name, has_body=False)
    registry.tasks.add(source)  # or its records would be those of a task that is gone
    return source


def _time() -> float:
    return time.time()


def _uuid() -> str:
    return str(uuid.uuid4())


def _random() -> float:
    return random_numbers.random()  # noqa: S311 -- the user's to use, not a secret


_NOW = _source("durable.now", _time)
_UUID = _source("durable.uuid4", _uuid)
_RANDOM = _source("durable.random", _random)
