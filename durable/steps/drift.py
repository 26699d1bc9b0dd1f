"""A call that no record fits is new, or an old one whose inputs or place changed: nobody can always know which.

A body that is not idempotent is executed only if no unused record may be of this very call; an idempotent one is
executed and the user told.
"""

from __future__ import annotations

import threading
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from durable.errors import InputsChangedError
from durable.identity.step_keys import encloses, is_keyless, join
from durable.records import StepFlag, StepQuery, StepStatus, step_key
from durable.runs.execution import warn_once
from durable.step_pages import all_steps, step_at
from durable.steps.awaitables import running_loop
from durable.steps.details import Details, render
from durable.steps.doubts import ask_whether_to_run, can_ask, in_doubt, in_doubt_for_another
from durable.steps.effects import Invoke, Sleep
from durable.steps.verdicts import Drift, decide_drift, is_doubt, is_in_doubt, is_undone
from durable.telling.notices import shell_command

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from durable.identity.step_keys import Scope
    from durable.options import OnDrift
    from durable.records import StepRecord
    from durable.runs.execution import Body
    from durable.steps.details import Argument
    from durable.steps.effects import Effect
    from durable.steps.history import StepHistory
    from durable.steps.matching import Match

_OUR_THREADS = "durable-"  # their names begin so
_LOOK, _LOOKS = 0.002, 100  # seconds between two looks at what other threads have called, and how many


def consider_drift(match: Match) -> Generator[Effect, Any, StepRecord | None]:
    """Decide about a call without a record: it goes on as a new one, takes a record over, or stops the execution.

    What a call has taken over it gets in every attempt of the step around it.
    Gives the record of the latest call that it may be if a crash interrupted that one.
    """
    execution, task = match.execution, match.task
    match.record = execution.taken_over.get(_place(match))
    if match.record is not None or (match.is_idempotent and task.key is not None):
        return None
    on_drift: OnDrift | None = execution.on_drift or task.on_drift or execution.workflow.on_drift
    if match.is_idempotent and on_drift in (None, "run") and task.label in execution.drifted:
        return None
    unused, verdict = _judge(match, on_drift)
    if verdict is not Drift.NEW and not task.is_async and _has_company():
        unused, verdict = yield from _judge_after_others(match, on_drift)
    yield from _follow(match, unused, verdict)
    return unused[-1] if unused and is_in_doubt(unused[-1]) else None


def _follow(match: Match, unused: list[StepRecord], verdict: Drift) -> Generator[Effect, Any, None]:
    execution, task = match.execution, match.task
    if verdict is Drift.DOUBT:
        record = next(record for record in unused if is_doubt(record, execution.past))
        is_other = execution.is_gone(record.task) and not record.flags & StepFlag.NOT_IDEMPOTENT
        stopping = in_doubt_for_another if is_other else in_doubt
        raise execution.stop(stopping(record, execution.run, _why_in_doubt(match, record)))
    if verdict is Drift.REUSE:
        record = _most_alike(match, [record for record in unused if record.status == StepStatus.SUCCEEDED])
        with execution.lock:
            execution.reused.add(record.seq)
            execution.taken_over[_place(match)] = record
            for body in _bodies_around(match.frame.body):
                if record.parent == body.seq:
                    body.scope.history.use(record)
        match.record = record
    elif verdict is Drift.ERROR:
        message = _describe(match, unused[0], verdict)
        if not (can_ask() and (yield Invoke(lambda: ask_whether_to_run(message), in_thread=True))):
            raise execution.stop(InputsChangedError(message))
    elif verdict is Drift.EXECUTE:
        execution.drifted.add(task.label)
        warn_once("drift", f"{execution.id}:{task.label}", _describe(match, unused[0], verdict))


def _judge(match: Match, on_drift: OnDrift | None) -> tuple[list[StepRecord], Drift]:
    """Find the unused records that a call may be, the oldest first, and decide about it."""
    execution = match.execution
    with execution.lock:
        found = _Suspects(match).all()
    unused = [record for record in found if _counts(match, record) and not is_undone(record)]
    return unused, decide_drift(
        unused,
        execution.past,
        idempotent=match.is_idempotent,
        deviates=_may_take_another_path(match, unused),
        on_drift=on_drift,
    )


def _counts(match: Match, record: StepRecord) -> bool:
    """Whether a record is of an earlier execution, or is what an earlier attempt of the step around this call may have done."""
    if match.execution.history.is_earlier(record):
        return True
    is_of_attempt = not match.is_idempotent and match.scope.history.is_earlier(record)
    return is_of_attempt and (record.status == StepStatus.SUCCEEDED or is_doubt(record, match.execution.past))


def _judge_after_others(
    match: Match, on_drift: OnDrift | None
) -> Generator[Effect, Any, tuple[list[StepRecord], Drift]]:
    """Let other threads make the recorded calls that this one is taken for otherwise; a short while at most."""
    looks = 0
    while True:
        yield Sleep(_LOOK)
        match.execution.check()
        unused, verdict = _judge(match, on_drift)
        looks += 1
        if verdict is Drift.NEW or looks == _LOOKS:
            return unused, verdict


def _has_company() -> bool:
    """Whether other threads of the program may be about to make recorded calls, which come in any order then."""
    if running_loop() is not None:  # where all that may call waits for this call
        return False
    current = threading.current_thread()
    return any(each is not current and not each.name.startswith(_OUR_THREADS) for each in threading.enumerate())


def _may_take_another_path(match: Match, unused: list[StepRecord]) -> bool:
    """Whether a step that was tried again explains why all of these were not called.

    It does not explain calls that had been made before it, nor that what this call says is finished in another place.
    """
    content, finished = match.call.content, StepStatus.SUCCEEDED
    return all(
        match.scope.explains(record, idempotent=match.is_idempotent)
        and not (record.content == content and record.status == finished)
        for record in unused
    )


def _place(match: Match) -> tuple[str, str, bytes, int]:
    return match.scope.container, match.scope.branch, match.call.content, match.occurrence


def _most_alike(match: Match, finished: list[StepRecord]) -> StepRecord:
    """Choose what says the same as the call, else what was recorded with the same arguments, else the oldest."""
    call, digests = match.call, match.call.digests()

    def differs(record: StepRecord) -> tuple[bool, bool]:
        recorded = Details.read(record.details).arguments
        return record.content != call.content, {name: each.digest for name, each in recorded.items()} != digests

    return min(finished, key=differs)


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
        found += self._moved()
        found += self._doubts_under_other_versions()
        return sorted({record.seq: record for record in found}.values(), key=lambda record: record.seq)

    def _may_be_this_task(self, label: str) -> bool:
        return label in self._labels or (self._task.key is None and self._execution.is_gone(label))

    def _may_be_this_call(self, record: StepRecord) -> bool:
        """Whether a record below the same step may be of this call: it stands here, or in a branch or block that is gone."""
        if record.seq in self._execution.reused or not self._says_the_same_or_no_key(record):
            return False
        scope = self._scope
        if record.container != scope.container:
            return record.content == self._call.content and (
                self._is_in_a_block_that_is_gone(record) or self._is_in_a_scope_around_or_gone(record)
            )
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

    def _is_in_a_scope_around_or_gone(self, record: StepRecord) -> bool:
        """Whether a named scope was put around this call, or taken away from around it."""
        scope = self._scope
        if record.branch and scope.history.is_entered(record.container, record.branch):
            return False
        here, there = join(scope.container, scope.branch), join(record.container, record.branch)
        return encloses(there, here) or (encloses(here, there) and not scope.has_named_around(record.container))

    def _moved(self) -> Iterator[StepRecord]:
        """Find records of other places that an edit may have moved this call from, seen from each body around it.

        They are, or stand below, steps that were not called again where this call is made now. Below one that the step
        around this call may replace, other inputs are no other call.
        """
        scope, place, inner = self._scope, join(self._scope.container, self._scope.branch), None
        equal: list[StepRecord] | None = None
        for body in _bodies_around(self._match.frame.body):
            history = body.scope.history
            if not history.is_empty:
                fits = _Beside(history, scope, place, inner)
                equal = list(self._recorded(self._call.content)) if equal is None else equal
                if equal:
                    steps = {step.seq for step in history.unused(lambda _: True, fits=fits)}
                    yield from (each for each in equal if self._is_in_or_below(each, steps, is_in=inner is not None))
                if inner is not None:
                    yield from self._below_replaced(inner, history, fits)
            inner = body.record
            if inner is not None and body.scope.outer is not None:
                scope, place = body.scope.outer, join(inner.container, inner.branch)

    def _below_replaced(self, inner: StepRecord, history: StepHistory, fits: _Beside) -> Iterator[StepRecord]:
        def may_be_replaced(label: str) -> bool:
            return label == inner.task or self._execution.is_gone(label)

        replaced = history.unused(may_be_replaced, fits=lambda step: step.container == inner.container and fits(step))
        if replaced:
            steps = {step.seq for step in replaced}
            yield from (each for each in self._recorded() if self._is_in_or_below(each, steps, is_in=False))

    def _recorded(self, content: bytes | None = None) -> Iterator[StepRecord]:
        """Read what earlier executions recorded of this task, wherever; or of this content."""
        execution = self._execution
        tasks = None if content is not None else tuple(sorted(self._labels))
        found = all_steps(execution.journal.store, execution.id, StepQuery(content=content, tasks=tasks))
        return takewhile(lambda record: record.seq <= execution.past.last_event, found)

    def _is_in_or_below(self, record: StepRecord, steps: set[int], *, is_in: bool) -> bool:
        if record.seq in self._execution.reused or not self._says_the_same_or_no_key(record):
            return False
        return (is_in and record.seq in steps) or self._stands_below(record, steps)

    def _stands_below(self, record: StepRecord, steps: set[int]) -> bool:
        execution, parent = self._execution, record.parent
        while parent and parent not in steps:
            parent = step_at(execution.journal.store, execution.id, parent).parent
        return bool(parent)


class _Beside:
    """Whether a record stands in a place, or in a scope around it, or in one in it that is not made now, and was there
    before the step `inner` that is.

    A branch that this execution has made too will call its steps by itself.
    """

    def __init__(self, history: StepHistory, scope: Scope, place: str, inner: StepRecord | None) -> None:
        self._history = history
        self._scope = scope
        self._place = place
        self._inner = inner

    def __call__(self, record: StepRecord) -> bool:
        if self._inner is not None and record.seq > self._inner.seq:
            return False
        if record.branch and self._history.is_entered(record.container, record.branch):
            return join(record.container, record.branch) == self._place
        if encloses(record.container, self._place):
            return True
        return encloses(self._place, record.container) and not self._scope.has_named_around(record.container)


def _bodies_around(body: Body | None) -> Iterator[Body]:
    """List a body and those around it, the innermost first; up to a step that is undone, for no code called that now."""
    while body is not None:
        yield body
        body = body.outer if body.scope.outer is not None else None


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
    here = step_key(match.scope.container, match.scope.branch, call.label, match.occurrence)
    command = "" if execution.workflow.is_block else f" ({shell_command('resume', execution.id)} --on-drift reuse)"
    tries = "was resumed" if execution.history.is_earlier(record) else f"tries step {match.frame.body.step_key!r} again"
    return (
        f"Run {execution.id} {tries} and calls {here!r}, which is not recorded, while the recorded "
        f"call {record.key!r} was not made. Changed: {'; '.join(changed) or nothing}. {tail} To use the recorded result, "
        f"resume with on_drift='reuse'{command}; if it is a new call, with on_drift='run'; DURABLE_ON_DRIFT takes both. If "
        f"the input differs on every start, take it from durable.now(), durable.uuid4() or durable.random(), or name the "
        f"call with key=, so that later runs do not ask."
    )


def _shown(arguments: dict[str, Argument], name: str) -> str:
    return arguments[name].preview if name in arguments else "the default"


def _digest(arguments: dict[str, Argument], name: str) -> str | None:
    return arguments[name].digest if name in arguments else None
