"""Commands that remove runs: rm, gc. What is unfinished is removed only if it is named or asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from durable.cli.finding import find_run
from durable.cli.inspecting import Json, RunId
from durable.cli.output import print_json, say
from durable.errors import NotFoundError, RunInProgressError
from durable.records import RunStatus
from durable.runs import sessions
from durable.runs.handles import Run, summaries
from durable.runs.recorded_runs import is_under_way
from durable.telling.notices import counted

if TYPE_CHECKING:
    from durable.records import RunRecord
    from durable.runs.sessions import Session

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FINISHED = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED)


def register(application: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (rm, gc):
        application.command()(command)


def rm(run_id: RunId) -> None:
    """Remove a run with its steps and values, whether it is finished or not."""
    run = find_run(run_id)
    run.delete()
    say(f"run {run.id} is removed")


def gc(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Age such as 30d, 12h, 90m.")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also failed, cancelled, blocked and interrupted runs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove runs that finished longer ago than an age. Unfinished ones stay: their steps would be executed again."""
    session = sessions.current()
    found = _old_runs(session, before=sessions.clock() - _seconds(older_than), unfinished=unfinished)
    removed = found if dry_run else [run_id for run_id in found if _remove(session, run_id)]
    if not dry_run:
        session.store.sweep()
    if as_json:
        print_json({"removed": [] if dry_run else removed, "would_remove": removed if dry_run else []})
    else:
        say(f"{counted(len(removed), 'run')} {'would be ' * dry_run}removed")


def _old_runs(session: Session, *, before: float, unfinished: bool) -> list[str]:
    """Name the runs to be removed; the result of a run that was called by another is kept until that one has it."""
    runs = {summary.run.id: summary.run for summary in summaries()}

    def is_needed(run: RunRecord) -> bool:
        parent = runs.get(run.parent_run or "")
        return not unfinished and parent is not None and (parent.status not in _FINISHED or is_needed(parent))

    return [
        run.id
        for run in runs.values()
        if (unfinished or run.status in _FINISHED)
        and (run.ended_at or run.updated_at) < before
        and not is_needed(run)
        and not is_under_way(session, run)
    ]


def _remove(session: Session, run_id: str) -> bool:
    try:
        Run(session, run_id).delete()
    except (NotFoundError, RunInProgressError):  # removed or resumed by somebody else by now
        return False
    return True


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age.strip())
    if match is None:
        raise typer.BadParameter(f"{age!r} is no age; write a number and one of s, m, h, d, w, such as 30d")
    return float(match[1]) * _UNITS[match[2]]
