"""A store in this process's memory: every rule of a store but durability. For tests and for trying things out."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError
from durable.records import (
    ENDED,
    ITEMS,
    Batch,
    Claim,
    History,
    Message,
    Replayed,
    Request,
    RunFilter,
    RunRecord,
    RunStatus,
    RunSummary,
    StepFlag,
    StepQuery,
    StepRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MemoryStore:
    """A store that ends with its process; each instance is a store of its own."""

    def __init__(self) -> None:
        """Make an empty store."""
        self._guard = threading.RLock()
        self._owner = uuid.uuid4().hex
        self._runs: dict[str, RunRecord] = {}
        self._steps: dict[str, dict[int, StepRecord]] = {}
        self._requests: dict[str, str] = {}
        self._messages: dict[str, list[Message]] = {}
        self._consumed: set[int] = set()
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The store's URL."""
        return "memory:"

    @property
    def owner(self) -> str:
        """Token of this process."""
        return self._owner

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        """See `Store.claim`."""
        with self._guard:
            before = self._runs.get(run_id)
            if before is None:
                return None
            history = self._history(run_id)
            run = replace(
                before,
                epoch=before.epoch + 1,
                owner=self._owner,
                host=host,
                pid=pid,
                updated_at=now,
                status=RunStatus.RUNNING,
                mark=history.last_done,
            )
            self._runs[run_id] = run
            self._requests.pop(run_id, None)
            return Claim(run, granted=True, previous=before, history=history)

    def _history(self, run_id: str) -> History:
        steps = self._steps.get(run_id, {}).values()
        return History(
            sum(step.task != ITEMS for step in steps),
            max((step.seq for step in steps), default=0),
            max((step.done or 0 for step in steps), default=0),
            sum(step.status == "succeeded" and step.task != ITEMS for step in steps),
            max((step.done or 0 for step in steps if not step.flags & StepFlag.ALWAYS), default=0),
        )

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        """See `Store.write`."""
        if not self._guard.acquire(blocking=wait):
            return None
        try:
            lost = {run.id for run in batch.created if not self._create(run)}
            for run_id, fence in batch.fences.items():
                held = self._runs.get(run_id)
                if held is None or (held.epoch, held.owner) != fence:
                    lost.add(run_id)
            ended = {run.id: run for run in batch.ended}
            for run_id in [run_id for run_id in lost if run_id in ended and self._runs.get(run_id) == ended[run_id]]:
                lost.discard(run_id)  # a repeated batch finds its own work
            for step in batch.steps:
                if step.run_id not in lost:
                    self._steps.setdefault(step.run_id, {})[step.seq] = step
            self._consumed.update(each.message for each in batch.received if each.step.run_id not in lost)
            for run in batch.ended:
                if run.id not in lost:
                    self._runs[run.id] = run
            return frozenset(lost)
        finally:
            self._guard.release()

    def _create(self, run: RunRecord) -> bool:
        held = self._runs.setdefault(run.id, run)
        return (held.epoch, held.owner) == (run.epoch, run.owner)

    def fetch(self, reference: bytes) -> bytes:
        """See `Store.fetch`; this store makes no references."""
        raise CorruptRecordError(f"This store keeps no values apart, so {reference!r} leads nowhere.")

    def load_run(self, run_id: str) -> RunRecord | None:
        """See `Store.load_run`."""
        with self._guard:
            return self._runs.get(run_id)

    def runs(self, which: RunFilter) -> Sequence[RunSummary]:
        """See `Store.runs`."""
        with self._guard:
            found = [run for run in reversed(self._runs.values()) if _matches(run, which)]
            found.sort(key=lambda run: run.created_at, reverse=True)
            return [RunSummary(run, self._counts(run.id)) for run in found[: which.limit]]

    def _counts(self, run_id: str) -> dict[str, int]:
        steps = self._steps.get(run_id, {}).values()
        return dict(Counter(step.status for step in steps if step.task != ITEMS))

    def steps(self, run_id: str, query: StepQuery) -> Sequence[StepRecord]:
        """See `Store.steps`."""
        return self._matching(run_id, query)[: query.limit]

    def step_tasks(self, run_id: str, query: StepQuery) -> frozenset[str]:
        """See `Store.step_tasks`."""
        return frozenset(step.task for step in self._matching(run_id, query))

    def _matching(self, run_id: str, query: StepQuery) -> list[StepRecord]:
        with self._guard:
            steps = sorted(self._steps.get(run_id, {}).items())
        return [
            step
            for seq, step in steps
            if seq > query.after
            and query.parent in (None, step.parent)
            and query.content in (None, step.content)
            and query.scope in (None, (step.container, step.branch))
            and (query.tasks is None or step.task in query.tasks)
            and (query.statuses is None or step.status in query.statuses)
            and (query.flags is None or step.flags & query.flags)
        ]

    def replayed(self, run_id: str, parent: int, last: int, epoch: int) -> Replayed:
        """See `Store.replayed`."""
        steps = [
            step
            for step in self._matching(run_id, StepQuery(parent=parent, statuses=ENDED))
            if (last < 0 or step.seq <= last) and step.epoch < epoch and not step.flags & StepFlag.NO_BODY
        ]
        return Replayed(len(steps), sum(max(0.0, (step.ended_at or 0.0) - step.started_at) for step in steps))

    def is_alive(self, owner: str) -> bool:
        """See `Store.is_alive`."""
        return owner == self._owner

    def post_request(self, run_id: str, request: str) -> None:
        """See `Store.post_request`."""
        with self._guard:
            if run_id in self._runs:
                self._requests[run_id] = request

    def requests(self) -> Mapping[str, Request]:
        """See `Store.requests`."""
        with self._guard:
            found = {
                run.id: Request(self._requests.get(run.id, ""), max(self._waiting(run.id), default=0))
                for run in self._runs.values()
                if run.owner == self._owner
            }
            return {run_id: request for run_id, request in found.items() if any(request)}

    def _waiting(self, run_id: str) -> list[int]:
        return [each.number for each in self._messages.get(run_id, ()) if each.number not in self._consumed]

    def changes(self) -> object:
        """See `Store.changes`; no other process writes here."""
        return self._owner

    def post_message(self, message: Message) -> int:
        """See `Store.post_message`."""
        with self._guard:
            run = self._runs.get(message.run_id)
            sent = self._messages.setdefault(message.run_id, [])
            for earlier in sent if message.key is not None else ():
                if earlier.key == message.key:
                    return earlier.number
            if run is None or run.status in (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED):
                return 0
            sent.append(message._replace(number=next(self._numbers)))
            return sent[-1].number

    def next_message(self, run_id: str, name: str, *, after: int = 0) -> Message | None:
        """See `Store.next_message`."""
        with self._guard:
            for message in self._messages.get(run_id, ()):
                if message.name == name and message.number > after and message.number not in self._consumed:
                    return message
            return None

    def delete_run(self, run_id: str) -> None:
        """See `Store.delete_run`."""
        with self._guard:
            for table in (self._runs, self._steps, self._requests, self._messages):
                table.pop(run_id, None)

    def sweep(self) -> int:
        """See `Store.sweep`; this store keeps no values apart."""
        return 0

    def report(self) -> Mapping[str, str]:
        """See `Store.report`."""
        return {"store": self.url, "durability": "none: everything ends with this process"}

    def close(self) -> None:
        """See `Store.close`."""


def _matches(run: RunRecord, which: RunFilter) -> bool:
    return (
        (which.prefix is None or run.id.startswith(which.prefix))
        and which.lineage in (None, run.lineage)
        and which.workflow in (None, run.workflow)
        and run.workflow != which.other_than
        and which.parent_run in (None, run.parent_run)
        and (not which.statuses or run.status in which.statuses)
        and (which.ended_before is None or (run.ended_at is not None and run.ended_at < which.ended_before))
    )
