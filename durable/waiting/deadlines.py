"""A deadline is a time of the wall clock; whoever waits for it waits no longer than was left of it when the wait began.

So a clock that is set back prolongs nothing, and one that is set forward, or a machine that slept, ends the wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """A time, in seconds since 1970 by `clock`, that is waited for from now on."""

    __slots__ = ("_clock", "_latest", "_passed", "until")

    def __init__(self, until: float, clock: Callable[[], float], passed: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait; `passed` gives seconds that nobody sets back."""
        self.until = until
        self._clock = clock
        self._passed = passed
        self._latest = passed() + until - clock()

    def left(self) -> float:
        """Give the seconds that are left; none, or less, when it is over."""
        return min(self.until - self._clock(), self._latest - self._passed())
