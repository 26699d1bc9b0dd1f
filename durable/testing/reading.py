"""What is read: steps page by page, and lists of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.records import ITEMS, Batch, RunFilter, RunRecord, RunStatus, StepFlag, StepQuery, StepRecord, StepStatus
from durable.testing.cases import StoreCase, make_run, make_step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.stores.protocol import Store


class ReadingContract(StoreCase):
    """All conditions of a query hold together."""

    def _with_steps(self) -> tuple[Store, list[StepRecord]]:
        store = self.make_store()
        statuses = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.STARTED)
        steps = [
            make_step(
                seq,
                parent=seq % 2,
                container="scope" if seq % 3 else "",
                branch="" if seq % 5 else "branch",
                task=f"task {seq % 4}",
                status=statuses[seq % 3],
                content=bytes([seq % 7]) * 16,
                flags=seq % 8,
            )
            for seq in range(1, 61)
        ]
        run = self.begun(store)
        self.record(store, run, *reversed(steps))
        self.record(store, self.begun(store, "other"), *(make_step(seq, "other", task="other") for seq in range(1, 9)))
        return store, steps

    def test_steps_come_in_order(self) -> None:
        """Steps come in the order of their numbers, those of the run alone, in whatever order they were written."""
        store, steps = self._with_steps()
        assert self.steps(store) == steps
        assert store.steps("absent", StepQuery()) in ([], ())
        self.close(store)

    def test_pages(self) -> None:
        """`after` leaves out steps up to that number, and `limit` bounds a page."""
        store, steps = self._with_steps()
        page = store.steps("run", StepQuery(after=10, limit=7))
        assert list(page) == steps[10:17]
        assert list(store.steps("run", StepQuery(after=57, limit=7))) == steps[57:]
        assert not store.steps("run", StepQuery(after=60))
        assert self.steps(store, limit=7) == steps
        self.close(store)

    def test_conditions_on_steps(self) -> None:
        """Each condition holds by itself."""
        store, steps = self._with_steps()
        assert self.steps(store, parent=1) == [step for step in steps if step.parent == 1]
        assert self.steps(store, parent=0) == [step for step in steps if step.parent == 0]
        assert self.steps(store, content=b"\x03" * 16) == [step for step in steps if step.content == b"\x03" * 16]
        assert self.steps(store, scope=("", "")) == self._where(steps, container="", branch="")
        assert self.steps(store, scope=("scope", "branch")) == self._where(steps, container="scope", branch="branch")
        assert self.steps(store, tasks=("task 1", "task 3")) == self._where(steps, parent=1)
        assert self.steps(store, statuses=("failed",)) == self._where(steps, status="failed")
        assert self.steps(store, tasks=()) == self.steps(store, statuses=()) == []
        assert self.steps(store, flags=3) == [step for step in steps if step.flags & 3]
        assert self.steps(store, flags=0) == []
        self.close(store)

    def _where(self, steps: Iterable[StepRecord], **equal: Any) -> list[StepRecord]:
        return [step for step in steps if all(getattr(step, name) == value for name, value in equal.items())]

    def test_steps_by_content_after_each_claim(self) -> None:
        """By content are found, at any time after a claim, all steps that were written before it."""
        store = self.make_store()
        run = self.begun(store)
        assert self.steps(store, content=b"\x01" * 16) == []
        for seq in range(1, 4):
            self.record(store, run, make_step(seq, content=b"\x01" * 16), make_step(seq + 10, content=b"\x02" * 16))
            run = self.claim(store)
            self.record(store, run, make_step(seq + 20, content=b"\x03" * 16))
            assert [step.seq for step in self.steps(store, content=b"\x01" * 16)] == list(range(1, seq + 1))
            assert [step.seq for step in self.steps(store, content=b"\x02" * 16)] == list(range(11, seq + 11))
        self.close(store)

    def test_conditions_on_steps_together(self) -> None:
        """All conditions hold together, with `after` and `limit` counted among the matches."""
        store, steps = self._with_steps()
        query = StepQuery(
            after=4, limit=3, parent=1, scope=("scope", ""), tasks=("task 1", "task 2"), statuses=("failed",)
        )
        matching = self._where(steps, parent=1, container="scope", branch="", task="task 1", status="failed")
        assert list(store.steps("run", query)) == [step for step in matching if step.seq > query.after][:3]
        assert matching
        self.close(store)

    def test_lean_steps(self) -> None:
        """A lean read leaves out nothing that replaying needs, and nothing at all of steps without a stored result."""
        store, steps = self._with_steps()
        whole = [step for step in steps if step.parent == 0]
        for found, step in zip(self.steps(store, parent=0, lean=True), whole, strict=True):
            needed = (step[:11], step.done, step.value, step.details)
            assert (found[:11], found.done, found.value, found.details) == needed
            assert found == step or (found.epoch == 0 and step.status == "succeeded" and step.value is not None)
        self.close(store)

    def test_tasks_of_steps(self) -> None:
        """`step_tasks` gives each name once, of the steps that match, whatever the limit."""
        store, _ = self._with_steps()
        assert store.step_tasks("run", StepQuery(limit=1)) == {"task 0", "task 1", "task 2", "task 3"}
        assert store.step_tasks("run", StepQuery(parent=1, limit=1)) == {"task 1", "task 3"}
        assert store.step_tasks("run", StepQuery(after=58)) == {"task 3", "task 0"}
        assert store.step_tasks("absent", StepQuery()) == frozenset()
        self.close(store)

    def test_replayed_steps(self) -> None:
        """`replayed` counts the steps below one that had a body and ended before an epoch, and their seconds."""
        store = self.make_store()
        run = self.begun(store)
        self.record(
            store,
            run,
            make_step(1),
            make_step(2, status=StepStatus.FAILED, ended_at=1004.0),
            make_step(3, status=StepStatus.CANCELLED),
            make_step(4, status=StepStatus.STARTED, ended_at=None, done=None),
            make_step(5, status=StepStatus.UNDONE),
            make_step(6, flags=StepFlag.NO_BODY),
            make_step(7, epoch=2),
            make_step(8, parent=1),
        )
        assert store.replayed("run", 0, -1, 2) == (3, 3.0)
        assert store.replayed("run", 0, 2, 2) == (2, 2.5)
        assert store.replayed("run", 0, -1, 3) == (4, 3.5)
        assert store.replayed("run", 1, -1, 2) == (1, 0.5)
        assert store.replayed("run", 0, -1, 1) == store.replayed("absent", 0, -1, 9) == (0, 0.0)
        self.close(store)

    def _with_runs(self) -> tuple[Store, list[RunRecord]]:
        store = self.make_store()
        statuses = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RUNNING, RunStatus.BLOCKED)
        listed = [
            make_run(
                f"{'ab'[number % 2]}-{number:02}",
                owner=store.owner,
                created_at=1000.0 + (number * 7) % 20,
                workflow=f"workflow {number % 3}",
                status=statuses[number % 4],
                ended_at=2000.0 + number if number % 4 in (0, 1) else None,
                parent_run=f"a-{number % 5:02}" if number % 2 else None,
                lineage=f"lineage {number % 6}",
            )
            for number in range(20)
        ]
        store.write(Batch(created=tuple(listed)))
        return store, sorted(listed, key=lambda run: run.created_at, reverse=True)

    def test_runs_come_newest_first(self) -> None:
        """Runs come the newest first, and among those of one time the one that was written last."""
        store, listed = self._with_runs()
        assert [summary.run for summary in store.runs(RunFilter())] == listed
        for name in ("x", "y", "z"):
            self.begun(store, name, created_at=5000.0)
        assert self.ids(store, limit=3) == ["z", "y", "x"]
        self.close(store)

    def test_conditions_on_runs(self) -> None:
        """Each condition on runs holds by itself."""
        store, listed = self._with_runs()
        for conditions in (
            {"workflow": "workflow 1"},
            {"lineage": "lineage 4"},
            {"parent_run": "a-03"},
            {"workflow": "workflow"},
        ):
            ((name, value),) = conditions.items()
            assert self.ids(store, **conditions) == [run.id for run in listed if getattr(run, name) == value]
        others = [run.id for run in listed if run.workflow != "workflow 1"]
        assert self.ids(store, other_than="workflow 1") == others
        assert self.ids(store, prefix="b-") == [run.id for run in listed if run.id.startswith("b-")]
        assert self.ids(store, prefix="b-1") == [run.id for run in listed if run.id.startswith("b-1")]
        assert self.ids(store, prefix="%") == self.ids(store, prefix="a_") == []
        assert self.ids(store, prefix="") == [run.id for run in listed]
        wanted = (RunStatus.FAILED, RunStatus.BLOCKED)
        assert self.ids(store, statuses=wanted) == [run.id for run in listed if run.status in wanted]
        limit = 2008.0
        assert self.ids(store, ended_before=limit) == [run.id for run in listed if (run.ended_at or 9999.0) < limit]
        self.close(store)

    def test_conditions_on_runs_together(self) -> None:
        """All conditions on runs hold together, and the limit counts matches."""
        store, listed = self._with_runs()
        limit = 2016.0
        ids = [
            run.id
            for run in listed
            if run.id.startswith("a") and run.status == RunStatus.SUCCEEDED and (run.ended_at or 9999.0) < limit
        ]
        conditions = {"prefix": "a", "statuses": (RunStatus.SUCCEEDED,), "ended_before": limit}
        assert ids
        assert self.ids(store, **conditions) == ids
        assert self.ids(store, limit=2, **conditions) == ids[:2]
        assert self.ids(store, limit=0, **conditions) == []
        self.close(store)

    def test_counts_of_steps(self) -> None:
        """A list of runs counts each one's steps by status, without statuses that none has and what generators gave."""
        store, steps = self._with_steps()
        self.record(store, self.begun(store, "empty"), make_step(1, "empty", task=ITEMS))
        counts = {summary.run.id: summary.steps for summary in store.runs(RunFilter())}
        expected = {status: len(self._where(steps, status=status)) for status in ("succeeded", "failed", "started")}
        assert counts == {"run": expected, "other": {"succeeded": 8}, "empty": {}}
        self.close(store)
