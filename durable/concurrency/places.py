"""How many bodies may be under execution at once, in a run and in one `map`, and from when on.

Whoever uses these holds the flow's lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.concurrency.submissions import Submission


class Slots:
    """How many bodies may be under execution; `returning` are those that lent theirs and want one again."""

    __slots__ = ("free", "returning")

    def __init__(self, limit: float) -> None:
        self.free = limit
        self.returning: deque[Callable[[], bool]] = deque()

    def release(self) -> None:
        """Give a slot back, to a body that goes on if one waits for it."""
        while self.returning:
            if self.returning.popleft()():
                return
        self.free += 1


class Group:
    """The items of one `map`, or what runs on one executor: at most `places` of them are on their way at once.

    Those that wait are a heap: the largest priority first, then the order of submission. Whoever has a place waits for one in
    the group `around`, if there is one.
    """

    __slots__ = ("around", "places", "waiting")

    def __init__(self, places: float, around: Group | None = None) -> None:
        self.places = places
        self.around = around
        self.waiting: list[tuple[float, int, Submission]] = []


class Opening:
    """The moment from which submitted tasks begin: until then others may be submitted, and begin together with them."""

    __slots__ = ("_at", "_changed")

    def __init__(self, lock: threading.Lock) -> None:
        self._changed = threading.Condition(lock)
        self._at = 0.0

    @property
    def has_come(self) -> bool:
        """Whether tasks may begin; the lock is not needed to ask."""
        return time.monotonic() >= self._at

    def postpone(self, seconds: float) -> None:
        """Let tasks begin so many seconds from now, or when `come` is called."""
        self._at = time.monotonic() + seconds

    def come(self) -> None:
        """Let tasks begin now."""
        self._at = 0.0
        self._changed.notify_all()

    def wait(self) -> None:
        """Release the lock until tasks may begin."""
        self._changed.wait(max(self._at - time.monotonic(), 0))
