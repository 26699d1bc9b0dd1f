"""A call that no record fits is new, or an old one whose inputs or place changed: nobody can always know which.

A body that is not idempotent is executed only if no unused record may be of this very call; an idempotent one is
executed and the user told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.details import Details, render
from durable.doubts import ask_whether_to_run, can_ask, in_doubt
from durable.effects import Invoke
from durable.errors import InputsChangedError
from durable.execution import warn_once
from durable.notices import shell_command
from durable.records import StepQuery, StepStatus
from durable.step_keys import is_keyless
from durable.verdicts import Drift, decide_drift, is_doubt, is_in_doubt, is_undone

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from durable.details import Argument
    from durable.effects import Effect
    from durable.execution import Body
    from durable.history import StepHistory
    from durable.matching import Match
    from durable.options import OnDrift
    from durable.records import StepRecord


def consider_drift(match: Match) -> Generator[Effect, Any, StepRecord | None]:
    """Decide about a call without a record: it goes on as a new one, takes a record over, or stops the execution.

    Gives the record of the latest call that it may be if a crash interrupted that one.
    """
    execution, task = match.execution, match.task
    if match.is_idempotent and task.key is not None:
        return None
    on_drift: OnDrift | None = execution.on_drift or task.on_drift or execution.workflow.on_drift
    if match.is_idempotent and on_drift in (None, "run") and task.label in execution.drifted:
        return None
    with execution.lock:
        unused = [record for record in _Suspects(match).all() if not is_undone(record)]
    verdict = decide_drift(
        unused,
        execution.past,
        idempotent=match.is_idempotent,
        deviates=match.scope.deviates(idempotent=match.is_idempotent),
        on_drift=on_drift,
    )
    if verdict is Drift.DOUBT:
        record = next(record for record in unused if is_doubt(record, execution.past))
        raise execution.stop(in_doubt(record, execution.run, _why_in_doubt(match, record)))
    if verdict is Drift.REUSE:
        record = next(record for record in unused if record.status == StepStatus.SUCCEEDED)
        with execution.lock:
            execution.reused.add(record.seq)
            if record.parent == match.frame.body.seq:
                match.scope.history.use(record)
        match.record = record
    elif verdict is Drift.ERROR:
        message = _describe(match, unused[0], verdict)
        if not (can_ask() and (yield Invoke(lambda: ask_whether_to_run(message), in_thread=True))):
            raise execution.stop(InputsChangedError(message))
    elif verdict is Drift.EXECUTE:
        execution.drifted.add(task.label)
        warn_once("drift", f"{execution.id}:{task.label}", _describe(match, unused[0], verdict))
    return unused[-1] if unused and is_in_doubt(unused[-1]) else None


def _why_in_doubt(match: Match, record: StepRecord) -> str:
    task = match.task
    if record.task not in (task.label, *task.former_labels) and not match.execution.is_gone(record.task):
        return (
            f"Now the task's version is {task.version!r}, under which the call is executed whatever happened: if it "
            f"happened, go back to the recorded version to keep its result."
        )
    return (
        f"The current call {match.call.label!r} has other inputs or another place, so nobody can know whether it is the "
        f"same one."
    )


class _Suspects:
    """Looks for the unused records of earlier executions that may be of one call."""

    def __init__(self, match: Match) -> None:
        self._match = match
        self._execution = match.execution
        self._call = match.call
        self._task = match.task
        self._scope = match.scope
        self._labels = {match.task.label, *match.task.former_labels}

    def all(self) -> list[StepRecord]:
        """List them, the oldest first: those of the same scope and, unless the body may be repeated, strayed ones."""
        history, scope = self._scope.history, self._scope
        if self._match.is_idempotent:
            return history.unused(self._may_be_this_task, where=(scope.container, scope.branch))
        found = history.unused(self._may_be_this_task, fits=self._may_be_this_call)
        found += self._below_unused_steps()
        found += self._doubts_under_other_versions()
        return sorted(found, key=lambda record: record.seq)

    def _may_be_this_task(self, label: str) -> bool:
        return label in self._labels or (self._task.key is None and self._execution.is_gone(label))

    def _may_be_this_call(self, record: StepRecord) -> bool:
        """Whether a record below the same step may be of this call: it stands here, or in a branch or block that is gone."""
        if record.seq in self._execution.reused or not self._says_the_same_or_no_key(record):
            return False
        scope = self._scope
        if record.container != scope.container:
            return record.content == self._call.content and self._is_in_a_block_that_is_gone(record)
        if record.branch == scope.branch:
            return True
        if is_doubt(record, self._execution.past) and self._task.reconcile is None:
            return True
        return bool(scope.branch) and not scope.history.is_entered(record.container, record.branch)

    def _doubts_under_other_versions(self) -> list[StepRecord]:
        """A new `version` sets results aside, but not the doubt whether something happened."""
        execution, task, scope = self._execution, self._task, self._scope
        where = (scope.container, scope.branch)
        if (*where, task.label) in execution.undoubted:
            return []
        names = (task.full_name, *task.aliases)

        def is_another_version(label: str) -> bool:
            return label not in self._labels and any(label == name or label.startswith(f"{name}@") for name in names)

        left = scope.history.unused(is_another_version, where=where, fits=lambda step: is_doubt(step, execution.past))
        if not left:
            execution.undoubted.add((*where, task.label))
        return [step for step in left if task.key is None or step.content == self._call.content_under(step.task)]

    def _says_the_same_or_no_key(self, record: StepRecord) -> bool:
        """Whether business keys leave it open: two that differ tell two calls apart."""
        return self._task.key is None or record.content == self._call.content or is_keyless(record)

    def _is_in_a_block_that_is_gone(self, record: StepRecord) -> bool:
        return self._execution.workflow.is_block and not self._execution.body.scope.has_named(record.container)

    def _below_unused_steps(self) -> Iterator[StepRecord]:
        """Find records below steps that were not called again, where the steps around this call are new in their place."""
        for body in _new_steps(self._match.frame.body, self._execution.past.last_event):
            assert body.record is not None
            assert body.outer is not None
            history = body.outer.scope.history
            parents = set() if history.is_empty else self._unused_beside(history, body.record)
            if parents:
                yield from (record for record in self._recorded() if self._stands_below(record, parents))

    def _unused_beside(self, history: StepHistory, step: StepRecord) -> set[int]:
        def is_beside(record: StepRecord) -> bool:
            if record.container != step.container:
                return False
            return record.branch == step.branch or not history.is_entered(record.container, record.branch)

        found = history.unused(lambda label: label == step.task or self._execution.is_gone(label), fits=is_beside)
        return {record.seq for record in found}

    def _recorded(self) -> Iterator[StepRecord]:
        execution, after = self._execution, 0
        store = execution.journal.store
        while page := store.steps(execution.id, StepQuery(after=after, tasks=tuple(sorted(self._labels)))):
            for record in page:
                if record.seq > execution.past.last_event:
                    return
                if record.seq not in execution.reused and self._says_the_same_or_no_key(record):
                    yield record
            after = page[-1].seq

    def _stands_below(self, record: StepRecord, steps: set[int]) -> bool:
        execution, parent = self._execution, record.parent
        while parent and parent not in steps:
            [above] = execution.journal.store.steps(execution.id, StepQuery(after=parent - 1, limit=1))
            parent = above.parent
        return bool(parent)


def _new_steps(body: Body | None, last: int) -> Iterator[Body]:
    """List the steps around a call that earlier executions have not recorded, the innermost first."""
    while body is not None and body.record is not None and body.record.seq > last:
        yield body
        body = body.outer


def _describe(match: Match, record: StepRecord, verdict: Drift) -> str:
    execution, call = match.execution, match.call
    now = render(call.arguments, None, hidden=match.task.sensitive)
    recorded, current = Details.read(record.details).arguments, Details.read(now).arguments
    changed = [
        f"{name}: recorded {_shown(recorded, name)}, now {_shown(current, name)}"
        for name in sorted({*recorded, *current})
        if _digest(recorded, name) != _digest(current, name)
    ]
    if verdict is Drift.EXECUTE:
        tail = "It is executed as a new call."
    else:
        cause = "on_drift='error' holds" if match.is_idempotent else "It is not idempotent"
        tail = f"{cause}, so it was not executed."
    nothing = "the place that it is called from" if record.content == call.content else "the task itself"
    command = "" if execution.workflow.is_block else f" ({shell_command('resume', execution.id)} --on-drift reuse)"
    return (
        f"Run {execution.id} was resumed and calls {call.label!r}, which is not recorded, while the recorded "
        f"call {record.key!r} was not made. Changed: {'; '.join(changed) or nothing}. {tail} To use the recorded result, "
        f"resume with on_drift='reuse'{command}; if it is a new call, with on_drift='run'; DURABLE_ON_DRIFT takes both. If "
        f"the input differs on every start, take it from durable.now(), durable.uuid4() or durable.random(), or name the "
        f"call with key=, so that later runs do not ask."
    )


def _shown(arguments: dict[str, Argument], name: str) -> str:
    return arguments[name].preview if name in arguments else "the default"


def _digest(arguments: dict[str, Argument], name: str) -> str | None:
    return arguments[name].digest if name in arguments else None
