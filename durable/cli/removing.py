"""Commands that remove runs: rm, gc."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from durable import sessions
from durable.cli.inspecting import Json, RunId
from durable.cli.output import print_json, say
from durable.handles import get_run
from durable.records import RunFilter, RunStatus

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SUPERSEDED)


def register(application: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (rm, gc):
        application.command()(command)


def rm(run_id: RunId) -> None:
    """Remove a run with its steps and values."""
    run = get_run(run_id)
    run.delete()
    say(f"run {run.id} is removed")


def gc(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Age such as 30d, 12h, 90m.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove runs that ended longer ago than an age."""
    ended_before = sessions.clock() - _seconds(older_than)
    found = sessions.current().store.runs(RunFilter(statuses=_ENDED, ended_before=ended_before))
    ids = [summary.run.id for summary in found]
    for run_id in () if dry_run else ids:
        get_run(run_id).delete()
    if as_json:
        print_json({"removed": [] if dry_run else ids, "would_remove": ids if dry_run else []})
    else:
        say(f"{len(ids)} run{'s' * (len(ids) != 1)} {'would be ' * dry_run}removed")


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age.strip())
    if match is None:
        raise typer.BadParameter(f"{age!r} is no age; write a number and one of s, m, h, d, w, such as 30d")
    return float(match[1]) * _UNITS[match[2]]
