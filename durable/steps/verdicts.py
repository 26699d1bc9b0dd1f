"""What to do about a call, decided from its record and the past of the run alone; nothing here acts.

The one rule that all others serve: a body is executed only if it is known not to have finished, and one that is not
idempotent only if it is known not to have begun.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from durable.records import StepFlag, StepStatus
from durable.steps.details import Details

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable.options import OnCodeChange, OnDrift
    from durable.records import RunRecord, StepRecord

INTERRUPTIONS_ALLOWED = 3
_NOT_AT_ONCE = StepFlag.VALUE_UNAVAILABLE | StepFlag.STATE | StepFlag.COST | StepFlag.AGAIN | StepFlag.LEFT


class Verdict(Enum):
    """What happens to a call."""

    EXECUTE = auto()  # for the first time, or because replay=False
    EXECUTE_AGAIN = auto()  # it was interrupted by a crash; idempotent
    TRY_AGAIN = auto()  # it failed or was cancelled, and that ended the run
    CONTINUE = auto()  # it was between two attempts
    REPLAY = auto()  # the stored result
    REPLAY_FAILURE = auto()  # the stored exception
    AWAIT_CANCELLATION = auto()  # it was cancelled and the run went on: it waits to be cancelled again
    DOUBT = auto()  # nobody can know whether its effect happened
    CRASH_LOOP = auto()  # interrupted too often in a row
    CODE_CHANGED = auto()  # the body changed, and that is an error


@dataclass(slots=True)
class Past:
    """What earlier executions of a run left, as far as replay depends on it.

    `retry` holds the steps whose failure ended the last execution; it grows when such a step is tried again by the
    steps whose failure ended that one. `succeeded_at` is the time of the last end, if the run succeeded then: what had
    failed until then is handled. `not_at_once` are the flags of records that take more than to give their values.
    """

    retry: set[int] = field(default_factory=set)
    retry_failed: bool = False
    crashed: bool = False
    progressed: bool = False
    last_call: int = 0
    last_event: int = 0
    succeeded_at: float = 0.0
    not_at_once: int = _NOT_AT_ONCE

    def is_last(self, record: StepRecord) -> bool:
        """Whether nothing came after the end of a step: no other step and no success of the run."""
        is_handled = self.succeeded_at and (record.ended_at or 0.0) <= self.succeeded_at
        return record.done == self.last_event and not is_handled


def succeeded_at(run: RunRecord) -> float:
    """Read off the record of a run when it succeeded, 0 if its last end was none of success."""
    return run.ended_at if run.ended_at is not None and run.outcome == "{}" else 0.0


def decide(
    record: StepRecord,
    past: Past,
    *,
    idempotent: bool,
    replay: bool,
    code: bytes | None,
    on_code_change: OnCodeChange,
    forgotten: bool = False,
) -> Verdict:
    """Decide about a call whose content is recorded; `forgotten`: the receiver does not know its idempotency key any more."""
    if record.status == StepStatus.SUCCEEDED:
        if not replay:
            return Verdict.EXECUTE
        if record.flags & StepFlag.LEFT and not is_tried_again(record, past):
            return Verdict.AWAIT_CANCELLATION
        return _code_verdict(record, code, on_code_change, idempotent=idempotent)
    if record.status == StepStatus.STARTED:
        return Verdict.DOUBT if forgotten else _started_verdict(record, past, idempotent=idempotent)
    if record.status in (StepStatus.FAILED, StepStatus.CANCELLED):
        verdict = _ended_verdict(record, past, idempotent=idempotent, replay=replay)
        is_forgotten_effect = forgotten and verdict is Verdict.TRY_AGAIN and not record.flags & StepFlag.RESOLVED
        return Verdict.DOUBT if is_forgotten_effect and record.attempts else verdict
    if record.flags & StepFlag.REOPENED and not idempotent:
        return Verdict.DOUBT
    return Verdict.EXECUTE


def _code_verdict(record: StepRecord, code: bytes | None, on_code_change: OnCodeChange, *, idempotent: bool) -> Verdict:
    if on_code_change == "keep" or code is None or not code_changed(record, code):
        return Verdict.REPLAY
    if on_code_change == "error":
        return Verdict.CODE_CHANGED
    return Verdict.EXECUTE if idempotent else Verdict.REPLAY


def _started_verdict(record: StepRecord, past: Past, *, idempotent: bool) -> Verdict:
    if record.flags & StepFlag.RETRYING:
        return Verdict.CONTINUE
    if not idempotent:
        return Verdict.DOUBT
    if is_crash_loop(record, past):
        return Verdict.CRASH_LOOP
    return Verdict.EXECUTE_AGAIN


def _ended_verdict(record: StepRecord, past: Past, *, idempotent: bool, replay: bool) -> Verdict:
    if record.flags & StepFlag.RESOLVED:
        return Verdict.TRY_AGAIN
    if not replay:
        return Verdict.TRY_AGAIN if is_tried_again(record, past) else Verdict.EXECUTE
    if not is_tried_again(record, past):
        return Verdict.REPLAY_FAILURE if record.status == StepStatus.FAILED else Verdict.AWAIT_CANCELLATION
    if not idempotent and not record.flags & StepFlag.NO_EFFECT:
        return Verdict.DOUBT
    return Verdict.TRY_AGAIN


def is_tried_again(record: StepRecord, past: Past) -> bool:
    """Whether a step that failed, or whose caller was cancelled, is what ended the last execution."""
    if past.retry_failed or record.seq in past.retry:
        return True
    if record.status == StepStatus.CANCELLED or record.flags & StepFlag.LEFT:
        return record.done is None or past.last_call < record.done
    return past.crashed and past.is_last(record)


def places_around(record: StepRecord) -> Iterator[tuple[str, str]]:
    """Name where code may have handled the cancellation of a step: where it was called, and in the branches around that."""
    branch = record.branch
    yield record.container, branch
    while branch:
        branch = branch.rpartition("/")[0]
        yield record.container, branch


def shows_going_on(later: StepRecord, cancelled: StepRecord) -> bool:
    """Whether a call in such a place shows that the run went on after a cancellation, and did not end by it.

    An execution that cancels the step again writes it again. So what was written in a later one only says nothing.
    """
    return later.seq > (cancelled.done or 0) and later.epoch <= cancelled.epoch


def interruptions(record: StepRecord, past: Past) -> int:
    """Count the crashes that interrupted a started step in a row, the last one included."""
    return 1 if past.progressed else record.interruptions + 1


def is_crash_loop(record: StepRecord, past: Past) -> bool:
    """Whether crashes interrupted a started step so often in a row that it is not executed once more."""
    return interruptions(record, past) >= INTERRUPTIONS_ALLOWED and not past.retry_failed


def code_changed(record: StepRecord, code: bytes) -> bool:
    """Whether the body was another one when the step was recorded."""
    recorded = recorded_code(record)
    return recorded is not None and recorded != code.hex()


def recorded_code(record: StepRecord) -> str | None:
    """Give the digest of the body that was recorded with a step."""
    return Details.read(record.details).code


class Drift(Enum):
    """What happens to a call that is not recorded while its scope still holds unused steps of its task."""

    NEW = auto()
    EXECUTE = auto()
    REUSE = auto()
    ERROR = auto()
    DOUBT = auto()


def decide_drift(
    unused: Sequence[StepRecord], past: Past, *, idempotent: bool, deviates: bool, on_drift: OnDrift | None
) -> Drift:
    """Decide about a call without a record, given the unused steps that it may be, the oldest first."""
    if not unused:
        return Drift.NEW
    if not idempotent and any(is_doubt(record, past) for record in unused):
        return Drift.DOUBT
    if deviates:
        return Drift.NEW
    if on_drift == "reuse" and any(record.status == StepStatus.SUCCEEDED for record in unused):
        return Drift.REUSE
    if on_drift == "error" or (on_drift is None and not idempotent):
        return Drift.ERROR
    return Drift.EXECUTE


def is_doubt(record: StepRecord, past: Past) -> bool:
    """Whether nobody can know if the effect of a recorded step that is not idempotent happened."""
    verdict = decide(record, past, idempotent=False, replay=True, code=None, on_code_change="keep")
    return verdict is Verdict.DOUBT


def is_undone(record: StepRecord) -> bool:
    """Whether a step was compensated, so that the next call of its content is another one."""
    return record.status == StepStatus.UNDONE and not record.flags & StepFlag.REOPENED


def is_in_doubt(record: StepRecord) -> bool:
    """Whether a step without retry pending was left running."""
    return record.status == StepStatus.STARTED and not record.flags & StepFlag.RETRYING
