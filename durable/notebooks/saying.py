"""Lines for the person at the notebook, beside the output of the cell."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Write a line on stderr, which notebooks show as a message."""
    sys.stderr.write(f"durable: {line}\n")
    sys.stderr.flush()
