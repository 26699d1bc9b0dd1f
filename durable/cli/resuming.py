"""Commands that make a run go on or stop: resume, send, pause, cancel."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from durable.cli.finding import find_run, usage
from durable.cli.inspecting import RunId
from durable.cli.output import say
from durable.cli.results import print_result
from durable.costs.costs import written_budget
from durable.records import UNFINISHED, StepStatus
from durable.runs import sessions
from durable.runs.forks import executed_again, fork_point
from durable.telling.notices import shell_command

if TYPE_CHECKING:
    from decimal import Decimal

    from durable.runs.handles import Run
    from durable.scripts.calls import Invocation


class OnDrift(StrEnum):
    """What to do with calls whose recorded inputs differ."""

    ERROR = "error"
    RUN = "run"
    REUSE = "reuse"


Budget = Annotated[
    str | None,
    typer.Option(metavar="USD", help="US dollars that the run may spend in all; no further step begins then."),
]


def budget_of(text: str | None) -> Decimal | None:
    """Take the option --budget; a budget that lets nothing be executed is a wrong use of the command."""
    with usage():
        return None if text is None else written_budget(text)


def register(application: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (resume, fork, send, pause, cancel):
        application.command()(command)


def resume(
    run_id: RunId,
    on_drift: Annotated[OnDrift | None, typer.Option(help="What to do with calls whose inputs changed.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try every failed step again.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Execute everything again, as a new run.")] = False,
    budget: Budget = None,
) -> None:
    """Execute what is left of a run and print its result."""
    dollars = budget_of(budget)
    run = find_run(run_id)
    invocation = _invocation(run, on_drift, retry_failed=retry_failed, fresh=fresh, budget=dollars)
    if invocation is not None:
        from durable.scripts.launching import launch  # noqa: PLC0415 -- needed for programs only

        sys.exit(launch(invocation))
    with usage():
        from durable.scripts.workflows import install_as_begun  # noqa: PLC0415 -- needed for workflows only

        install_as_begun(run.record)
    drift: Any = on_drift.value if on_drift else None
    resume_run = partial(run.resume, on_drift=drift, retry_failed=retry_failed or None, fresh=fresh, budget=dollars)
    print_result(resume_run, lambda: run.id)


def _invocation(
    run: Run, on_drift: OnDrift | None, *, retry_failed: bool, fresh: bool, budget: Decimal | None
) -> Invocation | None:
    """Give the command that a program was started with, None for the run of a workflow."""
    from durable.scripts.calls import Invocation  # noqa: PLC0415 -- as above

    session = sessions.current()
    with usage():
        return Invocation.recorded(
            session,
            run.record,
            run_id=run.record.lineage if fresh else run.id,
            fresh=fresh or None,
            on_drift=on_drift.value if on_drift else None,
            retry_failed=retry_failed or None,
            budget=budget,
        )


def fork(
    run_id: RunId,
    from_: Annotated[
        str, typer.Option("--from", metavar="STEP|CHECKPOINT", help="Step key, #number, or the name of a checkpoint.")
    ],
) -> None:
    """Make a new run that keeps what was finished before a step or checkpoint; the run stays as it is."""
    run = find_run(run_id)
    steps = list(run.step_records())
    with usage():
        point = fork_point(steps, from_, run.find_step)
    forked = run.fork(from_=f"#{point.seq}")
    kept = sum(step.status not in (StepStatus.STARTED, StepStatus.UNDONE) for step in forked.steps)
    say(f"run {forked.id} begins before step {point.key!r} of run {run.id} with {kept} of its steps")
    if again := executed_again(sessions.current(), run.record, steps, point):
        shown = [step.key if step.run_id == run.id else f"{step.key} of run {step.run_id}" for step in again]
        say(f"it will do again what is not idempotent: {', '.join(shown)}")
    say(f"go on with: {shell_command('resume', forked.id)}")
    sys.stdout.write(forked.id + "\n")


def send(
    run_id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the message that the run waits for.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="What durable.wait_for(NAME) gives.")] = "null",
) -> None:
    """Send a message to a run, which gets it when it waits for one of this name, now or later."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"a payload is JSON, such as '\"text\"', 12 or null: {error}") from None
    run = find_run(run_id)
    with usage():
        run.send(name, value)
    say(f"message {name!r} is sent to run {run.id}")


def pause(run_id: RunId) -> None:
    """Let a run begin no step until it is resumed."""
    run = find_run(run_id)
    before = run.status
    run.pause()
    after = run.status
    if after == "paused":
        say(f"run {run.id} is paused; go on with: {shell_command('resume', run.id)}")
    elif before == after and after in UNFINISHED:
        say(f"run {run.id} is asked to pause at its next step")
    else:
        say(f"run {run.id} is not under way: {after}")


def cancel(run_id: RunId) -> None:
    """Cancel a run: at once if nobody executes it, else at its next step. It can be resumed."""
    run = find_run(run_id)
    before = run.status
    run.cancel()
    after = run.status
    if after == "cancelled":
        say(f"run {run.id} is cancelled")
    elif before == after and after in UNFINISHED:
        say(f"run {run.id} is asked to stop at its next step")
    else:
        say(f"run {run.id} has ended already: {after}")
