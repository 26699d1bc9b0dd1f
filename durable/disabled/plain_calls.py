"""Calls where DURABLE_DISABLE is set: tasks and workflows are the plain functions, and what they ask of a run works in memory.

Failures of submitted tasks are not lost, and a workflow that fails undoes what its tasks did, as if all were recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.concurrency.completions import MapResults
from durable.concurrency.futures import TaskFuture, futures_in, replaced
from durable.disabled.plain_runs import BODY, RUNS, PlainBody, PlainRun, plain_body, plain_run
from durable.disabled.plain_submissions import PlainCall, PlainSubmission, plain_submission_of
from durable.journal import Journal
from durable.records import Batch, RunRecord, RunStatus
from durable.runs.sessions import Session, clock
from durable.steps.effects import drive, drive_async
from durable.undoing.undoables import ordered_arguments
from durable.values.serializers import Serializer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.runs.handles import Run
    from durable.steps.awaitables import Effect

Arguments = tuple[Any, ...]


def call_plain_task(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call the function of a task, and note how to undo it."""
    outer = BODY.get()
    if outer is None or task.is_generator:
        return function(*args, **kwargs)
    life = _task_life(outer.run, task, partial(function, *args, **kwargs), (instance, args, kwargs))
    return drive_async(life) if task.is_async else drive(life)


def _task_life(
    run: PlainRun, task: TaskDefinition, call: Callable[[], Any], given: tuple[Any, Arguments, dict[str, Any]]
) -> Generator[Effect, Any, Any]:
    token = BODY.set(PlainBody(run, is_async=task.is_async))
    try:
        value = yield PlainCall(call)
    finally:
        BODY.reset(token)
    if task.undo is not None:
        instance, args, kwargs = given
        own = args if instance is None or task.takes_self else (instance, *args)
        args, kwargs = ((), {}) if task.undo.takes_one else ordered_arguments(task, own, kwargs)
        run.compensations.append((task.undo, (value, *args), kwargs))
    return value


def call_plain_workflow(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call the function of a workflow."""
    own = args if instance is None or workflow.takes_self else (instance, *args)
    run = plain_run(workflow, own, kwargs)
    life = plain_life(run, partial(function, *args, **kwargs), is_async=workflow.is_async)
    return drive_async(life) if workflow.is_async else drive(life)


def plain_life(run: PlainRun, call: Callable[[], Any], *, is_async: bool) -> Generator[Effect, Any, Any]:
    """Execute the body of a workflow, wait for what it submitted, and undo what it did if it fails."""
    outer = BODY.get()
    token = BODY.set(PlainBody(run, is_async=is_async))
    RUNS[run.id] = run
    try:
        value = yield PlainCall(call)
        for submission in run.submissions:
            yield PlainCall(submission.settled)
        _raise_overlooked(run)
    except BaseException as error:
        if isinstance(error, Exception):
            yield from _undo(run, error)
        run.outcome.set_exception(error)
        raise
    finally:
        RUNS.pop(run.id, None)
        with contextlib.suppress(ValueError):  # a coroutine that is closed from another context
            BODY.reset(token)
    if outer is not None:
        outer.run.compensations += run.compensations
    run.outcome.set_result(value)
    return value


def _raise_overlooked(run: PlainRun) -> None:
    overlooked = [each for each in run.submissions if each.error is not None and not each.is_looked_at]
    if overlooked:
        raise BaseExceptionGroup(
            f"submitted tasks of run {run.id} failed, and nobody asked for their results: "
            f"{', '.join(each.key for each in overlooked)}",
            [each.error for each in overlooked if each.error is not None],
        )


def _undo(run: PlainRun, error: Exception) -> Generator[Effect, Any, None]:
    for submission in run.submissions:
        yield PlainCall(submission.settled)
    while run.compensations:
        undo, args, kwargs = run.compensations.pop()
        try:
            yield PlainCall(partial(undo.plain, *args, **kwargs))
        except Exception as problem:
            error.add_note(f"{undo.qualname}{args!r} failed, so this could not be undone: {problem!r}.")


def submit_plain(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> TaskFuture[Any]:
    """Execute a call at once, or as an asyncio task; its failure is in the future."""
    return TaskFuture(_submit(task, function, instance, args, kwargs, None))


def map_plain(
    task: TaskDefinition,
    function: Callable[..., Any],
    instance: Any,
    calls: Iterable[Arguments],
    concurrency: int | None,
    *,
    ordered: bool,
) -> MapResults[Any]:
    """Submit a call for each item; only asyncio tasks are executed at the same time."""
    limit = asyncio.Semaphore(concurrency) if concurrency is not None else None
    submissions = [_submit(task, function, instance, args, {}, limit) for args in calls]
    return MapResults(submissions, ordered=ordered)


def _submit(
    task: TaskDefinition,
    function: Callable[..., Any],
    instance: Any,
    args: Arguments,
    kwargs: dict[str, Any],
    limit: asyncio.Semaphore | None,
) -> Any:
    needed = tuple(plain_submission_of(future) for future in futures_in((args, kwargs)))
    after = tuple(plain_submission_of(future) for future in task.after)
    run = plain_body("submit(...)").run
    submission = PlainSubmission(run, task.title, needed, after, task.when)

    def call() -> Any:
        given, named = replaced((args, kwargs), lambda future: plain_submission_of(future).value)
        return call_plain_task(task, function, instance, given, named)

    submission.begin(call, is_async=task.is_async, limit=limit)
    return submission


def start_plain(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Run:
    """Execute the function of a workflow in the background."""
    own = args if instance is None or workflow.takes_self else (instance, *args)
    run = plain_run(workflow, own, kwargs)
    RUNS[run.id] = run
    life = plain_life(run, partial(function, *args, **kwargs), is_async=workflow.is_async)

    def execute() -> None:
        with contextlib.suppress(BaseException):  # which the handle gives
            _ = asyncio.run(drive_async(life)) if workflow.is_async else drive(life)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(execute,), name=f"durable-{run.id}", daemon=True).start()
    return handle_of(run, workflow.full_name)


def handle_of(run: PlainRun, workflow: str) -> Run:
    """Give a `Run` that knows nothing but how the call ends."""
    from durable.runs.handles import Run  # noqa: PLC0415 -- needed here only, and not quick to import
    from durable.stores.memory import MemoryStore  # noqa: PLC0415 -- see above

    store, now = MemoryStore(), clock()
    record = RunRecord(run.id, workflow, RunStatus.RUNNING, 1, store.owner, now, now, lineage=run.id)
    store.write(Batch(created=(record,)))

    def end(done: Future[Any]) -> None:
        status = RunStatus.SUCCEEDED if done.exception() is None else RunStatus.FAILED
        ended = replace(record, status=status, owner="", ended_at=clock())
        store.write(Batch(ended=(ended,), fences={run.id: (1, store.owner)}))

    run.outcome.add_done_callback(end)
    return Run(Session(store, Journal(store), Serializer()), run.id, outcome=run.outcome)
