"""How many bodies may be under execution at once, in a run and in one `map`, and from when on.

Whoever uses these holds the flow's lock.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


class Turns:
    """Submissions that wait for their turn: the largest priority first, then the order of submission.

    Nearly all are added in that order and stand in a line; the others are a heap beside it.
    """

    __slots__ = ("_early", "_line")

    def __init__(self) -> None:
        self._line: deque[Submission] = deque()
        self._early: list[tuple[float, int, Submission]] = []

    def __bool__(self) -> bool:
        return bool(self._line or self._early)

    def __iter__(self) -> Iterator[Submission]:
        return itertools.chain(self._line, [submission for _, _, submission in self._early])

    def add(self, submission: Submission) -> None:
        """Have one more wait."""
        line = self._line
        if not line or (
            line[-1].order < submission.order and line[-1].match.task.priority >= submission.match.task.priority
        ):
            line.append(submission)
        else:
            heapq.heappush(self._early, _turn(submission))

    def add_all(self, submissions: Sequence[Submission]) -> None:
        """Have more wait that were submitted one after the other, calls of one task."""
        first, *rest = submissions
        self.add(first)
        if self._line and self._line[-1] is first:
            self._line.extend(rest)
        else:
            for submission in rest:
                self.add(submission)

    def next(self) -> Submission | None:
        """Take the one whose turn it is, None if none waits."""
        line = self._line
        if self._early and not (line and _turn(line[0]) < self._early[0]):
            return heapq.heappop(self._early)[2]
        return line.popleft() if line else None


def _turn(submission: Submission) -> tuple[float, int, Submission]:
    return -submission.match.task.priority, submission.order, submission


class Group:
    """The items of one `map`, or what runs on one executor: at most `places` of them are on their way at once.

    Whoever has a place waits for one in the group `around`, if there is one.
    """

    __slots__ = ("around", "places", "waiting")

    def __init__(self, places: float, around: Group | None = None) -> None:
        self.places = places
        self.around = around
        self.waiting = Turns()


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
