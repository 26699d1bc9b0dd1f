"""The command that adds up what was spent: costs. Each amount counts once, where it was spent."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from durable.called_runs import called_runs
from durable.cli.finding import find_run
from durable.cli.inspecting import Json
from durable.cli.output import cost_data, print_json, print_table, say
from durable.costs.costs import Cost, dollars, plain
from durable.costs.recorded_costs import own_steps, step_cost
from durable.runs import sessions
from durable.runs.handles import summaries
from durable.runs.recorded_runs import is_under_way
from durable.telling.notices import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import RunRecord, StepRecord
    from durable.runs.sessions import Session


class By(StrEnum):
    """What amounts are added up by."""

    TASK = "task"
    DAY = "day"
    WORKFLOW = "workflow"


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command()(costs)


def costs(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Id of a run, or any unique beginning of it; default: all runs."),
    ] = None,
    by: Annotated[By, typer.Option(help="What to add up by.")] = By.TASK,
    as_json: Json = False,
) -> None:
    """Add up what steps cost: of one run with the runs that it called, or of all runs in the store."""
    session = sessions.current()
    runs = (
        [summary.run for summary in summaries()] if run_id is None else list(_family(session, find_run(run_id).record))
    )
    found: dict[str, tuple[int, Cost]] = {}
    total = Cost()
    for run in runs:
        for step, cost in _spent(session, run):
            group = _group(by, run, step)
            steps, before = found.get(group, (0, Cost()))
            found[group] = (steps + 1, before + cost)
            total += cost
    groups = (
        sorted(found.items()) if by is By.DAY else sorted(found.items(), key=lambda each: (-each[1][1].usd, each[0]))
    )
    if as_json:
        listed = [{by.value: group, "steps": steps} | cost_data(cost) for group, (steps, cost) in groups]
        print_json({"by": by.value, "groups": listed, "total": cost_data(total)})
        return
    if not found:
        say(f"nothing was spent{'' if run_id is None else f' in run {runs[0].id}'}")
        return
    rows = [(group, *_row(steps, cost)) for group, (steps, cost) in groups]
    rows.append(("total", *_row(sum(steps for steps, _ in found.values()), total)))
    print_table((by.value, "steps", "usd", "units", "unknown"), rows)


def _family(session: Session, run: RunRecord) -> Iterator[RunRecord]:
    yield run
    for child in called_runs(session.store, run.id):
        yield from _family(session, child)


def _spent(session: Session, run: RunRecord) -> Iterator[tuple[StepRecord, Cost]]:
    children = called_runs(session.store, run.id)
    alive = is_under_way(session, run)
    for step in own_steps(session.store, run.id, children):
        if cost := step_cost(step, alive=alive):
            yield step, cost


def _group(by: By, run: RunRecord, step: StepRecord) -> str:
    if by is By.TASK:
        return step.task
    if by is By.WORKFLOW:
        return run.workflow
    return moment(step.ended_at or step.started_at).partition(" ")[0]


def _row(steps: int, cost: Cost) -> tuple[str, ...]:
    units = ", ".join(f"{plain(each)} {unit}" for unit, each in sorted(cost.units.items()))
    return str(steps), dollars(cost.usd), units, str(cost.unknown or "")
