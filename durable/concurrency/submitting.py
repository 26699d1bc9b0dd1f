"""Submits calls of tasks: `submit` one, `map` many. What is wrong with a call is said before anything is executed."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from durable.concurrency.completions import MapResults
from durable.concurrency.executors import Elsewhere
from durable.concurrency.flow import flow_of
from durable.concurrency.futures import TaskFuture, futures_in, replaced
from durable.concurrency.submissions import Needs, Submission, submission_of
from durable.disabled.plain_calls import map_plain, submit_plain
from durable.errors import ConfigurationError, OutsideRunError
from durable.identity.calls import Call, LateCall
from durable.identity.encoding import SCALARS
from durable.identity.namesakes import refuse_confusion
from durable.runs import sessions
from durable.runs.execution import FRAME
from durable.steps import outside
from durable.steps.engine import call_anonymous_task, call_task
from durable.steps.matching import Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable.concurrency.flow import Flow
    from durable.declarations.definitions import TaskDefinition
    from durable.runs.execution import Frame

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_NO_KWARGS: dict[str, Any] = {}  # of all items of a map, however many there are
_NO_FUTURES = frozenset(SCALARS)


def submit_task(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> TaskFuture[Any]:
    """Submit one call; its step key is fixed here."""
    _refuse_generator(task, "submit")
    if FRAME.get() is None and sessions.is_disabled():
        return submit_plain(task, function, instance, args, kwargs)
    frame = _frame(task, "submit")
    submitting = _Submitting(task, function, instance, frame, None)
    submission = submitting.make(submitting.call(args, kwargs))
    submitting.flow.submit(submitting.made)
    return TaskFuture(submission)


def call_on_executor(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a task whose body runs on an executor, and wait for it as for any other."""
    frame = FRAME.get() or outside.frame_here()
    if frame is not None and task.executor is not None:
        frame.body.check()
        function = Elsewhere(flow_of(frame.body.execution).executors, task.executor, task, function, instance)
        function.check(args, kwargs)
    call = call_anonymous_task if task.is_anonymous else call_task
    return call(task, function, instance, args, kwargs)


def map_task(
    task: TaskDefinition,
    function: Callable[..., Any],
    instance: Any,
    iterables: tuple[Iterable[Any], ...],
    concurrency: int | None,
    *,
    ordered: bool,
) -> MapResults[Any]:
    """Submit one call for each item; all of them are checked before the first is executed."""
    if concurrency is not None and (
        not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1
    ):
        raise ConfigurationError(
            f"Task {task.full_name!r} was not executed: map(concurrency={concurrency!r}) takes a number of 1 or more."
        )
    if not iterables:
        raise ConfigurationError(
            f"Task {task.full_name!r} was not executed: map takes at least one iterable of arguments."
        )
    _refuse_generator(task, "map")
    items = list(zip(*iterables))  # noqa: B905 -- up to the shortest, as `map` does
    if FRAME.get() is None and sessions.is_disabled():
        return map_plain(task, function, instance, items, concurrency, ordered=ordered)
    frame = _frame(task, "map")
    submitting = _Submitting(task, function, instance, frame, concurrency)
    submissions = [submitting.make(call) for call in submitting.calls(items)]
    submitting.flow.submit(submitting.made)
    return MapResults(submissions, ordered=ordered)


def _refuse_generator(task: TaskDefinition, what: str) -> None:
    if task.is_generator:
        raise ConfigurationError(
            f"Task {task.full_name!r} was not executed: it is a generator, whose items are given where it is called, and "
            f"{what}(...) would have no result to wait for. Iterate over a call of it, or submit a task that returns a list."
        )


def _frame(task: TaskDefinition, what: str) -> Frame:
    frame = FRAME.get() or outside.frame_here()
    if frame is None:
        raise OutsideRunError(
            f"Task {task.full_name!r} was not executed: {what}(...) was called outside a run, or in a thread that carries no "
            f"run context. Call it in a @workflow or in `with durable.run(...)`; threads need "
            f"contextvars.copy_context().run."
        )
    frame.body.check()
    return frame


class _Submitting:
    """What calls that are submitted together have in common."""

    def __init__(
        self, task: TaskDefinition, function: Callable[..., Any], instance: Any, frame: Frame, places: int | None
    ) -> None:
        execution = frame.body.execution
        self._task = task = task.at(execution.anchor)
        self._instance = instance
        self._frame = frame
        self._scope = frame.scope
        self._context = contextvars.copy_context()
        self.flow: Flow = flow_of(execution)
        self.made: list[Submission] = []
        self._after = tuple(self._own(future) for future in task.after)
        self._dependent: dict[Call, tuple[tuple[Submission, ...], Arguments]] = {}
        self._may_be_confused = task.is_anonymous or instance is not None
        self._loop = _loop_of(frame) if task.is_async and execution.workflow.is_async else None
        option = task.executor if task.executor is not None else execution.workflow.executor
        if option == "threads" and not task.is_async:  # which those of the run are
            option = None
        self._group = self.flow.executors.group(option, places)
        self._elsewhere: Elsewhere | None = None
        if option is not None:
            self._elsewhere = Elsewhere(self.flow.executors, option, task, function, instance)
        self._function = self._elsewhere or function

    def _own(self, future: object) -> Submission:
        submission = submission_of(future, "after= and arguments")
        if submission.flow is not self.flow:
            raise ConfigurationError(
                f"Task {self._task.full_name!r} was not executed: it depends on step {submission.key!r} of another run, "
                f"{submission.flow.execution.id}. Pass that run's result."
            )
        return submission

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Check a call, and find the submissions whose results are its arguments."""
        if (kwargs or not _NO_FUTURES.issuperset(map(type, args))) and (futures := futures_in((args, kwargs))):
            needed = tuple(dict.fromkeys(map(self._own, futures)))
            early_args, early_kwargs = replaced((args, kwargs), _reference)
            call = Call(self._task, self._instance, early_args, early_kwargs)
            self._dependent[call] = needed, (args, kwargs)
            return call
        if self._elsewhere is not None:
            self._elsewhere.check(args, kwargs)
        return Call(self._task, self._instance, args, kwargs)

    def calls(self, items: list[tuple[Any, ...]]) -> list[Call]:
        """Check a call for each item before the first of them is made."""
        if self._elsewhere is None and _NO_FUTURES.issuperset(map(type, chain.from_iterable(items))):
            return [Call(self._task, self._instance, args, _NO_KWARGS) for args in items]
        return [self.call(args, _NO_KWARGS) for args in items]

    def make(self, call: Call) -> Submission:
        """Fix the step key of a call that was checked."""
        scope = self._scope
        under_way = scope.under_way(call.content)
        if under_way is not None:
            return under_way
        match = Match(self._task, call, self._frame)
        if self._may_be_confused:
            refuse_confusion(match)
        needs = self._needs(call) if self._after or self._dependent else None
        submission = Submission(self.flow, match, self._function, self._context, self._loop, self._group, needs)
        self.made.append(submission)
        scope.note_submission(call.content, submission)
        return submission

    def _needs(self, call: Call) -> Needs | None:
        if call in self._dependent:
            needed, given = self._dependent[call]
            return Needs(needed, self._after, partial(self._resolve, call, given))
        return Needs((), self._after) if self._after else None

    def _resolve(self, call: Call, given: Arguments) -> Call:
        args, kwargs = replaced(given, _result)
        if self._elsewhere is not None:
            self._elsewhere.check(args, kwargs)
        return LateCall(call, args, kwargs)


def _loop_of(frame: Frame) -> asyncio.AbstractEventLoop:
    root = frame.body.execution.root_task
    return root.get_loop() if root is not None else asyncio.get_running_loop()


def _reference(future: TaskFuture[Any]) -> Any:
    return submission_of(future, "arguments").reference


def _result(future: TaskFuture[Any]) -> Any:
    return submission_of(future, "arguments").value
