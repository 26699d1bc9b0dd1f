"""A notebook that has recorded nothing may be one that was renamed: nobody can know, so somebody who can is asked.

A run of a notebook says which file its functions are named after and which file it has now, as seen from the store's folder.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from durable.errors import ConfigurationError
from durable.records import RunFilter, StepFlag, StepQuery
from durable.telling.notices import NOTEBOOK, counted, shell_command, tell

if TYPE_CHECKING:
    from durable.notebooks.names import Name
    from durable.records import RunRecord, RunSummary
    from durable.runs.sessions import Session

_ENTRY = "notebook"


class Place(NamedTuple):
    """Where a notebook is: `named` is the file that its functions are named after, `file` the one that it has now, if known."""

    named: str
    file: str | None

    @staticmethod
    def of(run: RunRecord) -> Place | None:
        """Read it off a run."""
        recorded = json.loads(run.entry).get(_ENTRY)
        return None if recorded is None else Place(*recorded)

    def entry(self, run: RunRecord) -> str:
        """Give the entry of a run that says so."""
        return json.dumps({**json.loads(run.entry), _ENTRY: list(self)})


def ask_for_former(session: Session, name: Name, folder: str) -> None:
    """Say which recorded run's notebook is gone; raises `ConfigurationError` if one did what is not to be repeated."""
    gone = [summary for summary in session.store.runs(RunFilter(workflow=NOTEBOOK)) if _is_gone(summary, folder)]
    for summary in gone:
        if session.store.steps(summary.run.id, StepQuery(flags=StepFlag.NOT_IDEMPOTENT, limit=1)):
            raise ConfigurationError(f"Nothing was executed. {_described(summary, name)}")
    if gone:
        tell(_described(gone[0], name))


def _is_gone(summary: RunSummary, folder: str) -> bool:
    place = Place.of(summary.run)
    return bool(
        place is not None
        and place.file is not None
        and sum(summary.steps.values())
        and not os.path.exists(os.path.join(folder, place.file))
    )


def _described(summary: RunSummary, name: Name) -> str:
    run, place = summary.run, Place.of(summary.run)
    steps = counted(sum(summary.steps.values()), "step")
    return (
        f"{name} has recorded nothing, but {place.file if place else ''}, which is gone, has a run with {steps}. If this is "
        f"another notebook: %durable fresh. If it is that one under a new name, here and in its first cell: "
        f"%durable start {run.id}. If that one is gone for good, and no new notebook is to ask: {shell_command('rm', run.id)}"
    )
