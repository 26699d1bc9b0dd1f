"""A call finds its record by what it says: where it stands first, then in sibling branches; else it is new, or has drifted.

Every call takes at most one record, and no record is taken twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.details import Details
from durable.doubts import ask_whether_to_run, can_ask, in_doubt
from durable.effects import Invoke
from durable.errors import InputsChangedError
from durable.execution import warn_once
from durable.notices import shell_command
from durable.records import StepQuery, StepStatus
from durable.verdicts import Drift, decide_drift

if TYPE_CHECKING:
    from collections.abc import Generator

    from durable.calls import Call
    from durable.definitions import TaskDefinition
    from durable.details import Argument
    from durable.effects import Effect
    from durable.execution import Frame
    from durable.options import OnDrift
    from durable.records import StepRecord


class Match:
    """One call in one execution of a run, and the record that it found."""

    __slots__ = ("call", "execution", "frame", "occurrence", "record", "scope", "task")

    def __init__(self, task: TaskDefinition, call: Call, frame: Frame) -> None:
        self.call = call
        self.task = task
        self.frame = frame
        self.execution = frame.body.execution
        self.scope = scope = frame.scope
        with self.execution.lock:
            self.occurrence = scope.next_occurrence(call.content)
            self.record = scope.history.take(scope, call.content, self.occurrence)

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

    def look_elsewhere(self) -> Generator[Effect, Any, None]:
        """Take a record of the same content in another branch, or under a former name of the task; else consider drift."""
        call, scope, history = self.call, self.scope, self.scope.history
        with self.execution.lock:
            self.record = history.take_elsewhere(scope, call.content)
            for label in () if self.record is not None else self.task.former_labels:
                former = call.content_under(label)
                self.record = history.take(scope, former, self.occurrence) or history.take_elsewhere(scope, former)
                if self.record is not None:
                    break
            while self.record is None and history.is_occupied(scope, call.content, self.occurrence):
                self.occurrence = scope.next_occurrence(call.content)
        if self.record is None and self.task.key is None and self.task.has_body:
            yield from self._consider_drift()

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

    def _consider_drift(self) -> Generator[Effect, Any, None]:
        execution, task = self.execution, self.task
        on_drift: OnDrift | None = execution.on_drift or task.on_drift or execution.workflow.on_drift
        if self.is_idempotent and on_drift in (None, "run") and task.label in execution.drifted:
            return
        with execution.lock:
            unused = self.scope.history.unused_in(self.scope, self._may_be_this_task)
        verdict = decide_drift(
            unused,
            idempotent=self.is_idempotent,
            has_key=False,
            after_a_retry=self.scope.after_a_retry,
            on_drift=on_drift,
        )
        if verdict is Drift.DOUBT:
            record = next(record for record in unused if record.status == StepStatus.STARTED)
            raise execution.stop(
                in_doubt(
                    record,
                    execution.run,
                    f"The current call {self.call.label!r} has other inputs, so nobody can know whether it is the same one.",
                )
            )
        if verdict is Drift.REUSE:
            self.record = next(record for record in unused if record.status == StepStatus.SUCCEEDED)
            with execution.lock:
                self.scope.history.use(self.record)
        elif verdict is Drift.ERROR:
            message = self._describe_drift(unused[0], verdict)
            if not (can_ask() and (yield Invoke(lambda: ask_whether_to_run(message), in_thread=True))):
                raise execution.stop(InputsChangedError(message))
        elif verdict is Drift.EXECUTE:
            execution.drifted.add(task.label)
            warn_once("drift", f"{execution.id}:{task.label}", self._describe_drift(unused[0], verdict))

    def _may_be_this_task(self, label: str) -> bool:
        return label == self.task.label or label in self.task.former_labels or self.execution.is_gone(label)

    def _describe_drift(self, record: StepRecord, verdict: Drift) -> str:
        recorded, current = Details.read(record.details).arguments, Details.read(self.call.details()).arguments
        changed = [
            f"{name}: recorded {_shown(recorded, name)}, now {_shown(current, name)}"
            for name in sorted({*recorded, *current})
            if _digest(recorded, name) != _digest(current, name)
        ]
        if verdict is Drift.EXECUTE:
            tail = "It is executed as a new call."
        else:
            cause = "on_drift='error' holds" if self.is_idempotent else "It is not idempotent"
            tail = f"{cause}, so it was not executed."
        return (
            f"Run {self.execution.id} was resumed and calls {self.call.label!r}, which is not recorded, while the recorded "
            f"call {record.key!r} was not made. Changed: {'; '.join(changed) or 'the task itself'}. {tail} If the input "
            f"differs on every start, take it from durable.now(), durable.uuid4() or durable.random(), or name the call "
            f"with key=. If it is a new call, resume with on_drift='run' ({shell_command('resume', self.execution.id)} "
            f"--on-drift run); to use the recorded result, with on_drift='reuse'."
        )


def _shown(arguments: dict[str, Argument], name: str) -> str:
    return arguments[name].preview if name in arguments else "the default"


def _digest(arguments: dict[str, Argument], name: str) -> str | None:
    return arguments[name].digest if name in arguments else None
