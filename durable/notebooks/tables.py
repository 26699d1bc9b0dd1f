"""Runs as tables for notebooks, readable on light and on dark ground, and as text elsewhere.

Everything that comes from the user is escaped. Text takes the colour of its surroundings; a status is a coloured dot.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from durable.costs.recorded_costs import step_cost
from durable.records import StepStatus
from durable.runs import sessions
from durable.runs.endings import told_end
from durable.runs.recorded_runs import is_under_way
from durable.telling.explaining import is_left_in_doubt, recorded_past
from durable.telling.notices import NOTEBOOK, age, counted, state_of

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from durable.costs.costs import Cost
    from durable.records import StepRecord
    from durable.runs.handles import Run

_MOST_STEPS = 100
_MOST_RUNS = 50
_DOTS = {
    "succeeded": "#3fa45b",
    "failed": "#d9534f",
    "blocked": "#d9534f",
    "in doubt": "#d9534f",
    "running": "#3b8ede",
    "started": "#3b8ede",
    "waiting": "#3b8ede",
    "cancelled": "#c58b14",
    "paused": "#c58b14",
    "interrupted": "#c58b14",
}
_PLAIN = "#8a8a8a"
_CELL = "padding:.15em 1.2em .15em 0;text-align:left;white-space:nowrap;border:none;color:inherit"
_TABLE = "border-collapse:collapse;color:inherit;background:transparent;margin:.3em 0;border:none"
_HEADER = "border-bottom:1px solid currentColor;opacity:.7;font-weight:normal"


class _Row(NamedTuple):
    """One line of a table; `status` gets a dot."""

    cells: tuple[str, ...]
    status: str


class RunTable:
    """A run with its steps; text in a terminal."""

    def __init__(self, run: Run, replayed: Container[int] | None = None, since: int | None = None) -> None:
        """Read the run as it is now; `replayed` are the numbers of the steps that were called again, None: all of them, and
        `since` is the epoch from which on steps count as executed, None: the present one.
        """
        self._record = record = run.record
        steps = list(run.step_records())
        self._total = len(steps)
        session = run._session  # noqa: SLF001 -- the same package
        under_way = is_under_way(session, record)
        past = recorded_past(record, steps)
        self._cost = run.cost
        self._status = state_of(record.status, is_under_way=under_way)
        self._message = told_end(session, record) if self._status in ("blocked", "failed", "cancelled") else ""
        self._rows = []
        for step in steps[-_MOST_STEPS:]:
            is_running = under_way and (step.status == StepStatus.STARTED or record.workflow != NOTEBOOK)
            in_doubt = not is_running and is_left_in_doubt(step, past)
            cost = _cost(step_cost(step, alive=under_way))
            how = _how(step, record.epoch if since is None else since, replayed)
            self._rows.append(_step_row(step, how, cost, in_doubt=in_doubt))

    def __repr__(self) -> str:
        """Show the run as text."""
        lines = [self._title(), *(self._hidden_steps())]
        rows = [_STEP_COLUMNS, *((*row.cells[:1], row.status, *row.cells[1:]) for row in self._rows)]
        lines += _aligned(rows) if self._rows else []
        return "\n".join([*lines, *([self._message] if self._message else [])])

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Draw the run for a notebook."""
        title = f"<div>{_dot(self._status)}{escape(self._title())}</div>"
        message = f'<div style="white-space:pre-wrap">{escape(self._message)}</div>' if self._message else ""
        hidden = "".join(f'<div style="opacity:.7">{escape(line)}</div>' for line in self._hidden_steps())
        return f'<div style="color:inherit">{title}{message}{hidden}{_table(_STEP_COLUMNS, self._rows)}</div>'

    def _title(self) -> str:
        record = self._record
        when = age(sessions.clock() - record.created_at)
        cost = f", {_cost(self._cost)}" if self._cost else ""
        steps = counted(self._total, "step")
        return f"Run {record.id}: {record.workflow}, {self._status}, {steps}, begun {when}{cost}"

    def _hidden_steps(self) -> list[str]:
        more = self._total - len(self._rows)
        return [f"The latest {len(self._rows)} steps; {more} earlier ones are not shown."] if more else []


_STEP_COLUMNS = ("step", "status", "in this execution", "attempts", "duration", "cost")
_RUN_COLUMNS = ("run", "status", "workflow", "steps", "begun", "duration", "cost")


def runs_html(runs: Sequence[Run], steps: Mapping[str, int]) -> str:
    """Draw a list of runs, whose steps were counted by run id."""
    rows = [_run_row(run, steps.get(run.id, 0)) for run in runs[:_MOST_RUNS]]
    more = len(runs) - len(rows)
    said = f"{more} more runs are not shown." if more else "No runs." if not runs else ""
    hidden = f'<div style="opacity:.7">{said}</div>' if said else ""
    return f'<div style="color:inherit">{_table(_RUN_COLUMNS, rows)}{hidden}</div>'


def _run_row(run: Run, steps: int) -> _Row:
    record = run.record
    status = state_of(record.status, is_under_way=is_under_way(run._session, record))  # noqa: SLF001 -- the same package
    begun = age(sessions.clock() - record.created_at)
    cells = (
        record.id,
        record.workflow,
        str(steps),
        begun,
        _duration(record.created_at, record.ended_at),
        _cost(run.cost),
    )
    return _Row(cells, status)


def _how(step: StepRecord, since: int, replayed: Container[int] | None) -> str:
    if step.epoch >= since:
        return "executed"
    return "replayed" if replayed is None or step.seq in replayed else "not called yet"


def _step_row(step: StepRecord, how: str, cost: str, *, in_doubt: bool) -> _Row:
    indent = "  " * step.key.count("/")
    ended = step.ended_at if step.status != StepStatus.STARTED else None
    status = "in doubt" if in_doubt else str(step.status)
    return _Row((indent + step.key, how, str(step.attempts), _duration(step.started_at, ended), cost), status)


def _cost(cost: Cost) -> str:
    """Show what was spent, nothing where nothing was."""
    unknown = f"{cost.unknown} not known" if cost.unknown else ""
    return ", ".join(filter(None, [str(cost) if cost.amounts else "", unknown]))


def _duration(begun: float, ended: float | None) -> str:
    if ended is None:
        return ""
    seconds = max(0.0, ended - begun)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 -- seconds in a minute
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _table(columns: tuple[str, ...], rows: Sequence[_Row]) -> str:
    if not rows:
        return ""
    if not any(row.cells[-1] for row in rows):  # nothing cost anything
        columns, rows = columns[:-1], [row._replace(cells=row.cells[:-1]) for row in rows]
    head = "".join(f'<th style="{_CELL};{_HEADER}">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cells(row: _Row) -> str:
    first, *others = (f'<td style="{_CELL}">{escape(cell).replace("  ", "&emsp;")}</td>' for cell in row.cells)
    return "".join((first, f'<td style="{_CELL}">{_dot(row.status)}{escape(row.status)}</td>', *others))


def _dot(status: str) -> str:
    return f'<span style="color:{_DOTS.get(status, _PLAIN)}">&#9679;</span> '


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
