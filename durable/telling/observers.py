"""Who wants to know is told of every transition of runs and steps, and can change none of them.

An observer that raises is logged and the run goes on. Events carry names, keys and errors, never arguments or results.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from durable.errors import ConfigurationError
from durable.records import StepFlag, StepStatus
from durable.values.exceptions import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.records import RunRecord, StepRecord
    from durable.values.serializers import Serializer

logger = logging.getLogger(__name__)

RunEventType = Literal[
    "run_started", "run_resumed", "run_succeeded", "run_failed", "run_blocked", "run_cancelled", "run_superseded"
]
StepEventType = Literal[
    "step_started",
    "step_replayed",
    "step_succeeded",
    "step_failed",
    "step_cancelled",
    "step_retrying",
    "step_in_doubt",
    "step_skipped",
    "step_undone",
]
EventType = Literal[RunEventType, StepEventType]


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of a run or of a step.

    `at` is in seconds since 1970. Events of steps have the step's key, its number in the run, that of the step that it
    was called in (0: the workflow itself), its task and the attempt. `error` is the type of an exception and, unless the
    step is sensitive, its message; of runs the type alone.
    """

    type: EventType
    at: float
    run: str
    workflow: str
    step: str | None = None
    number: int | None = None
    parent: int | None = None
    task: str | None = None
    attempt: int | None = None
    error: str | None = None


observers: list[Callable[[Event], object]] = []


def subscribe(callback: Callable[[Event], object]) -> Callable[[], None]:
    """Have a function called with every `Event` of this process from now on; returns what ends that.

    It is called where the transition happens, in whichever thread, before the transition is on disk, and should be quick.
    What it raises is logged and changes nothing. Raises `ConfigurationError` for what cannot be called.
    """
    if not callable(callback):
        raise ConfigurationError(f"subscribe(...) takes a function of one durable.Event, not {callback!r}.")
    entry = _Entry(callback)
    observers.append(entry)

    def unsubscribe() -> None:
        if entry in observers:
            observers.remove(entry)

    return unsubscribe


class _Entry:
    """One subscription: the same function can have several."""

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback

    def __call__(self, event: Event) -> None:
        self._callback(event)


def notify(event: Event) -> None:
    """Tell all observers."""
    for observer in tuple(observers):
        try:
            observer(event)
        except Exception:
            logger.exception("an observer failed", extra={"event": event.type, "run": event.run})


def run_event(run: RunRecord, kind: str, at: float, error: BaseException | None = None) -> Event:
    """Describe a transition of a run: `kind` is its status or `started`, `resumed`."""
    kind = f"run_{kind}"
    assert kind in get_args(RunEventType), kind
    return Event(kind, at, run.id, run.workflow, error=type(error).__name__ if error is not None else None)  # type: ignore[arg-type]  # see above


def step_event(run: RunRecord, record: StepRecord, serializer: Serializer, at: float) -> Event | None:
    """Describe what a step's record says that was just written; None for one that says nothing new."""
    kind: StepEventType
    if record.status == StepStatus.STARTED and record.flags & StepFlag.RETRYING:
        if record.error is None:
            return None
        kind = "step_retrying"
    else:
        kind = f"step_{record.status}"  # type: ignore[assignment]  # the statuses are among the types
    return _of_step(kind, run, record, at, _error(record, serializer))


def replay_event(run: RunRecord, record: StepRecord, at: float) -> Event:
    """Say that a recorded step gave what it gave."""
    return _of_step("step_replayed", run, record, at, None)


def doubt_event(run: RunRecord, step_key: str, at: float) -> Event:
    """Say that a run stops because nobody knows whether a step happened."""
    return Event("step_in_doubt", at, run.id, run.workflow, step_key)


def _of_step(kind: StepEventType, run: RunRecord, record: StepRecord, at: float, error: str | None) -> Event:
    attempt = record.attempts or None  # which a history leaves out
    return Event(kind, at, run.id, run.workflow, record.key, record.seq, record.parent, record.task, attempt, error)


def _error(record: StepRecord, serializer: Serializer) -> str | None:
    if record.error is None or record.status == StepStatus.UNDONE:
        return None
    found = describe(record.error, serializer, run=record.run_id, step=record.key)
    if record.flags & StepFlag.SENSITIVE:
        return found.type_name
    return f"{found.type_name}: {found.message}".removesuffix(": ")


class _EventsFile:
    """Appends one JSON line an event, in one write, to a file that its owner alone can read."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"DURABLE_EVENTS={path!r} cannot be written: {error.strerror}. Nothing was executed. Name a file in a "
                f"folder that exists, or unset it."
            ) from error

    def __call__(self, event: Event) -> None:
        told = {name: value for name, value in asdict(event).items() if value is not None}
        os.write(self._file, f"{json.dumps(told)}\n".encode())

    def close(self) -> None:
        os.close(self._file)


_file: _EventsFile | None = None


def observe_into_file(path: str | None) -> None:
    """Write all events into the file that the environment names, if it names one; raises `ConfigurationError`."""
    global _file  # noqa: PLW0603 -- one file per process, opened when a run begins under a new name
    if (_file.path if _file is not None else None) == (path or None):
        return
    opened = _EventsFile(path) if path else None
    if _file is not None:
        observers.remove(_file)
        _file.close()
    _file = opened
    if opened is not None:
        observers.append(opened)
