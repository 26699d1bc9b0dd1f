from __future__ import annotations

from typing import Any

import pytest

from durable.records import StepFlag
from durable.steps.details import Details
from durable.steps.verdicts import Drift, Past, Verdict, decide, decide_drift, interruptions
from tests.unit.histories import make_step

_OLD, _NEW = b"\x01" * 8, b"\x02" * 8
ENDED = Past(last_call=5, last_event=9)


def _decide(past: Past = ENDED, *, idempotent: bool = True, replay: bool = True, **fields: Any) -> Verdict:
    code = fields.pop("code", None)
    mode = fields.pop("on_code_change", "keep")
    step = make_step(fields.pop("seq", 3), **fields)
    return decide(step, past, idempotent=idempotent, replay=replay, code=code, on_code_change=mode)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_success_is_replayed(idempotent: bool) -> None:
    """A recorded result stands."""
    assert _decide(status="succeeded", done=4, idempotent=idempotent) is Verdict.REPLAY


def test_a_step_that_executes_every_time_executes_after_a_success() -> None:
    """`replay=False` records without replaying."""
    assert _decide(status="succeeded", done=4, replay=False) is Verdict.EXECUTE
    assert _decide(status="failed", done=4, replay=False) is Verdict.EXECUTE


@pytest.mark.parametrize(
    ("mode", "idempotent", "verdict"),
    [
        ("keep", True, Verdict.REPLAY),
        ("rerun", True, Verdict.EXECUTE),
        ("rerun", False, Verdict.REPLAY),
        ("error", True, Verdict.CODE_CHANGED),
        ("error", False, Verdict.CODE_CHANGED),
    ],
)
def test_a_changed_body_keeps_its_results_unless_told_otherwise(mode: str, idempotent: bool, verdict: Verdict) -> None:
    """What is not idempotent is not executed again for a changed body."""
    details = Details(code=_OLD.hex()).write()
    given: dict[str, Any] = {
        "status": "succeeded",
        "details": details,
        "idempotent": idempotent,
        "on_code_change": mode,
    }
    assert _decide(**given, code=_NEW) is verdict
    assert _decide(**given, code=_OLD) is Verdict.REPLAY


def test_a_step_left_running_is_executed_again_only_if_idempotent() -> None:
    """Nobody can know whether its effect happened."""
    assert _decide(status="started") is Verdict.EXECUTE_AGAIN
    assert _decide(status="started", idempotent=False) is Verdict.DOUBT


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_step_between_two_attempts_goes_on(idempotent: bool) -> None:
    """No body was running."""
    assert _decide(status="started", flags=StepFlag.RETRYING, idempotent=idempotent) is Verdict.CONTINUE


def test_three_crashes_in_a_row_block_the_run() -> None:
    """Two earlier interruptions and this one; progress in between starts the count anew, and so does --retry-failed."""
    assert _decide(status="started", interruptions=1) is Verdict.EXECUTE_AGAIN
    assert _decide(status="started", interruptions=2) is Verdict.CRASH_LOOP
    assert _decide(Past(progressed=True), status="started", interruptions=2) is Verdict.EXECUTE_AGAIN
    assert _decide(Past(retry_failed=True), status="started", interruptions=2) is Verdict.EXECUTE_AGAIN
    assert interruptions(make_step(1, interruptions=2), Past()) == 3


def test_a_caught_failure_stays_caught_and_the_last_one_is_tried_again() -> None:
    """Only the step whose failure ended the run is tried again."""
    assert _decide(status="failed", done=4) is Verdict.REPLAY_FAILURE
    assert _decide(Past(retry={3}), status="failed", done=4) is Verdict.TRY_AGAIN
    assert _decide(Past(retry={2}), status="failed", done=4) is Verdict.REPLAY_FAILURE
    assert _decide(Past(retry_failed=True), status="failed", done=4) is Verdict.TRY_AGAIN


def test_a_failure_that_a_crash_followed_at_once_is_tried_again() -> None:
    """After a crash, a failure stands if the run recorded anything after it."""
    assert _decide(Past(crashed=True, last_event=9), status="failed", done=9) is Verdict.TRY_AGAIN
    assert _decide(Past(crashed=True, last_event=9), status="failed", done=8) is Verdict.REPLAY_FAILURE


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_trying_again_what_may_have_happened_is_a_doubt(status: str) -> None:
    """Unless it is known that nothing happened, or somebody decided."""
    past = Past(retry={3})
    assert _decide(past, status=status, done=4, idempotent=False) is Verdict.DOUBT
    assert _decide(past, status=status, done=4, idempotent=False, flags=StepFlag.NO_EFFECT) is Verdict.TRY_AGAIN
    assert _decide(past, status=status, done=4, idempotent=False, flags=StepFlag.RESOLVED) is Verdict.TRY_AGAIN


def test_a_cancelled_step_waits_if_the_run_went_on() -> None:
    """A call that was cancelled and followed by others is cancelled again, not executed."""
    assert _decide(Past(last_call=7), status="cancelled", done=4) is Verdict.AWAIT_CANCELLATION
    assert _decide(Past(last_call=3), status="cancelled", done=4) is Verdict.TRY_AGAIN
    assert _decide(Past(last_call=7, retry={3}), status="cancelled", done=4) is Verdict.TRY_AGAIN


@pytest.mark.parametrize("status", ["skipped", "undone"])
def test_other_ends_are_evaluated_again(status: str) -> None:
    """Skipped and undone steps are executed."""
    assert _decide(status=status) is Verdict.EXECUTE


FINISHED, RUNNING = make_step(1), make_step(2, status="started")
WAITING = make_step(2, status="started", flags=StepFlag.RETRYING)
FAILED = make_step(2, status="failed", done=3)


@pytest.mark.parametrize(
    ("unused", "options", "verdict"),
    [
        ([], {}, Drift.NEW),
        ([FINISHED], {}, Drift.EXECUTE),
        ([RUNNING], {}, Drift.EXECUTE),
        ([FINISHED], {"deviates": True}, Drift.NEW),
        ([FINISHED], {"idempotent": False}, Drift.ERROR),
        ([FINISHED], {"idempotent": False, "deviates": True}, Drift.NEW),
        ([FINISHED], {"idempotent": False, "on_drift": "run"}, Drift.EXECUTE),
        ([FINISHED], {"on_drift": "error"}, Drift.ERROR),
        ([FINISHED], {"on_drift": "reuse"}, Drift.REUSE),
        ([RUNNING], {"on_drift": "reuse"}, Drift.EXECUTE),
        ([RUNNING], {"idempotent": False}, Drift.DOUBT),
        ([FINISHED, RUNNING], {"idempotent": False, "on_drift": "run"}, Drift.DOUBT),
        ([FINISHED, RUNNING], {"idempotent": False, "on_drift": "reuse"}, Drift.DOUBT),
        ([RUNNING], {"idempotent": False, "deviates": True}, Drift.DOUBT),
        ([WAITING], {"idempotent": False}, Drift.ERROR),
        ([FAILED], {"idempotent": False}, Drift.ERROR),
    ],
)
def test_drift_follows_the_table(unused: list[Any], options: dict[str, Any], verdict: Drift) -> None:
    """Calls after a retry do not drift; a doubt is overridden by nothing."""
    given: dict[str, Any] = {"idempotent": True, "deviates": False, "on_drift": None}
    assert decide_drift(unused, Past(), **{**given, **options}) is verdict


def test_a_call_that_may_be_one_whose_failure_proves_nothing_is_in_doubt() -> None:
    """The failure that ended the run leaves a doubt, unless it is known that nothing happened."""
    past = Past(retry={2})
    for options, verdict in (({}, Drift.DOUBT), ({"flags": StepFlag.NO_EFFECT}, Drift.EXECUTE)):
        unused = [make_step(2, status="failed", done=3, **options)]
        assert decide_drift(unused, past, idempotent=False, deviates=False, on_drift="run") is verdict
