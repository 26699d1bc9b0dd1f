"""Why a call of a recorded step would be replayed, executed or refused when its run is resumed; decides nothing new."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable.declarations import registry
from durable.records import UNFINISHED, RunStatus, StepFlag
from durable.runs import sessions
from durable.steps.details import Details
from durable.steps.key_windows import is_forgotten
from durable.steps.verdicts import INTERRUPTIONS_ALLOWED, Past, Verdict, decide, is_undone, succeeded_at

if TYPE_CHECKING:
    from durable.records import RunRecord, StepRecord
    from durable.runs.handles import Run

_WHY = {
    Verdict.REPLAY: ("replayed", "It succeeded: its stored result is returned and its body is not executed."),
    Verdict.REPLAY_FAILURE: (
        "failure replayed",
        "It failed and the run went on, so its stored exception is raised again. --retry-failed tries it again.",
    ),
    Verdict.AWAIT_CANCELLATION: (
        "waits",
        "It was cancelled and the run went on, so the call waits until it is cancelled again. --retry-failed executes it.",
    ),
    Verdict.EXECUTE: (
        "executed",
        "It is executed in every execution of the run (replay=False), or was never finished.",
    ),
    Verdict.EXECUTE_AGAIN: (
        "executed again",
        "It was running when its process ended. It is idempotent, so it is executed again with the same idempotency key.",
    ),
    Verdict.TRY_AGAIN: (
        "tried again",
        "Its failure or cancellation ended the last execution, so it is executed again.",
    ),
    Verdict.CONTINUE: ("executed", "It was between two attempts; the next one is made when its back-off has passed."),
    Verdict.DOUBT: (
        "refused: in doubt",
        (
            "It is not idempotent, or the receiver has forgotten its idempotency key, and nobody can know whether its "
            "effect happened. Decide with durable resolve."
        ),
    ),
    Verdict.CRASH_LOOP: (
        "refused: interrupted too often",
        f"It was interrupted {INTERRUPTIONS_ALLOWED} times in a row. durable resolve --did-not-happen or --retry-failed go on.",
    ),
    Verdict.CODE_CHANGED: ("refused: its body changed", "on_code_change='error' holds."),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a call of the step, in a word and in a sentence."""

    verdict: str
    why: str


def explain(run: Run, step: StepRecord) -> Explanation:
    """Explain one step of a run as the next resume would treat a call with the same content."""
    record = run.record
    if record.status == RunStatus.SUCCEEDED:
        return Explanation("not called", "The run succeeded: a call of the workflow returns its stored result.")
    verdict = _verdict(step, recorded_past(record, list(run.step_records())))
    if is_undone(step):
        return Explanation(
            "executed", "It was undone when the run failed: the next call is another occurrence, with a key of its own."
        )
    if step.flags & StepFlag.VALUE_UNAVAILABLE:
        return Explanation(
            "refused: value unavailable", "It succeeded, but its result could not be stored; it is not executed."
        )
    return Explanation(*_WHY[verdict])


def recorded_past(run: RunRecord, steps: list[StepRecord]) -> Past:
    """Read off the records of a run what its next execution finds."""
    last_call = max((each.seq for each in steps), default=0)
    last_done = max((each.done or 0 for each in steps), default=0)
    outcome = json.loads(run.outcome or "{}")
    return Past(
        retry=_with_causes(set(outcome.get("retry", ())), steps),
        crashed=run.status in UNFINISHED,
        progressed=any((each.done or 0) > run.mark and not each.flags & StepFlag.ALWAYS for each in steps),
        last_call=last_call,
        last_event=max(last_call, last_done),
        succeeded_at=succeeded_at(run),
    )


def is_left_in_doubt(step: StepRecord, past: Past) -> bool:
    """Whether a resume would stop at the step because nobody can know whether its effect happened."""
    return _verdict(step, past) is Verdict.DOUBT


def _verdict(step: StepRecord, past: Past) -> Verdict:
    task = registry.tasks.get(step.task.partition("@")[0])
    return decide(
        step,
        past,
        idempotent=not step.flags & StepFlag.NOT_IDEMPOTENT,
        replay=not step.flags & StepFlag.ALWAYS,
        code=task.code if task is not None else None,
        on_code_change="keep",
        forgotten=is_forgotten(step.details, sessions.clock()),
    )


def _with_causes(retry: set[int], steps: list[StepRecord]) -> set[int]:
    """Add the steps below that made the steps to be tried again fail."""
    for step in steps:
        if step.seq in retry:
            retry |= set(Details.read(step.details).retry)
    return retry
