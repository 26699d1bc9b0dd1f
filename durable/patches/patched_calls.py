"""A call of a patched function inside a run is one step, whatever other patched functions it calls to do its work."""

from __future__ import annotations

import inspect
import sys
from functools import partial, wraps
from inspect import iscoroutine, iscoroutinefunction, isfunction
from types import MethodType
from typing import TYPE_CHECKING, Any

import wrapt

from durable.patches.action_steps import STEP_OF, call_action, is_action
from durable.patches.credentials import scrub, secrets_of
from durable.runs.execution import FRAME, warn_once
from durable.runs.sessions import has_active_runs
from durable.steps.failures import mark
from durable.steps.outside import IN_THREADS, frame_here, notebook_here

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable.patches.actions import Action


def patched_function(describe: Callable[..., Any], function: Any, *, is_method: bool) -> Any:
    """Make what takes the place of a function: a plain one where that was one, since a proxy costs each call more."""
    if not isfunction(function):
        return wrapt.FunctionWrapper(function, partial(_call, describe))

    @wraps(function)
    def patched(*args: Any, **kwargs: Any) -> Any:
        if FRAME.get() is None and not has_active_runs() and notebook_here() is None:
            return function(*args, **kwargs)
        if is_method and args:
            return _call(describe, MethodType(function, args[0]), args[0], args[1:], kwargs)
        return _call(describe, function, None, args, kwargs)

    if sys.version_info >= (3, 12) and iscoroutinefunction(function):
        inspect.markcoroutinefunction(patched)
    return patched


def _call(
    describe: Callable[..., Any],
    function: Callable[..., Any],
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a patched function: a step inside a run, what it was outside and in the body of another patched call."""
    frame = FRAME.get() or frame_here()
    if frame is None:
        if has_active_runs():
            _warn(describe(function, instance, args, kwargs))
        return function(*args, **kwargs)
    if is_action(frame.body):
        return function(*args, **kwargs)
    action = describe(function, instance, args, kwargs)
    if action is None:
        return function(*args, **kwargs)
    if iscoroutine(action):
        return _described(action, function, args, kwargs)
    return call_action(action, frame)


async def _described(
    action: Awaitable[Action | None], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    found, frame = await action, FRAME.get() or frame_here()
    if found is None or frame is None:
        return await function(*args, **kwargs)
    return await call_action(found, frame)


def _warn(action: Any) -> None:
    """Say that a call that must not be repeated, or costs money, is not recorded; reading it must not be waited for."""
    if iscoroutine(action):
        action.close()
        return
    if action is not None and (action.is_kept or not action.idempotent):
        warn_once(
            "outside",
            action.task,
            f"{action.task!r} was called from a thread or process that carries no run context while a run is active: it is "
            f"executed as a plain call and nothing is recorded, so it is made again when the program is. {IN_THREADS}",
        )


def shared_failure(function: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of a response: what it raises counts as raised by the step that gave it."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if (step := getattr(instance, STEP_OF, None)) is not None:
            mark(error, *step)
            scrub(error, secrets_of(str(instance.url)))
        raise
