"""What the command prints: data on stdout, words for people on stderr; colours where a terminal wants them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rich.console import Console
from rich.text import Text

from durable.telling.notices import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from durable.costs.costs import Cost

_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "blocked": "bold yellow",
    "in doubt": "bold yellow",
    "running": "cyan",
    "waiting": "cyan",
    "paused": "yellow",
    "started": "cyan",
    "interrupted": "yellow",
    "cancelled": "magenta",
    "superseded": "dim",
    "undone": "magenta",
}
_PIPE_WIDTH = 10_000  # nothing is folded
_NUMBERS = {"steps", "#", "attempts", "took", "cost", "usd", "unknown"}
_MINUTE = 60  # seconds


def out() -> Console:
    """Give the console for data; wide where nobody looks, so that a pipe gets whole lines."""
    return _console(sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _console(file: TextIO, width: int | None = None) -> Console:
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, width=width, color_system=colours, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell people something."""
    _tell(text, "dim")


def complain(text: str) -> None:
    """Tell people what went wrong."""
    _tell(text, "red")


def _tell(text: str, style: str) -> None:
    _console(sys.stderr).print(Text.assemble(("durable:", style), " ", visible(text)))


def visible(text: str) -> str:
    """Write control characters as escapes, so that what was recorded cannot move the cursor; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def print_json(data: Any) -> None:
    """Print data for programs."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def cost_data(cost: Cost) -> dict[str, Any]:
    """Write a cost for programs."""
    units = {unit: _number(each) for unit, each in sorted(cost.units.items())}
    return {"usd": float(cost.usd), "units": units, "unknown": cost.unknown}


def _number(amount: Decimal) -> float:
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def status_text(status: str) -> Text:
    """Colour a status."""
    return Text(status, _STYLES.get(status, ""))


def when(seconds: float | None) -> str:
    """Write a time for people, in their time zone."""
    return "" if seconds is None else moment(seconds)


def lasted(start: float, end: float | None) -> str:
    """Write how long something took."""
    if end is None:
        return ""
    seconds = max(0.0, end - start)
    return (
        f"{seconds * 1000:.0f} ms"
        if seconds < 1
        else f"{seconds:.1f} s"
        if seconds < _MINUTE
        else f"{seconds / 60:.1f} min"
    )


def print_table(
    columns: Sequence[str], rows: Iterable[Iterable[str | Text]], *, spare: Sequence[str] = ()
) -> list[str]:
    """Print rows under columns; keys and ids are never cut. In a narrow terminal `spare` columns are left out, one by one,
    and what is wider still is left for the terminal to wrap. Gives the columns that were printed.
    """
    console = out()
    shown = list(columns)
    lines = [[Text(name, "bold") for name in columns]]
    lines += [[cell if isinstance(cell, Text) else one_line(cell) for cell in row] for row in rows]
    left = list(spare)
    while sum(_widths(lines)) + 2 * (len(shown) - 1) > console.width and left:
        if (name := left.pop(0)) in shown:
            i = shown.index(name)
            del shown[i]
            lines = [line[:i] + line[i + 1 :] for line in lines]
    widths = _widths(lines)
    for line in lines:
        laid = Text("  ").join(map(_padded, line, shown, widths))
        laid.rstrip()
        console.print(laid)
    return shown


def _widths(lines: list[list[Text]]) -> list[int]:
    return [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]


def _padded(cell: Text, column: str, width: int) -> Text:
    padded = cell.copy()
    if column in _NUMBERS:
        padded.pad_left(width - cell.cell_len)
    else:
        padded.pad_right(width - cell.cell_len)
    return padded


def one_line(text: str, style: str = "") -> Text:
    """Show a text of ours or of the user's as it is, in one line."""
    return Text(visible(text).replace("\n", "\\n"), style)
