"""A batch is submitted once, asked about until it has ended, and its results are recorded one by one.

What was submitted is on disk before anything is asked about it, and asking is not recorded: a run that was killed goes on
with the batch that it has. Only a batch that failed, and whose failure ended the run, is submitted again.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.disabled.plain_runs import plain_body
from durable.errors import BatchFailedError, ConfigurationError, WaitTimeoutError
from durable.identity.calls import Call
from durable.identity.namesakes import refuse_confusion
from durable.records import StepStatus
from durable.runs import sessions
from durable.runs.execution import FRAME, leave
from durable.runs.inside import frame_of
from durable.steps.attempts import Attempts
from durable.steps.awaitables import Effect
from durable.steps.effects import Durable, Sleep, drive, drive_async
from durable.steps.engine import as_coroutine
from durable.steps.matching import Match
from durable.steps.steps import Step
from durable.values.exceptions import decode_exception
from durable.waiting.deadlines import Deadline
from durable.waiting.waits import Wait, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from datetime import timedelta

    from durable.runs.execution import Frame

M = TypeVar("M", bound=Mapping[str, Any])
B = TypeVar("B")
R = TypeVar("R")
_OFTEN = 60.0  # seconds between two questions
_SHOWN = 5  # names in a message


@overload
def batch(
    requests: M,
    submit: Callable[[M], Coroutine[Any, Any, B]],
    poll: Callable[[B], Coroutine[Any, Any, object]],
    fetch: Callable[[B], Coroutine[Any, Any, Mapping[str, R] | Iterable[tuple[str, R]]] | AsyncIterator[tuple[str, R]]],
    *,
    every: float | timedelta = _OFTEN,
    timeout: float | timedelta | None = None,
) -> Coroutine[Any, Any, dict[str, R]]: ...
@overload
def batch(
    requests: M,
    submit: Callable[[M], B],
    poll: Callable[[B], object],
    fetch: Callable[[B], Mapping[str, R] | Iterable[tuple[str, R]]],
    *,
    every: float | timedelta = _OFTEN,
    timeout: float | timedelta | None = None,
) -> dict[str, R]: ...
def batch(
    requests: Mapping[str, Any],
    submit: Callable[[Any], Any],
    poll: Callable[[Any], Any],
    fetch: Callable[[Any], Any],
    *,
    every: float | timedelta = _OFTEN,
    timeout: float | timedelta | None = None,
) -> Any:
    """Have a service work on many requests at once, and give a dict of their results, by name and in their order.

    `submit(requests)` hands them over and returns what the service calls the batch; it is a step that is not idempotent, a
    `@task` with its own options if it is one. `poll(batch_id)` is called each `every` seconds, gives something true when
    the batch has ended, and raises `BatchFailedError` if it will have no results; neither it nor the time between is
    recorded, and the run is `waiting`. `fetch(batch_id)` gives pairs of a name and a result, one for each request, as a
    mapping or an iterable; each result is a step. `timeout`: seconds or a `timedelta` for the waiting, over crashes.

    All three are functions, or all three are async: then the batch is awaited. A process that was killed while it submitted
    leaves the submission in doubt, and `durable resolve` takes the id. A run that `poll` ended by `BatchFailedError` submits
    the requests again when it is called again; one that anything else ended goes on with the batch that it has.

    Raises `ConfigurationError` for requests, functions and times that cannot be meant, `OutsideRunError` outside a run,
    `WaitTimeoutError` if the batch does not end in time, and `BatchFailedError` if it failed, if `fetch` gave no result for a
    request, or one for something else.
    """
    _check(requests, submit, poll, fetch)
    frequency = duration("batch", every)
    if not frequency:
        raise ConfigurationError("durable.batch(every=0): the time between two questions is positive.")
    limit = None if timeout is None else duration("batch", timeout)
    if FRAME.get() is None and sessions.is_disabled():
        plain_body("batch()")
        plain = _Batch(None, poll, fetch, frequency, limit).plain_life(_undecorated(submit), requests)
        return drive_async(plain) if inspect.iscoroutinefunction(submit) else drive(plain)
    frame = frame_of("batch()")
    frame.body.check()
    submission = _Submission(submit, frame.body.execution.anchor)
    life = _Batch(frame, poll, fetch, frequency, limit).life(submission, requests)
    return as_coroutine(life, submission.task, frame) if submission.task.is_async else drive(life)


def _check(requests: object, submit: Any, poll: Any, fetch: Any) -> None:
    if not isinstance(requests, Mapping) or not all(isinstance(name, str) for name in requests):
        raise ConfigurationError(
            f"durable.batch() takes a mapping of names, which are strings, to requests, not {type(requests).__qualname__}. "
            f"The names come back from fetch with the results."
        )
    kinds = {}
    for name, function in (("submit", submit), ("poll", poll), ("fetch", fetch)):
        if not callable(function):
            raise ConfigurationError(f"durable.batch({name}={function!r}): {name} is a function.")
        kinds[name] = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if len(set(kinds.values())) > 1:
        is_async = ", ".join(name for name, kind in kinds.items() if kind)
        raise ConfigurationError(
            f"durable.batch(): submit, poll and fetch are all async, or none of them is; here only {is_async}."
        )
    if inspect.isgeneratorfunction(submit) or inspect.isasyncgenfunction(submit):
        raise ConfigurationError("durable.batch(): submit is a generator; it has to return the id of the batch.")


class _Submission:
    """The task that submits a batch, not idempotent unless it says so, and how its function is called."""

    def __init__(self, submit: Any, anchor: str | None) -> None:
        self.function, self.instance = submit, getattr(submit, "__self__", None)
        if (task := _definition_of(submit)) is not None:
            self.function = submit.__wrapped__
        else:
            task = TaskDefinition(function=getattr(submit, "__func__", submit))
            registry.tasks.add(task)
        if task.idempotent is None:
            task = task.with_options(idempotent=False)
        self.task = task.at(anchor)


def _definition_of(function: Any) -> TaskDefinition | None:
    task = getattr(getattr(function, "_self_parent", function), "definition", None)
    return task if isinstance(task, TaskDefinition) else None


def _undecorated(function: Any) -> Any:
    return function if _definition_of(function) is None else function.__wrapped__


class _Batch:
    """One call of `batch`: the lives of its steps, one after the other."""

    def __init__(
        self,
        frame: Frame | None,
        poll: Callable[[Any], Any],
        fetch: Callable[[Any], Any],
        every: float,
        limit: float | None,
    ) -> None:
        self.frame = frame
        self.every = every
        self.limit = limit
        self.poll = _undecorated(poll)
        self._fetch = _undecorated(fetch)
        self._fetched: dict[str, Any] | None = None

    def plain_life(self, submit: Any, requests: Mapping[str, Any]) -> Generator[Effect, Any, dict[str, Any]]:
        """Submit, wait and fetch where nothing is recorded."""
        if not requests:
            return {}
        batch_id = yield _Aside(partial(submit, requests))
        begun = time.monotonic()
        while not (yield _Aside(partial(self.poll, batch_id))):
            if self.limit is not None and time.monotonic() >= begun + self.limit:
                raise WaitTimeoutError(f"Batch {_id_of(batch_id)} did not end within {self.limit:g} s.")
            yield Sleep(self.every)
        results = yield from self.results(batch_id, requests)
        return {name: results[name] for name in requests}

    def life(self, submission: _Submission, requests: Mapping[str, Any]) -> Generator[Effect, Any, dict[str, Any]]:
        """Submit, wait and fetch what is not recorded."""
        if not requests:
            return {}
        batch_id = yield from self._submit(submission, requests)
        while not (yield from _Ending(self, batch_id).life()):
            batch_id = yield from self._submit(submission, requests)
        results = {}
        for name in requests:
            results[name] = yield from _Result(self, batch_id, name, requests).life()
        return results

    def _submit(self, submission: _Submission, requests: Mapping[str, Any]) -> Generator[Effect, Any, Any]:
        task = submission.task
        assert self.frame is not None
        match = Match(task, Call(task, submission.instance, (requests,), {}), self.frame)
        refuse_confusion(match)
        return (yield from Step(match, submission.function).life())

    def results(self, batch_id: Any, requests: Mapping[str, Any]) -> Generator[Effect, Any, dict[str, Any]]:
        """Fetch the results of a batch that has ended, once."""
        if self._fetched is None:
            fetched: dict[str, Any] = yield _Aside(partial(self._collect, batch_id))
            missing = [name for name in requests if name not in fetched]
            surplus = [name for name in fetched if name not in requests]
            for problem, names in (("no result for", missing), ("a result for what is not among", surplus)):
                if names:
                    shown = ", ".join(map(repr, names[:_SHOWN])) + ", ..." * (len(names) > _SHOWN)
                    raise BatchFailedError(
                        f"Batch {_id_of(batch_id)} has ended, and fetch gave {problem} the {len(requests)} requests: {shown}. "
                        f"Let it give one result for each name, also for a request that failed; then call the run again."
                    )
            self._fetched = fetched
        return self._fetched

    def _collect(self, batch_id: Any) -> Any:
        found = self._fetch(batch_id)
        is_async = inspect.isawaitable(found) or isinstance(found, AsyncIterator)
        return _gathered(found) if is_async else _paired(found)


async def _gathered(found: Any) -> dict[str, Any]:
    if isinstance(found, AsyncIterator):
        return _paired([pair async for pair in found])
    return _paired(await found)


def _paired(found: Any) -> dict[str, Any]:
    try:
        return dict(found)
    except (TypeError, ValueError) as error:
        raise BatchFailedError(
            f"fetch gave a {type(found).__qualname__}, which is no mapping and no iterable of pairs of a name and a result: "
            f"{error}."
        ) from error


def _id_of(batch_id: Any) -> str:
    return str(getattr(batch_id, "id", batch_id))


class _Aside(Effect):
    """A function of the user is called beside the run: nothing that it calls is recorded."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def act(self) -> Any:
        token = FRAME.set(None)
        try:
            return self._call()
        finally:
            leave(token)

    async def act_async(self) -> Any:
        token = FRAME.set(None)
        try:
            return await self._call()
        finally:
            leave(token)


class _Ending(Step):
    """Waits until a batch has ended: True, or False for one that failed and is set aside."""

    __slots__ = ("_batch", "_id")

    def __init__(self, batch: _Batch, batch_id: Any) -> None:
        assert batch.frame is not None
        super().__init__(Match(_ENDED, Call(_ENDED, None, (batch_id,), {}), batch.frame), _ENDED.plain)
        self._batch = batch
        self._id = batch_id

    def _attempts(self) -> Attempts:
        return _Polling(self.match, self._batch, self._id)


class _Polling(Wait):
    """Asks about a batch again and again."""

    __slots__ = ("_batch", "_id")

    def __init__(self, match: Match, batch: _Batch, batch_id: Any) -> None:
        super().__init__(match, batch.limit, None)
        self._batch = batch
        self._id = batch_id

    def _wait(self, until: float | None) -> Generator[Effect, Any, bool]:
        if self._has_failed():
            return False
        execution, batch = self.execution, self._batch
        ticket = self._record_deadline(until)
        deadline = None if until is None else Deadline(until, execution.clock)
        with execution.standby.waiting() as bell:
            yield Durable(execution, ticket)
            while not (yield _Aside(partial(batch.poll, self._id))):
                again = Deadline(execution.clock() + batch.every, execution.clock)
                while (left := again.left() if deadline is None else min(again.left(), deadline.left())) > 0:
                    yield bell.within(left)
                    self.frame.body.check()
                if deadline is not None and deadline.left() <= 0:
                    raise WaitTimeoutError(
                        f"Batch {_id_of(self._id)} did not end within {self._seconds:g} s. Run {execution.id} goes on waiting "
                        f"for it when it is called again."
                    )
        return True

    def _has_failed(self) -> bool:
        """Whether an earlier execution was told that the batch failed, and ended by it."""
        record, execution = self.record, self.execution
        if record is None or record.status != StepStatus.FAILED or record.error is None:
            return False
        data = execution.session.fetch(record.error, run=record.run_id, step=record.key)
        error = decode_exception(data, execution.serializer, run=record.run_id, step=record.key)
        return isinstance(error, BatchFailedError)


class _Result(Step):
    """The result of one request."""

    __slots__ = ("_batch", "_place")

    def __init__(self, batch: _Batch, batch_id: Any, name: str, requests: Mapping[str, Any]) -> None:
        assert batch.frame is not None
        super().__init__(Match(_RESULT, Call(_RESULT, None, (batch_id, name), {}), batch.frame), _RESULT.plain)
        self._batch = batch
        self._place = batch_id, name, requests

    def _attempts(self) -> Attempts:
        return _Fetching(self.match, self._batch, *self._place)


class _Fetching(Attempts):
    __slots__ = ("_batch", "_place")

    def __init__(self, match: Match, batch: _Batch, batch_id: Any, name: str, requests: Mapping[str, Any]) -> None:
        super().__init__(match, match.task.plain)
        self._batch = batch
        self._place = batch_id, name, requests

    def execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:  # noqa: ARG002 -- nothing to wait for
        batch_id, name, requests = self._place
        results = yield from self._batch.results(batch_id, requests)
        return (yield from self.succeed(results[name]))


def _ended(batch_id: Any) -> None: ...


def _result(batch_id: Any, request: str) -> None: ...


def _result_key(batch_id: Any, request: str) -> str:
    return f"{_id_of(batch_id)}/{request}"


_ENDED = TaskDefinition(function=_ended, name="durable.batch", key=_id_of, idempotent=True, has_body=False)
_RESULT = TaskDefinition(
    function=_result, name="durable.batch_result", key=_result_key, idempotent=True, has_body=False
)
registry.tasks.add(_ENDED)
registry.tasks.add(_RESULT)
