"""Calls that found a way around the promise: by a timeout, a policy, an exception, or a function that has no own name."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

_released = threading.Event()
_body_lasts = 0.05  # seconds


@task(timeout=_body_lasts)
def get_stuck() -> str:
    did("begin")
    _released.wait()
    did("end")
    return "done"


@workflow
def handles_the_timeout() -> str:
    try:
        return get_stuck()
    except TimeoutError:
        return "timed out"


@workflow
def fails_with_the_timeout() -> str:
    return get_stuck()


def test_a_stuck_body_does_not_hold_its_run_for_ever(scene: Scene) -> None:
    """A sync body outlives its `timeout` for good: the run ends with what the workflow makes of it, and says so."""
    outcome = scene.start(handles_the_timeout)
    assert outcome.value == "timed out"
    assert [text for text in outcome.warnings if "its body still runs" in text]
    assert scene.start(handles_the_timeout).value == "timed out"
    assert scene.ledger == ["begin"]


def time_out_twice() -> str:
    def release(message: Any, *_: Any) -> None:
        if "executed again when it has ended" in str(message):
            did("the second waits")
            _released.set()

    with pytest.raises(TimeoutError):
        fails_with_the_timeout()
    did("failed")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(warnings, "showwarning", release)
    return fails_with_the_timeout()


def test_no_execution_overlaps_a_stuck_body(scene: Scene) -> None:
    """A run failed while a body of it is stuck: the step is executed again in this process when that body has ended."""
    assert scene.start(time_out_twice).value == "done"
    assert scene.ledger == ["begin", "failed", "the second waits", "end", "begin", "end"]
