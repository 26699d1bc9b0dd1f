"""Waiting for what other threads and processes do: as long as it takes, with limits against hangs alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 120  # seconds after which something is taken to hang
_LOOK = 0.005  # seconds between two looks


def until(condition: Callable[[], Any]) -> Any:
    """Look until something holds, and give what was found; nobody knows how long a busy machine takes."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(_LOOK)
    return found
