"""How many bodies may be under execution at once, in a run and in one `map`; whoever uses them holds the flow's lock."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.submissions import Submission


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
    """The items of one `map`: at most `places` of them are on their way at once."""

    __slots__ = ("places", "waiting")

    def __init__(self, places: int) -> None:
        self.places = places
        self.waiting: deque[Submission] = deque()
