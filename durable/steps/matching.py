"""A call finds its record by what it says: where it stands first, then in sibling branches; else it is new, or has drifted.

Every call takes at most one record, and no record is taken twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.records import StepQuery
from durable.runs.execution import NOTHING, warn_once
from durable.steps.details import Details
from durable.steps.drift import consider_drift
from durable.steps.verdicts import is_undone

if TYPE_CHECKING:
    from collections.abc import Generator

    from durable.declarations.definitions import TaskDefinition
    from durable.identity.calls import Call
    from durable.records import StepRecord
    from durable.runs.execution import Body, Frame
    from durable.steps.effects import Effect


Found = tuple[int, "StepRecord | None"]


def find_record(frame: Frame, content: bytes) -> Found:
    """Count a call, and use the record that stands where it does; gives its occurrence and the record."""
    scope = frame.scope
    history = scope.history
    with frame.body.execution.lock:
        occurrence = scope.next_occurrence(content)
        return occurrence, history.take(scope, content, occurrence) if history is not NOTHING else None


class Match:
    """One call in one execution of a run, and the record that it found."""

    __slots__ = ("call", "execution", "frame", "occurrence", "record", "scope", "task")

    def __init__(self, task: TaskDefinition, call: Call, frame: Frame, found: Found | None = None) -> None:
        self.call = call
        self.task = task
        self.frame = frame
        self.execution = frame.body.execution
        self.scope = frame.scope
        self.occurrence, self.record = find_record(frame, call.content) if found is None else found

    @property
    def is_idempotent(self) -> bool:
        """Whether the body may be executed again when nobody knows whether it happened."""
        return self.task.is_idempotent(self.execution.workflow.idempotent)

    def whole_record(self) -> StepRecord | None:
        """Give the record with all that a history leaves out of it."""
        record = self.record
        if record is None or record.epoch:
            return record
        [whole] = self.execution.journal.store.steps(record.run_id, StepQuery(after=record.seq - 1, limit=1))
        return whole

    @property
    def may_stand_elsewhere(self) -> bool:
        """Whether a call without a record has to be looked for.

        Records are left, below the body that it is made in or one around, or an equal call may have taken its key.
        """
        body: Body | None = self.frame.body
        while body is not None and body.scope.history.is_empty:
            body = body.outer
        return body is not None or self.scope.history.has_moved

    def pass_over_undone(self) -> None:
        """Go on to the next occurrence that was not undone, or to one that is not recorded."""
        scope, content = self.scope, self.call.content
        with self.execution.lock:
            while self.record is not None and is_undone(self.record):
                self.occurrence = scope.next_occurrence(content)
                self.record = scope.history.take(scope, content, self.occurrence)

    def look_elsewhere(self) -> Generator[Effect, Any, StepRecord | None]:
        """Take a record of the same content in another branch, or under a former name of the task; else consider drift.

        Gives the record of an interrupted call that this one may be in other words.
        """
        call, scope, history = self.call, self.scope, self.scope.history
        with self.execution.lock:
            self.record = history.take_elsewhere(scope, call.content)
            while self.record is not None and is_undone(self.record):
                self.record = history.take_elsewhere(scope, call.content)
            for label in () if self.record is not None else self._other_labels():
                former = call.content_under(label)
                self.record = history.take(scope, former, self.occurrence) or history.take_elsewhere(scope, former)
                if self.record is not None:
                    break
            while self.record is None and history.is_occupied(scope, call.content, self.occurrence):
                self.occurrence = scope.next_occurrence(call.content)
        if self.record is None and self.task.has_body:
            return (yield from consider_drift(self))
        return None

    def _other_labels(self) -> tuple[str, ...]:
        """Give the labels that records of this call may have: of former names, and of its script in another place."""
        elsewhere = self.execution.labels_elsewhere
        return (*self.task.former_labels, *filter(self.task.is_meant_by, elsewhere)) if elsewhere else self.task.former_labels

    def prefer_equal_arguments(self) -> None:
        """Among records under one business key, use the one that was recorded with these very arguments."""
        if self.task.key is None or self.record is None:
            return
        current = self.call.digests()

        def fits(candidate: StepRecord) -> bool:
            recorded = Details.read(candidate.details).arguments
            return {name: argument.digest for name, argument in recorded.items()} == current

        if fits(self.record):
            return
        with self.execution.lock:
            better = self.scope.history.exchange(self.record, fits)
        if better is self.record:
            warn_once(
                "key",
                f"{self.execution.id}:{self.task.label}",
                f"Step {better.key!r} of run {self.execution.id} was recorded with other arguments under the same key=; "
                f"the record was used, because the key decides.",
            )
        self.record = better
