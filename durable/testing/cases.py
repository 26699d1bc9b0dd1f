"""Records to try a store with, and what every group of its tests is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.records import Batch, RunFilter, RunRecord, RunStatus, StepQuery, StepRecord, StepStatus
from durable.step_pages import all_steps

if TYPE_CHECKING:
    from durable.stores.protocol import Store


def make_run(
    run_id: str = "run", *, owner: str = "", epoch: int = 1, created_at: float = 1000.0, **others: Any
) -> RunRecord:
    """Make a record of a running workflow."""
    run = RunRecord(
        id=run_id,
        workflow="demo.workflow",
        status=RunStatus.RUNNING,
        epoch=epoch,
        owner=owner,
        created_at=created_at,
        updated_at=created_at,
        lineage=run_id,
    )
    return replace(run, **others)


def make_step(seq: int, run_id: str = "run", *, content: bytes = b"c" * 16, **others: Any) -> StepRecord:
    """Make a record of a step that succeeded."""
    step = StepRecord(
        run_id=run_id,
        seq=seq,
        parent=0,
        container="",
        branch="",
        task="demo.task",
        label=f"task:{seq}",
        content=content,
        occurrence=1,
        status=StepStatus.SUCCEEDED,
        flags=0,
        epoch=1,
        attempts=1,
        interruptions=0,
        started_at=1000.0 + seq,
        ended_at=1000.5 + seq,
        done=seq,
        value=b"value %d" % seq,
        error=None,
        details=None,
    )
    return step._replace(**others)


class StoreCase:
    """Stores and shorthands; third parties override the two methods that raise or return None."""

    def make_store(self) -> Store:
        """Give a fresh, empty store."""
        raise NotImplementedError

    def open_again(self, store: Store) -> Store | None:
        """Open the same data as another owner, while `store` stays open; None if the store does not persist."""
        raise NotImplementedError

    def begun(self, store: Store, run_id: str = "run", **others: Any) -> RunRecord:
        """Make a run that the store's process owns."""
        run = make_run(run_id, owner=store.owner, **others)
        assert store.write(Batch(created=(run,))) == frozenset()
        return run

    def fences(self, *held: RunRecord) -> dict[str, tuple[int, str]]:
        """Give the fences of runs."""
        return {run.id: (run.epoch, run.owner) for run in held}

    def record(self, store: Store, run: RunRecord, *steps: StepRecord) -> frozenset[str] | None:
        """Write steps of a run."""
        return store.write(Batch(steps=steps, fences=self.fences(run)))

    def steps(self, store: Store, run_id: str = "run", **query: Any) -> list[StepRecord]:
        """Read all pages."""
        return list(all_steps(store, run_id, StepQuery(**query)))

    def claim(self, store: Store, run_id: str = "run") -> RunRecord:
        """Claim a run that is free."""
        claim = store.claim(run_id, host="here", pid=7, now=2000.0)
        assert claim is not None
        assert claim.granted
        return claim.run

    def ids(self, store: Store, **conditions: Any) -> list[str]:
        """List the ids of runs."""
        return [summary.run.id for summary in store.runs(RunFilter(**conditions))]

    def close(self, *stores: Store | None) -> None:
        """Close the stores that there are."""
        for store in stores:
            if store is not None:
                store.close()
