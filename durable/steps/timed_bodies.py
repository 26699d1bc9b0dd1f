"""A sync body with a timeout runs in a thread of its own, which nobody can stop.

While it runs, no other body of the same step begins in this process. The end of its run waits for it a while only: a
thread that is stuck must not take the run's outcome along.
"""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.runs.execution import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.runs.execution import Body, Execution

_LEAST_PATIENCE, _MOST_PATIENCE = 1.0, 30.0  # seconds


class TimedBody(NamedTuple):
    """A body in a thread; `due` is the time of the monotonic clock at which nobody is patient any more."""

    thread: threading.Thread
    body: Body
    timeout: float
    due: float

    def wait(self, *, then: str) -> bool:
        """Wait for the body's end until it is due; warns and says False if it has not ended by then."""
        self.thread.join(max(0.0, self.due - time.monotonic()))
        if not self.thread.is_alive():
            return True
        run, step = self.body.execution.id, self.body.step_key
        warn_once(
            "stuck",
            f"{run}:{step}:{then}",
            f"Step {step!r} of run {run} was to end within {self.timeout:g} s and its body still runs: a thread cannot be "
            f"stopped. {then} Give what it waits for a timeout of its own.",
        )
        return False


def execute_in_thread(body: Body, call: Callable[[], Any], timeout: float) -> Any:
    """Execute a body for so many seconds at most; raises TimeoutError, and what the body raises."""
    execution = body.execution
    _await_earlier_bodies(body)
    outcome: list[Any] = []

    def execute() -> None:
        try:
            with body:
                outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(execute,), name=f"durable-{body.name}", daemon=True)
    patience = min(max(timeout, _LEAST_PATIENCE), _MOST_PATIENCE)
    execution.timed_bodies.append(TimedBody(thread, body, timeout, time.monotonic() + timeout + patience))
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise body.timed_out(timeout)
    succeeded, value = outcome[0]
    if succeeded:
        return value
    raise value


def _await_earlier_bodies(body: Body) -> None:
    """Wait for what an earlier execution of the run left running of the same step."""
    session = body.execution.session
    session.left_running = [timed for timed in session.left_running if timed.thread.is_alive()]
    for timed in session.left_running:
        if (timed.body.execution.id, timed.body.step_key) == (body.execution.id, body.step_key):
            await_for_good(timed)


def await_for_good(timed: TimedBody) -> None:
    """Wait for the end of a body, however long it takes."""
    if not timed.wait(then="The step is executed again when it has ended."):
        timed.thread.join()


def await_or_leave(timed: TimedBody) -> None:
    """Wait for the end of a body until it is due; then its run ends without it."""
    if not timed.wait(then="The run ends without it: what it does from now on is not recorded."):
        execution: Execution = timed.body.execution
        execution.timed_bodies.remove(timed)
        execution.forget_steps_below(timed.body)
        execution.session.left_running.append(timed)
