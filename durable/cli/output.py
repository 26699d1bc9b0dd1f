"""What the command prints: data on stdout, words for people on stderr; colours where a terminal wants them."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "blocked": "bold yellow",
    "in doubt": "bold yellow",
    "running": "cyan",
    "started": "cyan",
    "interrupted": "yellow",
    "cancelled": "magenta",
    "superseded": "dim",
}
_PIPE_WIDTH = 200
_MINUTE = 60  # seconds


def out() -> Console:
    """Give the console for data; wide where nobody looks, so that a pipe gets whole lines."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell people something."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[dim]durable:[/] {escape(text)}")


def complain(text: str) -> None:
    """Tell people what went wrong."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]durable:[/] {escape(text)}")


def print_json(data: Any) -> None:
    """Print data for programs."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def status_text(status: str) -> str:
    """Colour a status."""
    style = _STYLES.get(status)
    return f"[{style}]{status}[/]" if style else status


def when(seconds: float | None) -> str:
    """Write a time for people, in their time zone."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def lasted(start: float, end: float | None) -> str:
    """Write how long something took."""
    if end is None:
        return ""
    seconds = max(0.0, end - start)
    return (
        f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < _MINUTE else f"{seconds / 60:.1f} min"
    )


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Lay out rows under columns; keys and ids are never cut."""
    laid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        laid.add_column(
            column, overflow="fold", justify="right" if column in {"steps", "#", "attempts", "took"} else "left"
        )
    for row in rows:
        laid.add_row(*row)
    return laid
