"""What can be taken out of a run as it is recorded: its state, a snapshot, another run. None of it changes the run."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from durable.costs.recorded_costs import run_cost
from durable.records import StepFlag, StepStatus
from durable.runs.copies import copyable
from durable.runs.endings import stored_state
from durable.runs.forks import Before, fork_point, fork_run
from durable.runs.snapshots import take
from durable.runs.states import folded
from durable.telling.explaining import recorded_past
from durable.telling.graphs import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable.costs.costs import Cost
    from durable.records import RunRecord, StepRecord
    from durable.runs.sessions import Session
    from durable.steps.verdicts import Past
    from durable.telling.graphs import GraphFormat


class RecordedRun:
    """The part of `Run` that makes something new of what is recorded."""

    if TYPE_CHECKING:
        _session: Session
        id: str

        def __init__(self, session: Session, run_id: str) -> None: ...

        @property
        def record(self) -> RunRecord: ...

        def step_records(self) -> Iterator[StepRecord]: ...

        def all_records(self) -> Iterator[StepRecord]: ...

        def find_step(self, step: str) -> StepRecord: ...

    @property
    def forked_from(self) -> str | None:
        """Id of the run that this one was forked from."""
        origin: str | None = json.loads(self.record.entry).get("forked_from")
        return origin

    @property
    def state(self) -> Mapping[str, Any]:
        """The run's `durable.state`, read-only: of a run that this process executes as its workflow sees it now, of one that
        has ended as it was then, of others what their finished steps made of it.
        """
        execution = self._session.active.get(self.id)
        if execution is not None:
            changes = [] if execution.state is None else [execution.state.whole()]
            return MappingProxyType(folded(changes))
        ended = stored_state(self._session, self.record)
        if ended is not None:
            return MappingProxyType(folded([ended]))
        steps = [step for step in self.step_records() if _counts(step)]
        return MappingProxyType(
            folded([_changes(self._session, step) for step in sorted(steps, key=lambda step: step.done or 0)])
        )

    @property
    def cost(self) -> Cost:
        """What the run cost, in all its executions and with the runs that it called."""
        if self.id in self._session.active:
            self._session.journal.flush_all()
        return run_cost(self._session.store, self.id, alive=is_under_way(self._session, self.record))

    def graph(self, format: GraphFormat = "mermaid") -> str:  # noqa: A002 -- what it is called everywhere
        """Draw the steps with their status, nesting and order, in the language of Mermaid or of Graphviz (`dot`)."""
        return draw(*self._look(), format)

    def _look(self) -> tuple[RunRecord, list[StepRecord], Past | None]:
        record, steps = self.record, list(self.step_records())
        return record, steps, None if is_under_way(self._session, record) else recorded_past(record, steps)

    def snapshot(self) -> dict[str, Any]:
        """Give what the run has finished, for `json.dumps`; `workflow.with_options(snapshot=...)` goes on from it elsewhere.

        Generators are not finished there: they are executed again. Raises `ConfigurationError` for one that is not idempotent.
        `["steps"]` holds each finished step by its key, with its `status` and `result`; a result beyond JSON is None, with
        its bytes in `payload`. `["doubts"]` holds the steps that may have happened. With DURABLE_SECRET_KEY it is signed.
        """
        return take(self._session, self.record, copyable(list(self.all_records())))

    def fork(self, *, from_: str) -> Self:
        """Make a new run that keeps the steps that were finished before this one, and give it; `resume()` executes the rest.

        `from_` is a step key, a unique beginning of one, `#number`, or the name of a checkpoint. This run stays as it is.
        Steps that are executed again have new idempotency keys, so what is not idempotent happens a second time; a step
        in doubt before `from_` stays in doubt. Generators are executed again. A run that one of its steps is, and that had not
        ended before `from_`, begins with all that it has finished. Raises `NotFoundError` for an unknown or
        ambiguous step, `ConfigurationError` if a generator before it is not idempotent, `RunError` while the run is undone.
        """
        point = fork_point(list(self.step_records()), from_, self.find_step)
        records = list(self.all_records())
        before = Before(records, point)
        steps = copyable(records, before.stands)
        return type(self)(self._session, fork_run(self._session, self.record, steps, point, before))


def is_under_way(session: Session, record: RunRecord) -> bool:
    """Whether a living process executes the run."""
    if record.id in session.active:
        return True
    return bool(record.owner) and record.owner != session.store.owner and session.store.is_alive(record.owner)


def _counts(step: StepRecord) -> bool:
    """Whether a step changed the state of the workflow itself: what is in another step counts with that one."""
    return not step.parent and step.status == StepStatus.SUCCEEDED and bool(step.flags & StepFlag.STATE)


def _changes(session: Session, step: StepRecord) -> Any:
    assert step.value is not None
    data = session.fetch(step.value, run=step.run_id, step=step.key)
    return session.serializer.decode_beside(data, run=step.run_id, step=step.key)
