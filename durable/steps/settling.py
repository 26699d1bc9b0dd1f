"""A body has ended only when all that it submitted has ended, and a failure among that is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.steps.effects import Effect
from durable.telling.notices import listed

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from durable.concurrency.flow import Flow
    from durable.concurrency.submissions import Submission
    from durable.runs.execution import Body, Execution


class Settled(Effect):
    """Everything that a body has submitted has ended."""

    __slots__ = ("_body", "_flow")

    def __init__(self, flow: Flow, body: Body) -> None:
        self._flow = flow
        self._body = body

    def act(self) -> None:
        while left := self._flow.unsettled(self._body):
            for submission in left:
                submission.wait()

    async def act_async(self) -> None:
        while left := self._flow.unsettled(self._body):
            for submission in left:
                await submission.settled()


def complete(flow: Flow, body: Body) -> Generator[Effect, None, None]:
    """Wait for all that a body has submitted; raises failures that nobody looked at."""
    if body in flow.submitted:
        yield Settled(flow, body)
        overlooked = flow.overlooked(body)
        flow.submitted.pop(body, None)
        if overlooked:
            raise _failure_of(flow, overlooked)


def leave(flow: Flow | None, body: Body, error: BaseException) -> Generator[Effect, None, None]:
    """Wait for all that a body has submitted which failed itself; an interruption gives up what has not begun."""
    if flow is not None and body in flow.submitted:
        if isinstance(error, Exception):
            yield Settled(flow, body)
        else:
            flow.give_up_below(body)


def end(flow: Flow, error: BaseException | None) -> Generator[Effect, None, BaseException | None]:
    """Wait for all that the workflow has submitted; gives what it ends with. An interruption gives up what has not begun."""
    body = flow.execution.body
    flow.open()
    try:
        if error is None or isinstance(error, Exception):
            yield Settled(flow, body)
    except BaseException as interruption:
        error = interruption
    flow.give_up()
    overlooked = flow.overlooked(body)
    if error is None and overlooked:
        error = _failure_of(flow, overlooked)
    return error


def end_streams(execution: Execution, body: Body, *, failed: bool) -> Generator[Effect, Any, None]:
    """Close the generators that a body leaves open, the last one first; what their bodies do at the end is recorded."""
    for stream, course in reversed(list(execution.streams.items())):
        if stream.match.frame.body.is_below(body):
            execution.streams.pop(stream, None)
            yield from course.end(failed=failed)


def overlooked_steps(flow: Flow, body: Body) -> set[int]:
    """Give the numbers of the failed steps that a body submitted and that nobody looked at: they are tried again."""
    return {submission.seq for submission in flow.overlooked(body) if submission.seq}


def _failure_of(flow: Flow, overlooked: Sequence[Submission]) -> BaseException:
    shown = listed([submission.key for submission in overlooked])
    return BaseExceptionGroup(
        f"submitted tasks of run {flow.execution.id} failed, and nobody asked for their results: {shown}",
        [submission.error for submission in overlooked if submission.error is not None],
    )
