"""A checkpoint is a step without a body: when it returns, everything before it is on disk."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from durable.declarations.definitions import TaskDefinition
from durable.declarations.naming import is_unicode
from durable.errors import ConfigurationError, StoreError
from durable.identity.calls import Call
from durable.runs.execution import FRAME, warn_once
from durable.runs.sessions import is_disabled
from durable.steps.details import Details
from durable.steps.effects import drive
from durable.steps.matching import Match
from durable.steps.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import StepRecord


def checkpoint(name: str) -> None:
    """Record that the run came here, and return when this and everything before it is on disk.

    It is listed among the steps as `durable.checkpoint:NAME`, and `Run.fork(from_=NAME)` begins again there. A name in a
    loop may be made per iteration: `checkpoint(f"batch-{i}")`. Blocks for one commit, in an event loop too. Outside a run
    it does nothing, with a `DurableWarning`. Raises `ConfigurationError` for a name that is no text or empty.
    """
    if not isinstance(name, str) or not name or not is_unicode(name):
        raise ConfigurationError(f"A checkpoint has a name that is a string and not empty, not {name!r}.")
    frame = FRAME.get()
    if frame is None:
        if not is_disabled():
            warn_once("outside", "checkpoint", f"checkpoint({name!r}) was called outside a run: nothing is recorded.")
        return
    frame.body.check()
    match, execution = Match(_CHECKPOINT, _call(name), frame), frame.body.execution
    drive(Step(match, _nothing).life())
    if match.record is not None:
        _note_passing(match)
    with contextlib.suppress(StoreError):  # `check` stops the execution for it
        execution.journal.flush_all()
    execution.check()


def _note_passing(match: Match) -> None:
    """Note on a recorded checkpoint what this execution called first before it, unless a checkpoint before it says so."""
    execution, begun = match.execution, match.execution.past.last_event
    last, execution.passed = max(execution.passed, begun), execution.tick()
    if execution.passed > last + 1 and (record := match.whole_record()) is not None:
        details = Details.read(record.details)
        details = replace(details, passed=(*details.passed, (begun, execution.passed)))
        execution.append(record._replace(epoch=execution.run.epoch, details=details.write()))


def is_checkpoint(step: StepRecord, name: str) -> bool:
    """Whether a step is the checkpoint of this name."""
    return step.content == _call(name).content


class Passed(NamedTuple):
    """An execution began after an event, and came to a checkpoint that was recorded with the number of the last one."""

    came: int
    begun: int
    checkpoint: int


def passed(steps: Iterable[StepRecord]) -> list[Passed]:
    """Tell when executions came to recorded checkpoints after something new, in that order."""
    checkpoints = (step for step in steps if step.task == _CHECKPOINT.label)
    return sorted(
        Passed(came, begun, step.seq) for step in checkpoints for begun, came in Details.read(step.details).passed
    )


def _call(name: str) -> Call:
    return Call(_CHECKPOINT, None, (name,), {})


def _checkpoint(name: str) -> None: ...


def _nothing() -> None: ...


_CHECKPOINT = TaskDefinition(function=_checkpoint, name="durable.checkpoint", key="{name}", has_body=False)
