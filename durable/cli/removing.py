"""Commands that remove runs: rm, gc. What is unfinished is removed only if it is named or asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from durable.called_runs import called_runs
from durable.cli.finding import find_run
from durable.cli.inspecting import Json, RunId
from durable.cli.output import print_json, say
from durable.errors import NotFoundError, RunInProgressError
from durable.records import RunStatus
from durable.runs import sessions
from durable.runs.handles import Run, summaries
from durable.runs.recorded_runs import is_under_way
from durable.runs.removal import own_runs
from durable.telling.notices import counted, shell_command

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
    """Remove a run with its steps and values, and with the runs that it called, whether it is finished or not."""
    run = find_run(run_id)
    store, record = sessions.current().store, run.record
    own = list(own_runs(store, record))
    named = [each for around in (record, *own) for each in called_runs(store, around.id) if each not in own]
    run.delete()
    say(f"run {run.id} is removed" + (f", with {counted(len(own), 'run')} that it called" if own else ""))
    for each in named:
        say(f"run {each.id}, which has a name of its own, stays; remove it with: {shell_command('rm', each.id)}")


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
    """Name the runs to be removed; the result of a run that was called by another is kept until that one has it.

    What a run called goes with it.
    """
    runs = {summary.run.id: summary.run for summary in summaries()}

    def is_needed(run: RunRecord) -> bool:
        parent = runs.get(run.parent_run or "")
        return not unfinished and parent is not None and (parent.status not in _FINISHED or is_needed(parent))

    def is_old(run: RunRecord) -> bool:
        return (
            (unfinished or run.status in _FINISHED)
            and (run.ended_at or run.updated_at) < before
            and not is_needed(run)
            and not is_under_way(session, run)
        )

    callers = {run.parent_run for run in runs.values()}
    found: dict[str, None] = {}
    for run in filter(is_old, runs.values()):
        found |= dict.fromkeys(own.id for own in (own_runs(session.store, run) if run.id in callers else ()))
        found[run.id] = None
    return list(found)


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
