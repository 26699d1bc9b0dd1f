"""Stored steps for tests of what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.records import Batch, RunRecord, StepRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.stores.protocol import Store

RUN = "run"


def make_step(seq: int, **fields: Any) -> StepRecord:
    """Make a step of the workflow itself that succeeded; `name` stands for task and content."""
    name = fields.pop("name", "job")
    given: dict[str, Any] = {
        "run_id": RUN,
        "seq": seq,
        "parent": 0,
        "container": "",
        "branch": "",
        "task": name,
        "label": name,
        "content": name.encode().ljust(16, b"\0"),
        "occurrence": 1,
        "status": "succeeded",
        "flags": 0,
        "epoch": 1,
        "attempts": 1,
        "interruptions": 0,
        "started_at": 0.0,
        "value": b"value",
    }
    return StepRecord(**{**given, **fields})


def make_run(store: Store, **fields: Any) -> RunRecord:
    """Make a run that this process owns."""
    given: dict[str, Any] = {
        "id": RUN,
        "workflow": "workflow",
        "status": "running",
        "epoch": 1,
        "owner": store.owner,
        "created_at": 0.0,
        "updated_at": 0.0,
        "lineage": RUN,
    }
    return RunRecord(**{**given, **fields})


def store_steps(store: Store, steps: Iterable[StepRecord]) -> None:
    """Store a run with these steps."""
    fences = {RUN: (1, store.owner)}
    store.write(Batch(created=(make_run(store),), fences=fences))
    rest = list(steps)
    while rest:
        assert store.write(Batch(steps=tuple(rest[:5000]), fences=fences)) == frozenset()
        del rest[:5000]
