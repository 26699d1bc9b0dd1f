"""Whether and when a failed attempt is followed by another; the policy is tenacity's, the count is the journal's.

The policy objects of a `tenacity` controller are asked one by one, because the count of attempts has to survive a
crash and tenacity's own loop starts at one. When they give up, the last exception is raised (as with `reraise=True`).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from durable.steps.effects import Effect, Invoke
from durable.steps.multiplied_attempts import notice_client_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.declarations.definitions import TaskDefinition

_FIRST_PAUSE = 0.2  # seconds; doubled with each attempt
_LONGEST_PAUSE = 30.0


def pause_after(
    task: TaskDefinition,
    error: BaseException,
    tries: int,
    elapsed: float,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Generator[Effect, Any, float | None]:
    """Give the seconds to wait before the next attempt, or None when this was the last one.

    `tries` counts the failed attempts, this one included; `elapsed` are the seconds since the first began.
    """
    if not task.may_repeat:
        return None
    state = _state(task, tries, elapsed, args, kwargs)
    state.set_exception((type(error), error, error.__traceback__))
    if not (yield from _ask(state.retry_object.retry, state)):
        return None
    pause = yield from _pause(state)
    if pause is not None:
        notice_client_retries(task, error)
    return pause


def pause_after_result(
    task: TaskDefinition, value: Any, tries: int, elapsed: float, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Effect, Any, float | None]:
    """Do the same after a result, which `retry_if_result` may refuse; raises `tenacity.RetryError` after the last attempt."""
    import tenacity  # noqa: PLC0415 -- slow to import, needed for retries only

    state = _state(task, tries, elapsed, args, kwargs)
    state.set_result(value)
    if not (yield from _ask(state.retry_object.retry, state)):
        return None
    pause = yield from _pause(state)
    if pause is None:
        raise tenacity.RetryError(state.outcome)
    return pause


def _state(task: TaskDefinition, tries: int, elapsed: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import tenacity  # noqa: PLC0415 -- slow to import, needed for retries only

    controller = task.retry if task.retry is not None else _default_controller(task.attempts)
    state = tenacity.RetryCallState(controller, task.plain, args, kwargs)
    state.attempt_number = tries
    state.start_time -= elapsed
    return state


def _pause(state: Any) -> Generator[Effect, Any, float | None]:
    import tenacity  # noqa: PLC0415 -- slow to import, needed for retries only

    controller = state.retry_object
    if controller.after is not None:
        yield from _ask(controller.after, state)
    pause = float((yield from _ask(controller.wait, state)) if controller.wait is not None else 0.0)
    state.upcoming_sleep = pause
    if (yield from _ask(controller.stop, state)):
        return None
    state.next_action = tenacity.RetryAction(pause)
    state.idle_for += pause
    if controller.before_sleep is not None:
        yield from _ask(controller.before_sleep, state)
    return pause


def _default_controller(attempts: int) -> Any:
    import tenacity  # noqa: PLC0415 -- slow to import, needed for retries only

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(_FIRST_PAUSE, _LONGEST_PAUSE) + tenacity.wait_random(0, _FIRST_PAUSE),
    )


def _ask(policy: Callable[[Any], Any], state: Any) -> Generator[Effect, Any, Any]:
    answer = policy(state)
    if inspect.isawaitable(answer):
        answer = yield Invoke(lambda: answer)
    return answer
