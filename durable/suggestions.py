"""Whoever asks for a name that is not there is told the nearest one that is: most such names are typing errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str], form: str = " Did you mean {!r}?") -> str:
    """Write what was probably meant in this form; nothing if no known name is near."""
    import difflib  # noqa: PLC0415 -- needed for a mistake only

    close = difflib.get_close_matches(name, list(known), n=1)
    return form.format(close[0]) if close else ""
