"""Where calls enter: inside a run a task is a step and a workflow a run of its own; outside, a task is a plain function.

What makes a call durable is decided here, and never silently the other way.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.concurrency.consumers import items_of, items_of_async
from durable.concurrency.streams import Stream
from durable.costs.costs import ELSEWHERE
from durable.declarations.naming import module_name
from durable.errors import OutsideRunError
from durable.identity.calls import Call
from durable.identity.namesakes import refuse_confusion, refuse_other_object
from durable.identity.run_calls import RunCall
from durable.runs import sessions
from durable.runs.execution import FRAME, NOTHING, warn_once
from durable.runs.runs import run_life
from durable.steps import outside
from durable.steps.awaitables import running_loop
from durable.steps.effects import Execute, advance, drive, drive_async
from durable.steps.matching import Match, find_record
from durable.steps.plain_steps import PlainStep, live_plainly
from durable.steps.replaying import give, give_in_turn, is_given_at_once
from durable.steps.steps import Step
from durable.telling.tracebacks import ShownToCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

    from durable.declarations.definitions import Definition, TaskDefinition, WorkflowDefinition
    from durable.runs.execution import Frame
    from durable.runs.handles import Run
    from durable.steps.effects import Effect

Arguments = tuple[Any, ...]


def call_task(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call a task: replay it, execute it as a step, or, outside any run, just execute it."""
    frame = FRAME.get()
    if frame is None:
        return _call_outside(task, function, instance, args, kwargs)
    frame.body.check()
    execution = frame.body.execution
    if execution.anchor is not None:
        task = task.at(execution.anchor)
    call = Call(task, instance, args, kwargs)
    found = find_record(frame, call.content)
    _, record = found
    if instance is not None:
        refuse_other_object(execution, task, call, record)
    if record is not None and is_given_at_once(execution, task, record):
        return _named(give_in_turn(execution, record), task) if task.is_async else give(execution, record)
    match = Match(task, call, frame, found)
    # records there may be in a first execution too, of an earlier attempt around
    if task.is_plain and record is None and execution.history is NOTHING and frame.scope.history is NOTHING:
        if not task.is_async:
            return PlainStep(match, function).perform()
        if execution.workflow.is_async:
            return _named(live_plainly(match, function), task)
    life = Step(match, function).life()
    return as_coroutine(life, task, frame) if task.is_async else drive(life)


def call_anonymous_task(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call a task whose function has no name of its own."""
    frame = FRAME.get()
    if frame is None:
        return call_task(task, function, instance, args, kwargs)
    life = Step(_matched(task, instance, args, kwargs, frame), function).life()
    return as_coroutine(life, task, frame) if task.is_async else drive(life)


def call_generator(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call a task that is a generator: the step begins when its first item is asked for."""
    frame = FRAME.get()
    if frame is None:
        return _call_outside(task, function, instance, args, kwargs)
    stream = Stream(_matched(task, instance, args, kwargs, frame), function)
    return items_of_async(stream) if task.is_async_generator else items_of(stream)


def _matched(task: TaskDefinition, instance: Any, args: Arguments, kwargs: dict[str, Any], frame: Frame) -> Match:
    """Match a call; `call_task` does the same, but saves a call of its own on the way of every plain step."""
    frame.body.check()
    task = task.at(frame.body.execution.anchor)
    match = Match(task, Call(task, instance, args, kwargs), frame)
    refuse_confusion(match)
    return match


def as_coroutine(life: Generator[Effect, Any, Any], definition: Definition, frame: Frame) -> Any:
    """Give the life of a step as a coroutine that is named after what is called."""
    execution = frame.body.execution
    return _named(drive_async(life) if execution.workflow.is_async else _drive_scoped(life), definition)


def _named(coroutine: Any, definition: Definition) -> Any:
    coroutine.__qualname__ = definition.qualname
    return coroutine


async def _drive_scoped(life: Generator[Effect, Any, Any]) -> Any:
    """An async task of a sync workflow brings its own loop, which has no scopes yet."""
    with scoped_tasks():
        return await drive_async(life)


def _plain() -> ModuleType:
    from durable.disabled import plain_calls  # noqa: PLC0415 -- needed only where nothing is recorded

    return plain_calls


def _call_outside(
    task: TaskDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    if sessions.is_disabled():
        return _plain().call_plain_task(task, function, instance, args, kwargs)
    notebook = outside.notebook_here()
    if notebook is not None:
        return notebook.call(task, function, instance, args, kwargs)
    _refuse_or_warn(task)
    return function(*args, **kwargs)


def _refuse_or_warn(task: TaskDefinition) -> None:
    name = f"{module_name(task.plain)}.{task.qualname}"  # the full name may depend on a store
    if ELSEWHERE.get() is not None and not task.is_idempotent(None):
        raise OutsideRunError(
            f"Task {name!r} is not idempotent and was called by a body that runs in another process, where it could not be "
            f"recorded, so it was not executed. Call it from the workflow, or let the body run in a thread."
        )
    defaults = sessions.defaults_of_active_runs()
    if defaults and not all(task.is_idempotent(default) for default in defaults):
        raise OutsideRunError(
            f"Task {name!r} is not idempotent and was called from a thread or process that carries no run context while a run "
            f"is active, so it could not be recorded and was not executed. Call it from the workflow. {outside.IN_THREADS}"
        )
    where = "from a thread that carries no run context while a run is active" if defaults else "outside a run"
    way = outside.IN_THREADS if defaults else "Call it in a @workflow or in `with durable.run(...)`."
    warn_once(
        "outside",
        name,
        f"Task {name!r} was called {where}: it is executed as a plain function and nothing is recorded. {way}",
    )


def call_workflow(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call a workflow: a run, or inside a run a step that is a run of its own."""
    if sessions.is_disabled():
        return _plain().call_plain_workflow(workflow, function, instance, args, kwargs)
    frame = FRAME.get()
    if frame is None:
        outside.check_workflow(workflow)
        with ShownToCaller():
            life = run_life(RunCall(workflow, instance, args, kwargs), partial(function, *args, **kwargs))
            if not workflow.is_async:
                return drive(life)
        return _named(_shown_to_caller(life), workflow)
    frame.body.check()
    child = _async_child if workflow.is_async else _child
    task = workflow.at(frame.body.execution.anchor).as_step
    match = Match(task, Call(task, instance, args, kwargs), frame)
    step = Step(match, partial(child, workflow, function, instance))
    return as_coroutine(step.life(), workflow, frame) if workflow.is_async else drive(step.life())


async def _shown_to_caller(life: Generator[Effect, Any, Any]) -> Any:
    with ShownToCaller():
        return await drive_async(life)


def _child_life(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Generator[Effect, Any, Any]:
    frame = FRAME.get()
    assert frame is not None
    call = RunCall(workflow, instance, args, kwargs, parent=frame.body)
    return run_life(call, partial(function, *args, **kwargs))


def _child(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, /, *args: Any, **kwargs: Any
) -> Any:
    return drive(_child_life(workflow, function, instance, args, kwargs))


async def _async_child(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, /, *args: Any, **kwargs: Any
) -> Any:
    return await drive_async(_child_life(workflow, function, instance, args, kwargs))


def start_workflow(
    workflow: WorkflowDefinition, function: Callable[..., Any], instance: Any, args: Arguments, kwargs: dict[str, Any]
) -> Run:
    """Open a run here and execute it in the background."""
    from durable.runs.handles import Run  # noqa: PLC0415 -- needed by `start` only, and not quick to import

    if FRAME.get() is not None:
        raise OutsideRunError(
            f"Workflow {workflow.full_name!r} was started in the background inside a run, where its end would not be "
            f"waited for. Call it instead: it is a step then."
        )
    if sessions.is_disabled():
        run: Run = _plain().start_plain(workflow, function, instance, args, kwargs)
        return run
    outside.check_workflow(workflow)
    call = RunCall(workflow, instance, args, kwargs)
    life = run_life(call, partial(function, *args, **kwargs))
    outcome: Future[Any] = Future()
    outcome.set_running_or_notify_cancel()
    try:
        effect = open_life(life)
    except StopIteration as end:
        outcome.set_result(end.value)
        return Run(call.session, call.lineage, outcome=outcome)
    call.session.journal.flush_all()
    run = Run(call.session, effect.body.execution.id, outcome=outcome)
    rest = continued(effect, life)
    loop = running_loop() if workflow.is_async else None
    if loop is not None:
        run.loop = loop
        run.task = loop.create_task(_settle_async(rest, outcome))
    else:
        drive_rest = (
            partial(asyncio.run, _settle_async(rest, outcome)) if workflow.is_async else partial(_settle, rest, outcome)
        )
        threading.Thread(
            target=contextvars.copy_context().run, args=(drive_rest,), name=f"durable-{run.id}", daemon=True
        ).start()
    return run


def open_life(life: Generator[Effect, Any, Any]) -> Execute:
    """Perform the effects of a run up to the point where its body begins; raises StopIteration if it is over already."""
    effect = next(life)
    while not isinstance(effect, Execute):
        effect = advance(life, effect)
    return effect


def continued(effect: Effect, life: Generator[Effect, Any, Any]) -> Generator[Effect, Any, Any]:
    """Go on with a life whose next effect is known."""
    try:
        while True:
            try:
                answer = yield effect
            except BaseException as error:
                effect = life.throw(error)
            else:
                effect = life.send(answer)
    except StopIteration as end:
        return end.value


def _settle(life: Generator[Effect, Any, Any], outcome: Future[Any]) -> None:
    try:
        value = drive(life)
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(value)


async def _settle_async(life: Generator[Effect, Any, Any], outcome: Future[Any]) -> None:
    try:
        value = await drive_async(life)
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(value)
