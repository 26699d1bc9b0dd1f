"""The life of a step: matched, decided, executed or replayed; one generator for sync and async tasks.

What is decided lies in `verdicts`; here each verdict is carried out, and a doubt is put to those who may know.
"""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from durable.costs.ledgers import ledger_of
from durable.costs.spending import replay_paid
from durable.errors import CodeChangedError, CrashLoopError
from durable.identity.namesakes import refuse_foreign_record
from durable.identity.step_keys import idempotency_key
from durable.records import StepFlag, StepQuery, StepStatus
from durable.runs.execution import NOTHING, warn_once
from durable.runs.states import state_of
from durable.step_pages import all_steps
from durable.steps.attempts import Attempts
from durable.steps.details import Details
from durable.steps.doubts import (
    DidNotHappen,
    Happened,
    ask_whether_it_happened,
    can_ask,
    describe_doubt,
    in_doubt,
    resolve_command,
)
from durable.steps.effects import Arrival, CancelledAgain, Invoke, carried
from durable.steps.key_windows import is_forgotten
from durable.steps.replaying import recorded_changes, replay, replay_failure, warn_of_new_code
from durable.steps.result_cache import MISS, look_up
from durable.steps.verdicts import (
    Verdict,
    decide,
    interruptions,
    is_crash_loop,
    is_undone,
    places_around,
    shows_going_on,
)
from durable.telling.notices import shell_command
from durable.telling.observers import observers
from durable.undoing.undoables import note_replayed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.options import OnCodeChange
    from durable.records import StepRecord
    from durable.steps.effects import Effect
    from durable.steps.matching import Match

_PAID = StepFlag.COST | StepFlag.COST_UNKNOWN
_DELIVERED = (Verdict.REPLAY, Verdict.REPLAY_FAILURE)
_REPLAYED = (*_DELIVERED, Verdict.AWAIT_CANCELLATION)


class Step:
    """One call of a task in one execution of a run, and the function that is its body."""

    __slots__ = ("_function", "execution", "match", "task")

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        self.match = match
        self.task = match.task
        self.execution = match.execution
        self._function = function

    def life(self) -> Generator[Effect, Any, Any]:
        """Match the call, decide, and execute or replay it."""
        execution, match = self.execution, self.match
        if match.record is not None and is_undone(match.record):
            match.pass_over_undone()
        interrupted = None
        if match.record is None and not (execution.history is NOTHING and match.scope.history is NOTHING):
            if self.task.is_async and execution.arrivals.are_expected:
                yield Arrival(execution)
            if match.may_stand_elsewhere:
                interrupted = yield from match.look_elsewhere()
        if match.record is not None:
            match.prefer_equal_arguments()
            return (yield from self._follow(match.record))
        if (value := self._shared()) is not MISS:
            return (yield from self._attempts().succeed(value))
        attempts = self._attempts()
        if interrupted is not None:
            attempts.interruptions = interruptions(interrupted, execution.past)
            if is_crash_loop(interrupted, execution.past):
                raise execution.stop(self._crash_loop(interrupted))
        return (yield from attempts.execute())

    def _shared(self) -> Any:
        """Give what another run has recorded of such a call, if its task says that results are shared."""
        task, execution = self.task, self.execution
        return look_up(execution.session, task, self.match.call, execution.clock()) if task.cache else MISS

    def _attempts(self) -> Attempts:
        return Attempts(self.match, self._function)

    def is_delivered(self, record: StepRecord) -> bool:
        """Whether a call with this record gets what is recorded."""
        return self._decide(record, self._on_code_change()) in _DELIVERED

    def _on_code_change(self) -> OnCodeChange:
        return self.task.on_code_change or self.execution.workflow.on_code_change or "keep"

    def _decide(self, record: StepRecord, on_code_change: OnCodeChange) -> Verdict:
        task = self.task
        return decide(
            record,
            self.execution.past,
            idempotent=self.match.is_idempotent,
            replay=task.replay,
            code=task.code if on_code_change != "keep" else None,
            on_code_change=on_code_change,
            forgotten=task.window is not None and self._is_forgotten(),
        )

    def _is_forgotten(self) -> bool:
        record = self.match.whole_record()
        return record is not None and is_forgotten(record.details, self.execution.clock())

    def _follow(self, record: StepRecord) -> Generator[Effect, Any, Any]:
        execution, task = self.execution, self.task
        if task.is_anonymous:
            refuse_foreign_record(task, record)
        on_code_change = self._on_code_change()
        verdict = self._verdict(record, on_code_change)
        if record.done is not None and verdict in _DELIVERED:
            yield Arrival(execution, record.done)
        self._note_replayed(record, verdict)
        match verdict:
            case Verdict.REPLAY:
                if on_code_change == "keep" or not self.match.is_idempotent:
                    warn_of_new_code(execution, task, record)
                if record.flags & _PAID:
                    return (yield from replay_paid(self.match, record, lambda: self._replay(record)))
                return self._replay(record)
            case Verdict.REPLAY_FAILURE:
                raise carried(replay_failure(execution, record))
            case Verdict.AWAIT_CANCELLATION:
                yield from self._wait_to_be_cancelled(record)
            case Verdict.CODE_CHANGED:
                raise execution.stop(self._code_changed(record))
            case Verdict.CRASH_LOOP:
                raise execution.stop(self._crash_loop(record))
        return (yield from self._execute_again(record, verdict))

    def _verdict(self, record: StepRecord, on_code_change: OnCodeChange) -> Verdict:
        verdict = self._decide(record, on_code_change)
        if verdict is not Verdict.AWAIT_CANCELLATION or self._went_on_after(self.match.whole_record() or record):
            return verdict
        if record.status == StepStatus.SUCCEEDED:
            return Verdict.REPLAY
        may_be_repeated = self.match.is_idempotent or record.flags & StepFlag.NO_EFFECT
        return Verdict.TRY_AGAIN if may_be_repeated else Verdict.DOUBT

    def _went_on_after(self, record: StepRecord) -> bool:
        """Whether code that may have handled a cancellation made a call after it."""
        execution = self.execution
        for place in places_around(record):
            query = StepQuery(after=record.done or 0, scope=place)
            later = all_steps(execution.journal.store, execution.id, query)
            recorded = takewhile(execution.history.is_earlier, later)
            if any(shows_going_on(step, record) for step in recorded):
                return True
        return False

    def _wait_to_be_cancelled(self, record: StepRecord) -> Generator[Effect, Any, None]:
        """Raise what was recorded once the call is cancelled again, and note that it was."""
        execution, record = self.execution, self.match.whole_record() or record
        try:
            left = asyncio.CancelledError() if record.flags & StepFlag.LEFT else replay_failure(execution, record)
            yield CancelledAgain(left, self._remind_of_waiting)
        finally:
            if execution.stopped is None and not execution.ended:
                execution.append(record._replace(epoch=execution.run.epoch))

    def _replay(self, record: StepRecord) -> Any:
        if record.flags & StepFlag.STATE:
            self._replay_changes(record)
        return replay(self.execution, record)

    def _replay_changes(self, record: StepRecord) -> None:
        """Do again what the step changed in the state of its run."""
        execution = self.execution
        state_of(execution).holds_secrets |= bool(record.flags & StepFlag.SENSITIVE)
        state_of(execution).replay(self.match.frame.body, recorded_changes(execution, record), record.done or 0)

    def _note_replayed(self, record: StepRecord, verdict: Verdict) -> None:
        if observers and verdict in _REPLAYED:
            self.execution.tell_replayed(record)
        if record.flags & StepFlag.COST and verdict in _DELIVERED:
            ledger_of(self.execution).note_replayed(record, self.match.frame.body)
        if self.task.may_be_undone and verdict is Verdict.REPLAY:
            note_replayed(self.execution, self.match.call, record)
        if record.flags & StepFlag.AGAIN:
            self._note_path(record, Details.read(record.details).again or 0)
        if verdict in _DELIVERED and record.flags & self.execution.past.not_at_once & StepFlag.NOT_IDEMPOTENT:
            self._note_still_called(record)

    def _note_still_called(self, record: StepRecord) -> None:
        """Record that the path on which a call stands was taken once more after a step before it had been tried again."""
        if not record.flags & StepFlag.STILL_CALLED and self.match.scope.explains(record, idempotent=False):
            whole = self.match.whole_record()
            assert whole is not None
            self.execution.append(whole._replace(flags=whole.flags | StepFlag.STILL_CALLED))

    def _note_another_try(self, record: StepRecord, attempts: Attempts) -> None:
        attempts.note_another_try(self.execution.past.last_event)
        self._note_path(record)

    def _note_path(self, record: StepRecord, last: int | None = None) -> None:
        """Note that calls up to the number `last` may have been made because of another outcome than the recorded one.

        Code around the scope or the asyncio task that it stands in may have got it too, once there was one.
        """
        scope, outermost = self.match.scope, self.match.frame.body.scope
        scope.note_another_try(record.seq, record.key, last)
        ended = Details.read(record.details).first or record.done
        while scope is not outermost and scope.outer is not None and ended is not None:
            scope = scope.outer
            scope.note_another_try(ended, "", last)
        self.execution.past.not_at_once |= StepFlag.NOT_IDEMPOTENT

    def _execute_again(self, record: StepRecord, verdict: Verdict) -> Generator[Effect, Any, Any]:
        past, attempts, details = self.execution.past, self._attempts(), Details.read(record.details)
        self.execution.renewed += 1
        until = None
        match verdict:
            case Verdict.DOUBT:
                past.retry.add(record.seq)
                if record.done is not None:
                    self._note_another_try(record, attempts)
                outcome = yield from self._settle_doubt(record, attempts)
                if isinstance(outcome, Happened):
                    return (yield from attempts.succeed(outcome.value, StepFlag.RESOLVED))
            case Verdict.CONTINUE:
                attempts.tries = details.tries
                until = details.due(self.execution.clock())
            case Verdict.EXECUTE_AGAIN:
                attempts.tries = details.tries
                attempts.interruptions = interruptions(record, past)
                attempts.count_killed()
                self._warn_of_another_execution(record)
            case Verdict.TRY_AGAIN:
                past.retry.update(details.retry)
                self._note_another_try(record, attempts)
            case Verdict.EXECUTE:
                self.match.scope.renewed = True
        if verdict is not Verdict.EXECUTE and (value := self._shared()) is not MISS:
            return (yield from attempts.succeed(value))
        return (yield from attempts.execute(until))

    def _settle_doubt(self, record: StepRecord, attempts: Attempts) -> Generator[Effect, Any, Happened | DidNotHappen]:
        execution, reconcile = self.execution, self.task.reconcile
        if reconcile is not None:
            call = self.match.call
            try:
                with attempts.open_body():
                    answer = yield Invoke(lambda: reconcile(*call.args_with_self, **call.kwargs))
            except Exception as error:
                raise execution.stop(in_doubt(record, execution.run, f"Its reconcile= raised {self._shown(error)}.")) from error
            if not isinstance(answer, Happened | DidNotHappen):
                given = self._shown(answer)
                unclear = f"Its reconcile= returned {given} instead of durable.happened(value) or durable.did_not_happen."
                raise execution.stop(in_doubt(record, execution.run, unclear))
            return answer
        if can_ask():
            message = describe_doubt(record, execution.run)
            decided: Happened | DidNotHappen | None = yield Invoke(
                lambda: ask_whether_it_happened(message), in_thread=True
            )
            if decided is not None:
                return decided
        raise execution.stop(in_doubt(record, execution.run))

    def _shown(self, value: object) -> str:
        return f"a {type(value).__name__}" if self.task.sensitive else repr(value)

    def _warn_of_another_execution(self, record: StepRecord) -> None:
        if self.match.is_idempotent and self.task.has_body and not record.flags & StepFlag.CHILD_RUN:
            warn_once(
                "again",
                f"{self.execution.id}:{record.key}",
                f"Step {record.key!r} of run {self.execution.id} was running when its process ended; it is "
                f"idempotent, so it is executed again with the same idempotency key.",
            )

    def _remind_of_waiting(self) -> None:
        assert self.match.record is not None
        key = self.match.record.key
        warn_once(
            "waiting",
            f"{self.execution.id}:{key}",
            f"Step {key!r} of run {self.execution.id} was cancelled when it was recorded and the run went on; "
            f"it waits to be cancelled again. To execute it: {shell_command('resume', self.execution.id)} --retry-failed.",
        )

    def _code_changed(self, record: StepRecord) -> CodeChangedError:
        return CodeChangedError(
            f"The body of task {self.task.full_name!r} changed since step {record.key!r} of run {self.execution.id} was "
            f"recorded, and on_code_change='error' holds. Use 'keep', 'rerun' or a new version=.",
            self.execution.id,
        )

    def _crash_loop(self, record: StepRecord) -> CrashLoopError:
        return CrashLoopError(
            f"Step {record.key!r} of run {self.execution.id} was interrupted {record.interruptions + 1} times in a row, "
            f"the last time when its process ended without a trace (killed, or out of memory?). It was not executed "
            f"again. When the cause is gone: {resolve_command(self.execution.id, record.key)} --did-not-happen, or "
            f"{shell_command('resume', self.execution.id)} --retry-failed.",
            self.execution.id,
            record.key,
            idempotency_key(record),
        )
