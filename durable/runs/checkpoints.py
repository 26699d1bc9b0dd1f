"""A checkpoint is a step without a body: when it returns, everything before it is on disk."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from durable.declarations.definitions import TaskDefinition
from durable.declarations.naming import is_unicode
from durable.errors import ConfigurationError, StoreError
from durable.identity.calls import Call
from durable.runs.execution import FRAME, warn_once
from durable.runs.sessions import is_disabled
from durable.steps.effects import drive
from durable.steps.matching import Match
from durable.steps.steps import Step

if TYPE_CHECKING:
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
    drive(Step(Match(_CHECKPOINT, _call(name), frame), _nothing).life())
    execution = frame.body.execution
    with contextlib.suppress(StoreError):  # `check` stops the execution for it
        execution.journal.flush_all()
    execution.check()


def is_checkpoint(step: StepRecord, name: str) -> bool:
    """Whether a step is the checkpoint of this name."""
    return step.content == _call(name).content


def _call(name: str) -> Call:
    return Call(_CHECKPOINT, None, (name,), {})


def _checkpoint(name: str) -> None: ...


def _nothing() -> None: ...


_CHECKPOINT = TaskDefinition(function=_checkpoint, name="durable.checkpoint", key="{name}", has_body=False)
