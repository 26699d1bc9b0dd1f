"""The command that decides a doubt: resolve."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from durable.cli.finding import find_run, find_step, usage
from durable.cli.inspecting import RunId, StepKey
from durable.cli.output import say
from durable.steps.doubts import Happened, Outcome, did_not_happen
from durable.telling.notices import shell_command


def register(application: typer.Typer) -> None:
    """Add the commands of this group."""
    application.command()(resolve)


def resolve(
    run_id: RunId,
    step: StepKey,
    happened: Annotated[str | None, typer.Option(metavar="JSON", help="It happened; its result as JSON.")] = None,
    not_happened: Annotated[bool, typer.Option("--did-not-happen", help="It did not happen: execute it.")] = False,
) -> None:
    """Decide a step in doubt."""
    if (happened is None) == (not not_happened):
        raise typer.BadParameter("say either --happened JSON or --did-not-happen")
    outcome: Outcome = did_not_happen
    if happened is not None:
        try:
            outcome = Happened(json.loads(happened))
        except ValueError as error:
            raise typer.BadParameter(f"--happened takes JSON, such as '\"text\"', 12 or null: {error}") from None
    run = find_run(run_id)
    record = find_step(run, step, to_decide=True)
    with usage():
        run.resolve(f"#{record.seq}", outcome)
    decided = "will be executed" if outcome is did_not_happen else "counts as succeeded"
    say(f"step {record.key!r} of run {run.id} {decided}; go on with: {shell_command('resume', run.id)}")
