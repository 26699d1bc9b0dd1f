"""Commands that look and change nothing: ls, show, graph, explain, doctor."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from durable.called_runs import called_runs
from durable.cli.finding import find_run, find_step, usage
from durable.cli.output import (
    cost_data,
    lasted,
    one_line,
    out,
    print_json,
    print_table,
    say,
    status_text,
    visible,
    when,
)
from durable.costs.recorded_costs import run_cost, step_cost
from durable.costs.savings import not_spent_again, recorded_tally
from durable.records import UNFINISHED, RunStatus, StepFlag, StepStatus
from durable.runs import sessions
from durable.runs.endings import told_end
from durable.runs.handles import summaries
from durable.runs.recorded_runs import is_under_way
from durable.runs.step_views import view_of
from durable.steps.details import Details
from durable.steps.verdicts import is_in_doubt
from durable.telling.explaining import Explanation, recorded_past
from durable.telling.explaining import explain as explain_step
from durable.telling.notices import shell_command, state_of
from durable.values.exceptions import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.costs.costs import Cost
    from durable.records import RunRecord, StepRecord
    from durable.runs.handles import Run
    from durable.steps.verdicts import Past

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, or any unique beginning of it.")]
StepKey = Annotated[str, typer.Argument(metavar="STEP", help="Step key, a unique beginning of it, or #number.")]


def register(application: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (ls, show, graph, explain, doctor):
        application.command()(command)


def ls(
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs in this status.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest first.")] = None,
    as_json: Json = False,
) -> None:
    """List runs, the newest first."""
    session = sessions.current()
    with usage():
        listed = summaries(workflow=workflow, status=status, limit=limit)
    found = [(summary.run, is_under_way(session, summary.run), summary.steps) for summary in listed]
    if as_json:
        print_json([_run_data(run, alive) | _step_counts(steps) | _spending_data(run) for run, alive, steps in found])
        return
    if not found:
        say(f"no runs in {session.store.url}")
        return
    rows = [
        (
            run.id,
            run.workflow,
            status_text(state_of(run.status, is_under_way=alive)),
            f"{steps.get(StepStatus.SUCCEEDED, 0)}/{sum(steps.values())}",
            when(run.created_at),
            *_spending(run),
        )
        for run, alive, steps in found
    ]
    columns = ("run", "workflow", "status", "steps", "started", "cost", "not spent again")
    print_table(*_without_empty(columns, rows), spare=("workflow", "not spent again"))


def show(run_id: RunId, as_json: Json = False) -> None:
    """Show a run and its steps."""
    run = find_run(run_id)
    record = run.record
    alive = is_under_way(sessions.current(), record)
    steps = list(run.step_records())
    past = None if alive else recorded_past(record, steps)
    goes_on = (not alive or record.status == RunStatus.PAUSED) and (
        record.status in _RESUMABLE or _is_decided(record, steps)
    )
    has_ended = record.status not in UNFINISHED and not _is_decided(record, steps)
    if as_json:
        data = _run_data(record, alive) | {"message": run.message if has_ended else "", "cost": cost_data(run.cost)}
        print_json(data | _tally_data(record) | {"steps": [_step_data(step, past) for step in steps]})
        return
    _print_run(run, record, told_end(sessions.current(), record) if has_ended else "", alive=alive)
    _print_steps(record, steps, past)
    if goes_on:
        say(f"go on with: {shell_command('resume', record.id)}")


def _print_run(run: Run, record: RunRecord, message: str, *, alive: bool) -> None:
    console = out()
    status = status_text(state_of(record.status, is_under_way=alive))
    console.print(one_line(record.id, "bold"), one_line(record.workflow), status, sep="  ")
    console.print(
        f"started {when(record.created_at)}" + (f", ended {when(record.ended_at)}" if record.ended_at else "")
    )
    if origin := json.loads(record.entry).get("forked_from"):
        console.print(one_line(f"forked from run {origin}, before step {json.loads(record.entry)['forked_at']}"))
    if record.parent_run:
        step = f", step {record.parent_step}" if record.parent_step else ""
        console.print(one_line(f"called by run {record.parent_run}{step}"))
    if cost := run.cost:
        unknown = f", and {cost.unknown} executions of steps of unknown cost" if cost.unknown else ""
        console.print(f"cost {cost}{unknown}", markup=False)
    if tally := recorded_tally(record):
        console.print(f"last execution: {tally}", markup=False)
    if message:
        console.print(Text(visible(message)))


def _print_steps(run: RunRecord, steps: list[StepRecord], past: Past | None) -> None:
    rows = [
        (
            str(step.seq),
            step.key,
            status_text("in doubt" if view_of(step, past).in_doubt else step.status),
            str(step.attempts),
            when(step.started_at),
            lasted(step.started_at, step.ended_at),
            str(step_cost(step, alive=past is None) or ""),
            _error_line(step),
        )
        for step in steps
    ]
    columns = ("#", "step", "status", "attempts", "started", "took", "cost", "error")
    shown = print_table(*_without_empty(columns, rows), spare=("error", "started")) if rows else []
    for row in rows if "error" not in shown else ():
        if row[-1]:
            out().print(one_line(f"#{row[0]} {row[-1]}"))
    for child in called_runs(sessions.current().store, run.id):
        if not child.parent_step:
            out().print(one_line(f"block {child.id}: "), status_text(child.status), sep="")


def graph(
    run_id: RunId,
    form: Annotated[str, typer.Option("--format", metavar="mermaid|dot", help="For Mermaid or Graphviz.")] = "mermaid",
) -> None:
    """Draw a run's steps with their status, nesting and order."""
    run = find_run(run_id)
    with usage():
        drawn = run.graph(form)  # type: ignore[arg-type]  # checked there
    sys.stdout.write(f"{drawn}\n")


def explain(run_id: RunId, step: StepKey, as_json: Json = False) -> None:
    """Say whether a call of a step would be replayed, executed or refused, and why."""
    run = find_run(run_id)
    record = find_step(run, step)
    explained = _explained(run, record)
    if as_json:
        arguments = {name: each.preview for name, each in Details.read(record.details).arguments.items()}
        print_json(
            {
                "run": run.id,
                "step": record.key,
                "verdict": explained.verdict,
                "why": explained.why,
                "arguments": arguments,
            }
        )
        return
    console = out()
    console.print(Text.assemble(one_line(record.key), ": ", (explained.verdict, "bold")))
    console.print(explained.why, markup=False)
    for name, argument in Details.read(record.details).arguments.items():
        console.print(one_line(f"  {name} = {argument.preview}"))


def _explained(run: Run, step: StepRecord) -> Explanation:
    from durable.patches.recorded_answers import recorded_failure  # noqa: PLC0415 -- this command alone needs it

    session, record = sessions.current(), run.record
    if is_in_doubt(step) and is_under_way(session, record):
        return Explanation("under way", f"Process {record.pid} on {record.host} executes it now.")
    past = recorded_past(record, list(run.step_records()))
    return explain_step(record, past, step, failure=recorded_failure(session, step, past))


def doctor(as_json: Json = False) -> None:
    """Examine the store: where it is, what it promises, what is known to be wrong."""
    session = sessions.current()
    report = dict(session.store.report()) | {"chosen by": sessions.source()}
    if as_json:
        print_json(report)
        return
    laid = Table.grid("name", "value", padding=(0, 2))
    laid.columns[0].justify, laid.columns[0].style = "right", "bold"
    laid.columns[1].overflow = "fold"
    for name, value in report.items():
        laid.add_row(name, one_line(value))
    out().print(laid)


_MAY_GO = frozenset({"cost", "not spent again", "error"})
_RESUMABLE = (RunStatus.PENDING, *UNFINISHED, RunStatus.FAILED, RunStatus.CANCELLED)


def _is_decided(run: RunRecord, steps: list[StepRecord]) -> bool:
    """Whether what blocked a run has been resolved."""
    blocked_by = json.loads(run.outcome or "{}").get("step")
    return run.status == RunStatus.BLOCKED and any(
        step.flags & StepFlag.RESOLVED for step in steps if step.key == blocked_by
    )


def _run_data(run: RunRecord, alive: bool) -> dict[str, Any]:
    return {
        "id": run.id,
        "workflow": run.workflow,
        "status": str(run.status),
        "alive": alive,
        "parent": run.parent_run,
        "forked_from": json.loads(run.entry).get("forked_from"),
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "ended_at": run.ended_at,
    }


def _step_counts(steps: dict[str, int]) -> dict[str, int]:
    return {"steps_done": steps.get(StepStatus.SUCCEEDED, 0), "steps": sum(steps.values())}


def _spending(run: RunRecord) -> tuple[str, str]:
    """Say what a run cost and what its last execution saved."""
    tally = recorded_tally(run)
    saved = not_spent_again(tally.saved, tally.seconds).removesuffix(" not spent again")
    return str(_cost(run) or ""), saved


def _cost(run: RunRecord) -> Cost:
    """Give what a run cost: as its last execution left it, if that ended; counted anew if it did not."""
    return run_cost(sessions.current().store, run.id) if run.status in UNFINISHED else recorded_tally(run).cost


def _spending_data(run: RunRecord) -> dict[str, Any]:
    return {"cost": cost_data(_cost(run))} | _tally_data(run)


def _tally_data(run: RunRecord) -> dict[str, Any]:
    tally = recorded_tally(run)
    return {
        "last_execution": {
            "replayed": tally.replayed,
            "executed": tally.executed,
            "spent": cost_data(tally.spent),
            "saved": cost_data(tally.saved),
            "saved_seconds": tally.seconds,
        }
        if tally
        else None
    }


def _without_empty(
    columns: tuple[str, ...], rows: Sequence[tuple[str | Text, ...]]
) -> tuple[list[str], list[list[str | Text]]]:
    """Leave out columns of which nothing is to be said."""
    shown = [i for i, column in enumerate(columns) if column not in _MAY_GO or any(row[i] for row in rows)]
    return [columns[i] for i in shown], [[row[i] for i in shown] for row in rows]


def _step_data(step: StepRecord, past: Past | None) -> dict[str, Any]:
    view = view_of(step, past)
    return {
        "key": view.key,
        "name": view.name,
        "status": str(view.status),
        "attempts": view.attempts,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
        "number": view.number,
        "parent": view.parent or None,
        "in_doubt": view.in_doubt,
        "idempotency_key": view.idempotency_key,
        "cost": cost_data(view.cost),
        "error": _error_line(step) or None,
    }


def _error_line(step: StepRecord) -> str:
    if step.error is None:
        return ""
    session = sessions.current()
    error = session.fetch(step.error, run=step.run_id, step=step.key)
    stored = describe(error, session.serializer, run=step.run_id, step=step.key)
    if step.flags & StepFlag.VALUE_UNAVAILABLE:
        return "value unavailable"
    return f"{stored.type_name}: {stored.message}".partition("\n")[0].removesuffix(": ")
