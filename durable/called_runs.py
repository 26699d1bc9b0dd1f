"""A workflow that is called in a run is a run of its own, which keeps by whom it was called, and by which step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import RunFilter

if TYPE_CHECKING:
    from durable.records import RunRecord
    from durable.stores.protocol import Store


def called_runs(store: Store, run_id: str) -> list[RunRecord]:
    """List the runs that a run called, the newest first."""
    return [summary.run for summary in store.runs(RunFilter(parent_run=run_id))]


def runs_by_step(store: Store, run_id: str) -> dict[str | None, RunRecord]:
    """Give the runs that the steps of a run are, by the keys of the steps: the newest of each."""
    return {run.parent_step: run for run in reversed(called_runs(store, run_id))}
