"""A fork is a new run that begins with what was finished before some step; the run that it comes from stays as it is.

Before it means where the program calls it, whenever that was: a step that was executed anew in place of an undone one
stands where that one stood, and with it all that it called; what a later execution called first, just before the next
checkpoint that it came to.
"""

from __future__ import annotations

import json
from bisect import bisect
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from durable.called_runs import runs_by_step
from durable.declarations.naming import check_run_id
from durable.errors import ConfigurationError, NotFoundError, RunError
from durable.identity.run_calls import sealed_inputs
from durable.records import RunFilter, RunStatus, StepFlag, StepStatus
from durable.runs import sessions
from durable.runs.checkpoints import is_checkpoint, passed
from durable.runs.copies import carried, copyable, derived_id, moved, plant, to_be_undone
from durable.runs.endings import moved_outcome
from durable.step_pages import all_steps
from durable.steps.details import Details
from durable.steps.verdicts import is_tried_again, is_undone
from durable.telling.explaining import is_left_in_doubt, recorded_past
from durable.undoing.outstanding import is_being_undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from durable.records import RunRecord, StepRecord
    from durable.runs.sessions import Session

_KEPT = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.UNDONE)


def fork_point(steps: list[StepRecord], name: str, find_step: Callable[[str], StepRecord]) -> StepRecord:
    """Find a step by its key or number, a checkpoint by its name, or a step by the beginning of its key."""
    if not isinstance(name, str):
        raise ConfigurationError(
            f"A fork begins at a step key, a #number or the name of a checkpoint, not at {name!r}."
        )
    exact = [step for step in steps if name in (step.key, f"#{step.seq}")]
    found = exact or [step for step in steps if name and is_checkpoint(step, name)]
    if not found:
        return find_step(name)
    if len(found) > 1:
        shown = ", ".join(f"#{step.seq} {step.key}" for step in found[:5])
        raise NotFoundError(f"{name!r} is the name of several steps: {shown}. Name one by its #number.")
    return found[0]


class Before:
    """What stands, and what had ended, before a step in the program of its run.

    A call that an execution made first stands before each checkpoint that this execution came to afterwards, however old
    that is; with what had ended stands all that was called in it.
    """

    def __init__(self, steps: Iterable[StepRecord], point: StepRecord) -> None:
        self._steps = {step.seq: step for step in steps}
        self._firsts = dict(_replacements(self._steps.values()))
        self._around = self._replaced_around(point)
        self._enclosing = {step.seq for step in self._path(point)}
        self._point = point.seq
        self._outside = self._firsts[self._around[0]].seq if self._around else point.seq
        self._passed = passed(self._steps.values())

    def stands(self, step: StepRecord) -> bool:
        """Whether the program calls a step before this one."""
        first, limit = self._placed(step)
        return self._is_before(first.seq, limit) or self._is_in_what_had_ended(step)

    def has_ended(self, step: StepRecord) -> bool:
        """Whether a step that stands before this one had ended when that was called."""
        first, limit = self._placed(step)
        ended = Details.read(first.details).first or first.done
        if step.done is None or ended is None:
            return False
        return is_undone(step) or self._is_before(ended, limit) or self._is_in_what_had_ended(step)

    def _is_before(self, event: int, limit: int) -> bool:
        return self._place(event) < self._place(limit)

    def _place(self, event: int) -> tuple[float, ...]:
        """Say where in the program an event stands: by its number, but just before the checkpoint that came after it."""
        at = bisect(self._passed, event, key=attrgetter("came"))
        if at == len(self._passed) or self._passed[at].begun >= event:
            return (event,)
        checkpoint = self._passed[at].checkpoint
        return (*self._place(checkpoint)[:-1], checkpoint - 0.5, event)

    def _is_in_what_had_ended(self, step: StepRecord) -> bool:
        outer = self._steps.get(step.parent)
        return outer is not None and outer.seq not in self._enclosing and self.stands(outer) and self.has_ended(outer)

    def _placed(self, step: StepRecord) -> tuple[StepRecord, int]:
        """Give what was called first where a step stands, and the number of the call to compare it with."""
        replaced = self._replaced_around(step)
        inner = [seq for seq in replaced if seq not in self._around]
        is_inside = len(inner) < len(replaced)
        return self._firsts[inner[0]] if inner else step, self._point if is_inside else self._outside

    def _replaced_around(self, step: StepRecord) -> list[int]:
        """List the steps in place of others that a step is or stands in, the outermost first."""
        return [each.seq for each in self._path(step) if each.seq in self._firsts]

    def _path(self, step: StepRecord) -> list[StepRecord]:
        """List a step after the steps that it stands in, the outermost first."""
        found = [step]
        while (outer := self._steps.get(found[0].parent)) is not None:
            found.insert(0, outer)
        return found


def _replacements(steps: Iterable[StepRecord]) -> Iterator[tuple[int, StepRecord]]:
    """Give the steps that were executed in place of undone ones with the first calls that were made there.

    In every execution the n-th call of a content uses the n-th of its records that is not undone.
    """
    alike: dict[tuple[str, bytes], list[StepRecord]] = {}
    for step in steps:
        alike.setdefault((step.container, step.content), []).append(step)
    for calls in alike.values():
        if any(map(is_undone, calls)):
            calls.sort(key=attrgetter("seq"))
            live = [step for step in calls if not is_undone(step)]
            yield from ((step.seq, first) for step, first in zip(live, calls, strict=False) if step is not first)
            yield from ((step.seq, calls[0]) for step in calls[1:] if is_undone(step))


def fork_run(session: Session, run: RunRecord, steps: list[StepRecord], point: StepRecord, before: Before) -> str:
    """Make a run that keeps what was finished before this step; gives its id. Raises `RunError` while the old one is undone."""
    kept = _carried(run, filter(before.stands, steps), steps, before.has_ended)
    entry = json.dumps(json.loads(run.entry) | {"forked_from": run.id, "forked_at": point.key})
    number = 1 + len(session.store.runs(RunFilter(prefix=f"{run.id}-fork-")))
    while True:
        run_id = check_run_id(f"{run.id}-fork-{number}")
        begun = _begun(replace(run, entry=entry, parent_run=None, parent_step=None))
        copies = _copies(session, begun, run_id, kept)
        if session.store.load_run(run_id) is None and plant(session, list(copies)):
            return run_id
        number += 1


def _carried(
    run: RunRecord, copied: Iterable[StepRecord], steps: list[StepRecord], has_ended: Callable[[StepRecord], bool]
) -> list[StepRecord]:
    """Give some of the steps of a run as another one begins with them: of what had ended, all that a resume would use."""
    if is_being_undone(run):
        raise RunError(
            f"Run {run.id} is being undone: what its steps did may hold no more, so nothing can begin with them. Resume it, "
            f"so that undoing ends, and fork it then.",
            run.id,
        )
    past = recorded_past(run, steps)
    return carried(
        copied,
        lambda step: (
            step.status in _KEPT
            and has_ended(step)
            and (step.status == StepStatus.SUCCEEDED or not is_tried_again(step, past))
        ),
        lambda step: is_left_in_doubt(step, past),
    )


def _begun(run: RunRecord) -> RunRecord:
    """Give a run as one that nobody has executed yet."""
    now = sessions.clock()
    end: dict[str, Any] = {"ended_at": None, "result": None, "error": None, "outcome": "{}"}
    return replace(run, status=RunStatus.PENDING, created_at=now, updated_at=now, **end)


def _copies(
    session: Session, run: RunRecord, run_id: str, steps: list[StepRecord]
) -> Iterator[tuple[RunRecord, list[StepRecord]]]:
    """Give a run as another one that begins with these steps, and so the runs that those are as far as it needs them."""
    copied = [moved(session, step, run_id) for step in steps]
    outcome = moved_outcome(session, run, run_id)
    yield replace(outcome, id=run_id, lineage=run_id, inputs=sealed_inputs(session, run, run_id), mark=0), copied
    children = runs_by_step(session.store, run.id)
    for source, step in zip(steps, copied, strict=True):
        child = children.get(step.key) if step.flags & StepFlag.CHILD_RUN else None
        if child is None or child.lineage != derived_id(child.lineage, source):
            continue
        below = replace(child, parent_run=run_id, parent_step=step.key)
        if step.status == StepStatus.STARTED:
            # nobody can tell what it had finished before the point of the fork: it keeps all
            records = list(all_steps(session.store, child.id))
            kept = _carried(child, copyable(records), records, lambda _: True)
            yield from _copies(session, _begun(below), derived_id(child.lineage, step), kept)
        elif (whole := to_be_undone(session.store, child)) is not None:
            yield from _copies(session, below, derived_id(child.lineage, step), whole)


def executed_again(session: Session, run: RunRecord, steps: list[StepRecord], point: StepRecord) -> list[StepRecord]:
    """List the steps that a fork executes again and that are not idempotent, also of the workflows that the run had called."""
    before = Before(steps, point)
    again = [step for step in _not_repeatable(steps) if not (before.stands(step) and before.has_ended(step))]
    return again + list(_below(session, run, [step for step in steps if not before.stands(step)]))


def _not_repeatable(steps: Iterable[StepRecord]) -> Iterator[StepRecord]:
    for step in steps:
        is_over = step.status not in (StepStatus.STARTED, StepStatus.UNDONE)
        if is_over and step.flags & StepFlag.NOT_IDEMPOTENT and not step.flags & StepFlag.NO_EFFECT:
            yield step


def _below(session: Session, run: RunRecord, steps: Iterable[StepRecord]) -> Iterator[StepRecord]:
    """List what is not idempotent in the runs that steps of a run are: called again they are new runs, unless named ones."""
    called = [step for step in steps if step.flags & StepFlag.CHILD_RUN]
    children = runs_by_step(session.store, run.id) if called else {}
    for step in called:
        child = children.get(step.key)
        if child is not None and child.lineage == derived_id(child.lineage, step):
            records = list(all_steps(session.store, child.id))
            yield from _not_repeatable(records)
            yield from _below(session, child, records)
