"""What is written of a step: its intent, and the outcome of its attempts, as bytes before anybody sees it."""

from __future__ import annotations

from dataclasses import replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from durable.costs.ledgers import go_on, ledger_of
from durable.errors import ExecutionStopped
from durable.identity.secrets_of_calls import secret_texts
from durable.identity.step_keys import shown_label
from durable.records import StepFlag, StepRecord, StepStatus, step_key
from durable.runs.contexts import missing_context
from durable.steps.details import Details, render
from durable.steps.failures import hide, is_hidden, mark, says_any
from durable.steps.key_windows import with_expiry
from durable.steps.replaying import replay_failure
from durable.steps.results import kept, not_awaited, value_unavailable, warn_of_mutation
from durable.telling.observers import observers
from durable.undoing.undoables import describe, keep_result
from durable.values.exceptions import encode_exception
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.runs.execution import Body
    from durable.runs.states import Recorded, RunState
    from durable.steps.matching import Match

STARTED, _SUCCEEDED = StepStatus.STARTED.value, StepStatus.SUCCEEDED.value
_FAILED, _SKIPPED = StepStatus.FAILED.value, StepStatus.SKIPPED.value
_COST = StepFlag.COST
Identity = tuple[str, int, int, str, str, str, str, bytes, int]
_KEPT_FLAGS = (
    StepFlag.SENSITIVE
    | StepFlag.CHILD_RUN
    | StepFlag.NO_BODY
    | StepFlag.ALWAYS
    | StepFlag.COPIED
    | StepFlag.UNDO
    | StepFlag.AGAIN
)


class StepWriter:
    """Writes the record of one step; `tries` counts the failed attempts of the present allowance."""

    __slots__ = (
        "_attempts",
        "_details",
        "_flags",
        "_function",
        "_identity",
        "_is_idempotent",
        "_started_at",
        "call",
        "execution",
        "frame",
        "interruptions",
        "key",
        "record",
        "scope",
        "task",
        "tries",
    )

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        self.call = call = match.call
        self.task = task = match.task
        self.frame = match.frame
        self.scope = scope = match.scope
        self.execution = execution = match.execution
        self.tries = 0
        self._function = function
        self._is_idempotent = task.is_idempotent(execution.workflow.idempotent)
        self.record = record = match.whole_record() if match.record is not None else None
        self._started_at = execution.clock()
        self._details = render(call.arguments, task.code_hex, hidden=task.sensitive)
        if record is None:
            content, occurrence = call.content, match.occurrence
            label = shown_label(task.segment, content, call.business_key, hidden=task.hides_key)
            self._identity: Identity = (
                execution.id,
                execution.tick(),
                self.frame.body.seq,
                scope.container,
                scope.branch,
                task.label,
                label,
                content,
                occurrence,
            )
            self.key = step_key(scope.container, scope.branch, label, occurrence)
            self._attempts = self.interruptions = 0
            self._flags = task.flags
        else:
            self._identity = record[:9]
            self.key = record.key
            self._attempts = record.attempts
            self.interruptions = record.interruptions
            self._flags = record.flags & _KEPT_FLAGS | task.flags & (StepFlag.UNDO | _COST)
            self._details = go_on(execution, record, self._details)
        if not self._is_idempotent:
            self._flags |= StepFlag.NOT_IDEMPOTENT
            if execution.lacks_context:  # its body may ask for it when its effect has begun
                raise execution.stop(missing_context(execution))
        if record is not None or task.notes_more:
            self._note_more(record)

    def _note_more(self, record: StepRecord | None) -> None:
        """Keep what options of the task ask for beside the intent: costs, the end of a key's window, a compensation."""
        execution, task = self.execution, self.task
        if self._flags & _COST:
            ledger_of(execution).open(self.seq)
        if task.window is not None:
            self._details = with_expiry(self._details, task.window, self._started_at, record)
        if task.may_be_undone:
            self._details = describe(execution, self.call, self.seq, self.key, self._details)

    @property
    def seq(self) -> int:
        return self._identity[1]

    def note_another_try(self, last: int) -> None:
        """Keep that the step had ended otherwise, and the number of the last event before it is tried again."""
        self._flags |= StepFlag.AGAIN
        self._details = replace(Details.read(self._details), again=last).write()

    def count_killed(self) -> None:
        self._details = Details.read(self._details).with_another_unknown()

    def _append(
        self,
        status: str,
        flags: int = 0,
        *,
        value: bytes | None = None,
        error: bytes | None = None,
        details: bytes | None = None,
    ) -> int:
        execution = self.execution
        ended_at = done = None
        if status != STARTED:
            ended_at, done = execution.clock(), execution.tick()
        outcome = (
            status,
            self._flags | flags,
            execution.run.epoch,
            self._attempts,
            self.interruptions,
            self._started_at,
            ended_at,
            done,
            value,
            error,
            self._details if details is None else details,
        )
        self.record = record = tuple.__new__(StepRecord, self._identity + outcome)  # a third of the price of a call
        if observers:
            execution.tell_step(record)
        if execution.ledger is None:
            return execution.append(record)
        self.record, ticket = execution.ledger.write(record)
        self._flags |= self.record.flags & _COST
        return ticket

    def _encode_error(self, error: BaseException) -> bytes:
        sensitive = self.task.sensitive
        if isinstance(error, ExecutionStopped):
            error = error.error
        elif sensitive or says_any(error, secret_texts(self.call.arguments)):
            hide(error)
        return encode_exception(
            error,
            self.execution.serializer,
            run=self.execution.id,
            step=self.key,
            sensitive=sensitive or is_hidden(error),
        )

    def _note_cancellation(self) -> None:
        self.execution.interrupted.append(self.seq)

    @property
    def done(self) -> int | None:
        """Number of the recorded completion."""
        return self.record.done if self.record is not None else None

    def skip(self, error: BaseException) -> None:
        """Record that the body is not executed, and why."""
        self._append(_SKIPPED, error=self._encode_error(error))

    def _check_delivery(self) -> None:
        """Raise if the result could not be stored."""
        if self._flags & StepFlag.VALUE_UNAVAILABLE:
            assert self.record is not None
            raise replay_failure(self.execution, self.record)

    def _warn_of_mutation(self) -> None:
        if not self.call.immutable and self.task.has_body and (changed := self.call.mutated()) is not None:
            warn_of_mutation(self.task, changed)

    def _record_success(self, value: Any, state: RunState | None = None, body: Body | None = None) -> int:
        try:
            return self._record_result(value, state, body)
        except KeyboardInterrupt:
            self._record_result(value, state, body)
            raise

    def _record_result(self, value: Any, state: RunState | None, body: Body | None) -> int:
        execution = self.execution
        self.interruptions = 0
        try:
            data = execution.serializer.encode(value, run=execution.id, step=self.key)
        except Unserializable as error:
            if isinstance(value, CoroutineType):
                value.close()
                raise self._refuse(not_awaited(self.task)) from None
            self._flags |= StepFlag.VALUE_UNAVAILABLE
            if self.task.undo is not None:
                keep_result(execution, self.seq, value)
            unavailable = self._encode_error(value_unavailable(execution, self.key, error))
            return self._append(_SUCCEEDED, error=unavailable)
        if state is not None and body is not None and (changes := state.changes_of(body)):
            return self._record_changes(data, changes, state, body)
        return self._append(_SUCCEEDED, value=kept(self, data) if self.task.sensitive else data)

    def _refuse(self, error: Exception) -> Exception:
        """Record that a body which gave no result has failed; gives the error to raise."""
        self._append(_FAILED, error=self._encode_error(error))
        self.execution.failed += 1
        mark(error, self.execution.id, self.seq)
        return error

    def _record_changes(self, data: bytes, changes: Recorded, state: RunState, body: Body) -> int:
        joined = self.execution.serializer.join(data, changes, run=self.execution.id, step=self.key)
        with state.guard:  # so that changes take effect in the order in which they are recorded
            ticket = self._append(_SUCCEEDED, StepFlag.STATE, value=kept(self, joined, changes))
            state.commit(body)
        return ticket
