"""Why a call of a recorded step would be replayed, executed or refused when its run is resumed; decides nothing new."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from itertools import chain, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from durable.declarations import registry
from durable.records import UNFINISHED, RunStatus, StepFlag, StepStatus
from durable.runs import sessions
from durable.steps.details import Details
from durable.steps.doubts import resolve_command
from durable.steps.key_windows import is_forgotten
from durable.steps.verdicts import (
    INTERRUPTIONS_ALLOWED,
    Past,
    Verdict,
    decide,
    is_undone,
    places_around,
    shows_going_on,
    succeeded_at,
)
from durable.telling.notices import NOTEBOOK, shell_command

if TYPE_CHECKING:
    from durable.records import RunRecord, StepRecord

_WHY = {
    Verdict.REPLAY: ("replayed", "It succeeded: its stored result is returned and its body is not executed."),
    Verdict.REPLAY_FAILURE: (
        "failure replayed",
        "It failed and the run went on, so its stored exception is raised again. To try it again: {resume} --retry-failed",
    ),
    Verdict.AWAIT_CANCELLATION: (
        "waits",
        (
            "It was cancelled and the run went on, so the call waits until it is cancelled again. To execute it: "
            "{resume} --retry-failed"
        ),
    ),
    Verdict.EXECUTE: ("executed", "It was never finished."),
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
            "effect happened. Find out, then decide with: {resolve} --happened 'JSON' or --did-not-happen"
        ),
    ),
    Verdict.CRASH_LOOP: (
        "refused: interrupted too often",
        (
            f"It was interrupted {INTERRUPTIONS_ALLOWED} times in a row. When the cause is gone: {{resolve}} --did-not-happen, "
            "or {resume} --retry-failed"
        ),
    ),
    Verdict.CODE_CHANGED: ("refused: its body changed", "on_code_change='error' holds."),
}
_ENDED_BADLY = (StepStatus.FAILED, StepStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a call of the step, in a word and in a sentence."""

    verdict: str
    why: str


def explain(run: RunRecord, past: Past, step: StepRecord, *, failure: bool | None = None) -> Explanation:
    """Explain a step of a run that nobody executes as the next resume would treat a call with the same content.

    `failure` tells of a result that stands for a failure and ended the run whether nothing happened, None of any other.
    """
    if run.status == RunStatus.SUPERSEDED:
        return Explanation("not called", "A later run took the place of this one, which is not executed again.")
    if run.status == RunStatus.SUCCEEDED and not json.loads(run.entry).get("block"):
        return Explanation(
            "not called", "The run succeeded: its stored result is given, and nothing of it is executed again."
        )
    if is_undone(step):
        return Explanation(
            "executed", "It was undone when the run failed: the next call is another occurrence, with a key of its own."
        )
    if step.flags & StepFlag.VALUE_UNAVAILABLE:
        return Explanation(
            "refused: value unavailable", "It succeeded, but its result could not be stored; it is not executed."
        )
    verdict = _verdict(step, past)
    if verdict is Verdict.REPLAY and failure is not None:
        return _explain_answer(run, step, nothing_happened=failure)
    if verdict is Verdict.EXECUTE and step.flags & StepFlag.ALWAYS:
        return Explanation("executed", "It is executed in every execution of the run (replay=False).")
    word, why = _WHY[verdict]
    if run.workflow == NOTEBOOK and verdict is Verdict.TRY_AGAIN:
        why = "It failed or was interrupted: in a notebook such a call is executed again."
    return Explanation(word, why.format(resume=shell_command("resume", run.id), resolve=_resolve_command(run, step)))


def _explain_answer(run: RunRecord, step: StepRecord, *, nothing_happened: bool) -> Explanation:
    """Explain a result by which the last execution ended, and which stands for a failure, as an answer of a web server may."""
    if nothing_happened:
        return Explanation(
            "tried again", "Its result is a failure that says that nothing happened: it is executed again."
        )
    if not step.flags & StepFlag.NOT_IDEMPOTENT and not is_forgotten(step.details, sessions.clock()):
        return Explanation("tried again", "Its result is a failure, and it is idempotent: it is executed again.")
    return Explanation(
        "refused: in doubt",
        f"Its result is a failure, it is not idempotent, and nobody can know whether its effect happened. The next execution "
        f"of the run stops there; then decide with: {_resolve_command(run, step)} --happened 'JSON' or --did-not-happen",
    )


def _resolve_command(run: RunRecord, step: StepRecord) -> str:
    return (
        f"%durable resolve {shlex.quote(step.key)}" if run.workflow == NOTEBOOK else resolve_command(run.id, step.key)
    )


def recorded_past(run: RunRecord, steps: list[StepRecord]) -> Past:
    """Read off the records of a run what its next execution finds."""
    last_call = max((each.seq for each in steps), default=0)
    last_done = max((each.done or 0 for each in steps), default=0)
    outcome = json.loads(run.outcome or "{}")
    retry = _with_causes(set(outcome.get("retry", ())), steps)
    if run.workflow == NOTEBOOK:  # which no failure of a call ends: each is tried again when it is made again
        retry |= {each.seq for each in steps if each.status in _ENDED_BADLY and not each.parent}
    if cancelled := [each for each in steps if each.status == StepStatus.CANCELLED or each.flags & StepFlag.LEFT]:
        retry |= _ended_by(cancelled, steps)
    return Past(
        retry=retry,
        crashed=run.status in UNFINISHED,
        progressed=any((each.done or 0) > run.mark and not each.flags & StepFlag.ALWAYS for each in steps),
        last_call=last_call,
        last_event=max(last_call, last_done),
        succeeded_at=succeeded_at(run),
    )


def _ended_by(cancelled: list[StepRecord], steps: list[StepRecord]) -> set[int]:
    """Give the cancelled steps after which nothing went on where they were called: the next execution tries them again."""
    places: dict[tuple[str, str], list[StepRecord]] = {}
    for each in sorted(steps, key=attrgetter("seq"), reverse=True):
        places.setdefault((each.container, each.branch), []).append(each)

    def went_on(step: StepRecord) -> bool:
        found = (takewhile(lambda each: each.seq > (step.done or 0), places.get(at, ())) for at in places_around(step))
        return any(shows_going_on(later, step) for later in chain.from_iterable(found))

    return {step.seq for step in cancelled if not went_on(step)}


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
