"""Steps are read page by page: a store may give fewer than were asked for, and only an empty answer is the end of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from durable.records import StepQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import StepRecord
    from durable.stores.protocol import Store

_ALL = StepQuery()


def all_steps(store: Store, run_id: str, query: StepQuery = _ALL) -> Iterator[StepRecord]:
    """Read all steps of a run that a query asks for, each page when it is needed."""
    while page := store.steps(run_id, query):
        yield from page
        query = replace(query, after=page[-1].seq)


def step_at(store: Store, run_id: str, seq: int) -> StepRecord:
    """Read the step of this number, which is there."""
    [record] = store.steps(run_id, StepQuery(after=seq - 1, limit=1))
    return record
