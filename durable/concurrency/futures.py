"""`TaskFuture`: the result of a submitted task, once there is one.

What was looked at is noted: a failure that nobody looked at fails the run at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from durable.errors import ExecutionStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.concurrency.submissions import Submission

R_co = TypeVar("R_co", covariant=True)
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


class TaskFuture(Generic[R_co]):
    """The result of a task that was submitted with `Task.submit`.

    Handed to another `submit` as an argument, also inside lists, tuples, sets and dicts, it is a dependency: the task gets
    the result. A future exists only after its submission, so dependencies cannot form cycles.
    """

    __slots__ = ("_submission",)

    def __init__(self, submission: Submission) -> None:
        """Stand for the result of a submission."""
        self._submission = submission

    @property
    def step_key(self) -> str:
        """Key of the step, fixed when it was submitted."""
        return self._submission.key

    def done(self) -> bool:
        """Whether it succeeded, failed or was skipped."""
        if not self._submission.is_settled:
            return False
        self._submission.show()
        return True

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the result; seconds, None: however long it takes.

        Raises what the task raised, `UpstreamFailedError` if it was skipped because a task that it depends on failed,
        `TimeoutError`, and `WouldDeadlockError` where waiting would keep the task from ending.
        """
        submission = self._submission
        if not submission.is_settled:
            submission.wait(timeout)
        submission.look()
        if submission.error is not None:
            if isinstance(submission.error, ExecutionStopped):
                submission.flow.execution.told(submission.error)
            raise submission.error
        value: R_co = submission.value
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and give the exception, None if it succeeded; raises what waiting in `result` raises."""
        submission = self._submission
        if not submission.is_settled:
            submission.wait(timeout)
        submission.look()
        return submission.error

    def __await__(self) -> Generator[Any, Any, R_co]:
        """Wait for the result without blocking the event loop; cancelling the wait does not cancel the task."""
        if not self._submission.is_settled:
            yield from self._submission.settled().__await__()
        return self.result()

    def __repr__(self) -> str:
        """Show the step key and the state."""
        return f"<TaskFuture {self.step_key} {self._submission.state}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be stored, or to count as an argument of a plain call."""
        raise TypeError("a TaskFuture has no value of its own: pass future.result(), or pass the future to submit(...)")


def futures_in(value: Any) -> list[TaskFuture[Any]]:
    """Find the futures in arguments and in the lists, tuples, sets and dicts that they consist of."""
    found: list[TaskFuture[Any]] = []
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if type(current) in _CONTAINERS:
            waiting += current.values() if type(current) is dict else current
        elif isinstance(current, TaskFuture):
            found.append(current)
    found.reverse()
    return found


def replaced(value: Any, replacement: Callable[[TaskFuture[Any]], Any]) -> Any:
    """Give the value with each future replaced; parts that hold none are the same objects."""
    if isinstance(value, TaskFuture):
        return replacement(value)
    if type(value) not in _CONTAINERS or not futures_in(value):
        return value
    if type(value) is dict:
        return {key: replaced(each, replacement) for key, each in value.items()}
    return type(value)(replaced(each, replacement) for each in value)
