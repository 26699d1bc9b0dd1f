"""Futures in the order in which their steps completed, which is recorded: a replay gives them in the same order.

A future is given only when no other one can have completed before it. A step is *ending* from the moment its body has
returned until its completion is numbered and known, so whatever is numbered lower is either known or ending.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, get_args

from durable.concurrency.futures import TaskFuture
from durable.concurrency.submissions import submission_of
from durable.errors import ConfigurationError
from durable.steps.awaitables import wake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence

    from durable.concurrency.submissions import Submission

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]
_LOOK = 0.0005  # seconds between two looks at steps that are ending, which takes about as long
_LAST = float("inf")


class _Order:
    """Puts submissions in the order of their completion as they settle."""

    def __init__(self, submissions: Iterable[Submission], wake: Callable[[], object]) -> None:
        self._all = set(submissions)
        self._wake = wake
        self._arrived: deque[Submission] = deque()
        self._sorted: list[tuple[float, int, Submission]] = []
        self._certain = 0
        for submission in self._all:
            submission.call_when_settled(self._arrive)

    def _arrive(self, submission: Submission) -> None:
        self._arrived.append(submission)
        self._wake()

    @property
    def has_arrivals(self) -> bool:
        return bool(self._arrived or self._sorted)

    def next(self) -> Submission | None:
        """Give the next one, if it is certain which one that is."""
        if not self._certain:
            return None
        self._certain -= 1
        return heapq.heappop(self._sorted)[2]

    def collect(self) -> Generator[None, None, None]:
        """Make those that have arrived certain; pauses while others that may come first are ending."""
        self._sort()
        last = max(self._sorted)
        under_way = [submission for submission in list(last[2].flow.under_way) if submission in self._all]
        ending = [submission for submission in under_way if submission.is_ending]
        while any(submission.is_ending for submission in ending):
            yield
        self._sort()
        self._certain = sum(each <= last for each in self._sorted)

    def _sort(self) -> None:
        while self._arrived:
            submission = self._arrived.popleft()
            number = _LAST if submission.number is None else submission.number
            heapq.heappush(self._sorted, (number, submission.order, submission))


class Completions(Generic[R]):
    """Iterates, sync or async, over futures in the order in which their steps completed."""

    def __init__(self, futures: Iterable[TaskFuture[R]]) -> None:
        """Take futures of one run; each counts once."""
        given = list(futures)
        self._futures = {submission_of(future, "as_completed and wait"): future for future in given}
        if len({submission.flow for submission in self._futures}) > 1:
            raise ConfigurationError("as_completed and wait take futures of one run, not of several.")

    def __iter__(self) -> Iterator[TaskFuture[R]]:
        """Block until the next one has completed."""
        event = threading.Event()
        order = _Order(self._futures, event.set)
        for one in self._futures:  # as many as there are
            while (found := order.next()) is None:
                while not order.has_arrivals:
                    one.flow.block(event.wait)
                    event.clear()
                for _ in order.collect():
                    time.sleep(_LOOK)
            found.show()
            yield self._futures[found]

    async def __aiter__(self) -> AsyncIterator[TaskFuture[R]]:
        """Wait for the next one without blocking the event loop."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        order = _Order(self._futures, partial(wake, loop, event.set))
        for one in self._futures:  # as many as there are
            while (found := order.next()) is None:
                while not order.has_arrivals:
                    await one.flow.pause(event.wait())
                    event.clear()
                for _ in order.collect():
                    await asyncio.sleep(_LOOK)
            found.show()
            yield self._futures[found]


class Waited(NamedTuple):
    """What `wait` gives: the completed futures in the order of their completion, the others in the order given."""

    done: list[TaskFuture[Any]]
    not_done: list[TaskFuture[Any]]


def as_completed(futures: Iterable[TaskFuture[R]]) -> Completions[R]:
    """Give futures in the order in which their steps completed: `for` blocks, `async for` does not.

    Completion order is recorded, so a resumed run gets them in the same order. Raises `ConfigurationError` for what is no
    future, and for futures of different runs.
    """
    return Completions(futures)


def wait(futures: Iterable[TaskFuture[Any]], return_when: ReturnWhen = "ALL_COMPLETED") -> Waited:
    """Block until the first future, or the first that failed or was skipped, or all of them are completed.

    `done` are the futures that completed up to then, so a resumed run gets the same ones: with `"FIRST_COMPLETED"` it is
    one. Raises `ConfigurationError` for what is no future, for futures of different runs and another `return_when`.
    """
    given = list(futures)
    done: list[TaskFuture[Any]] = []
    for future in _checked(given, return_when):
        done.append(future)
        if _is_enough(future, return_when):
            break
    return _waited(given, done)


async def wait_async(futures: Iterable[TaskFuture[Any]], return_when: ReturnWhen = "ALL_COMPLETED") -> Waited:
    """Do what `wait` does without blocking the event loop."""
    given = list(futures)
    done: list[TaskFuture[Any]] = []
    async for future in _checked(given, return_when):
        done.append(future)
        if _is_enough(future, return_when):
            break
    return _waited(given, done)


def _checked(futures: Sequence[TaskFuture[Any]], return_when: str) -> Completions[Any]:
    if return_when not in get_args(ReturnWhen):
        choices = ", ".join(map(repr, get_args(ReturnWhen)))
        raise ConfigurationError(f"wait(return_when={return_when!r}): return_when is one of {choices}.")
    return Completions(futures)


def _is_enough(future: TaskFuture[Any], return_when: str) -> bool:
    if return_when == "FIRST_EXCEPTION":
        return submission_of(future, "wait").error is not None
    return return_when == "FIRST_COMPLETED"


def _waited(given: Sequence[TaskFuture[Any]], done: list[TaskFuture[Any]]) -> Waited:
    completed = set(done)
    return Waited(done, [future for future in dict.fromkeys(given) if future not in completed])


class MapResults(Generic[R_co]):
    """The results of `Task.map`: iterate over them, sync or async, or await them as a list."""

    def __init__(self, submissions: Sequence[Submission], *, ordered: bool) -> None:
        """Give results in the order of the items or, if not `ordered`, as they are completed."""
        self._submissions = submissions
        self._ordered = ordered

    @cached_property
    def futures(self) -> tuple[TaskFuture[R_co], ...]:
        """The futures of the items, in their order."""
        return tuple(map(TaskFuture, self._submissions))

    def __len__(self) -> int:
        """Count the items."""
        return len(self._submissions)

    def __iter__(self) -> Iterator[R_co]:
        """Give results, blocking; raises the first failure that it comes to."""
        futures: Iterable[TaskFuture[R_co]] = map(TaskFuture, self._submissions)
        for future in futures if self._ordered else as_completed(self.futures):
            yield future.result()

    async def __aiter__(self) -> AsyncIterator[R_co]:
        """Give results without blocking the event loop."""
        if self._ordered:
            for submission in self._submissions:
                yield await TaskFuture[R_co](submission)
        else:
            async for future in as_completed(self.futures):
                yield future.result()

    def __await__(self) -> Generator[Any, Any, list[R_co]]:
        """Wait for all results; raises the first failure that it comes to."""
        return self._all().__await__()

    async def _all(self) -> list[R_co]:
        return [result async for result in self]

    def __repr__(self) -> str:
        """Show how many there are, and how many are done."""
        return f"<MapResults {sum(future.done() for future in self.futures)} of {len(self)} done>"
