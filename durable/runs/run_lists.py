"""A list of runs is a plain list that also knows how a notebook draws it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable.records import RunSummary
    from durable.runs.handles import Run
    from durable.runs.sessions import Session


class Runs(list["Run"]):
    """Runs, with the numbers of their steps by run id."""

    steps: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def of(cls, kind: type[Run], session: Session, summaries: Sequence[RunSummary]) -> Runs:
        """Make a list of what a store lists."""
        runs = cls(kind(session, summary.run.id) for summary in summaries)
        runs.steps = {summary.run.id: sum(summary.steps.values()) for summary in summaries}
        return runs

    def _repr_html_(self) -> str:
        from durable.notebooks.tables import runs_html  # noqa: PLC0415 -- needed in notebooks only

        return runs_html(self, self.steps)
