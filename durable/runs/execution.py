"""One execution of a run in this process: what its steps share, and the latch that ends it.

Once an execution is stopped every further task call of the run raises the same, so nothing that the user's code
swallows can make it go on.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import sys
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.concurrency.arrivals import Arrivals
from durable.concurrency.live_tasks import LiveTasks
from durable.configuration import PACKAGE
from durable.declarations import registry
from durable.errors import (
    DurableWarning,
    ExecutionStopped,
    LeaseLostError,
    RunCancelledError,
    RunEndedError,
    RunInProgressError,
    RunTimeoutError,
    StepInDoubtError,
)
from durable.identity.step_keys import Scope, idempotency_key
from durable.journal import Fence
from durable.options import ABSENT
from durable.steps.history import StepHistory
from durable.telling.notices import shell_command, waiting_way
from durable.telling.observers import doubt_event, notify, observers, replay_event, step_event
from durable.waiting.standby import Standby

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from weakref import ref

    from durable.concurrency.flow import Flow
    from durable.costs.ledgers import Ledger
    from durable.costs.savings import Tally
    from durable.declarations.definitions import WorkflowDefinition
    from durable.errors import DurableError
    from durable.options import OnDrift
    from durable.records import RunRecord, StepRecord
    from durable.runs.sessions import Session
    from durable.runs.states import RunState
    from durable.steps.attempts import Attempts
    from durable.steps.timed_bodies import TimedBody
    from durable.steps.verdicts import Past
    from durable.telling.observers import Event
    from durable.undoing.undoables import Undoable


class Execution:
    """State of one execution: the run as claimed, its journal, its past, and what is under way.

    `tick` numbers the next call or completion, `append` sends a step's record on its way to disk and gives its ticket.
    """

    def __init__(
        self,
        *,
        run: RunRecord,
        workflow: WorkflowDefinition,
        session: Session,
        past: Past,
        on_drift: OnDrift | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.run = run
        self.id = run.id
        self.workflow = workflow
        self.session = session
        self.journal = session.journal
        self.serializer = session.serializer
        self.anchor = session.anchor
        self.past = past
        self.on_drift: OnDrift | None = on_drift
        self.clock = clock
        self.fence = Fence(run.id, run.epoch, run.owner, self._lose)
        self.tick: Callable[[], int] = itertools.count(past.last_event + 1).__next__
        self.append: Callable[[StepRecord], int] = partial(self.journal.append, self.fence)
        self.lock = threading.Lock()
        self.arrivals = Arrivals(self)
        self.tasks = LiveTasks(self)
        self.timed_bodies: list[TimedBody] = []
        self.in_flight: dict[Attempts, Body] = {}
        self.standby = Standby(self)
        self.flow: Flow | None = None
        self.caller: Body | None = None
        self.ledger: Ledger | None = None
        self.undoables: dict[int, Undoable] = {}
        self.undoing: RunRecord | None = None
        self.streams: dict[Any, Any] = {}
        self.stopped: DurableError | None = None
        self.told_bodies: dict[Body, ExecutionStopped] = {}
        self.on_stop: Callable[[], None] | None = None
        self.ended = self.is_disowned = self.lacks_context = self.undone = False
        self.is_stored = not self.is_new
        self.executed = self.unsuccessful = self.failed = self.renewed = 0  # bodies, attempts, steps, recorded steps
        self.repeated = self.passed = 0  # attempts that another one followed; the event at the last checkpoint
        self.histories: dict[int, StepHistory] = {}
        self.tallies: list[Tally] = []
        self.replayed_failures: list[str] = []
        self.interrupted: list[int] = []
        self.code_seen: set[str] = set()
        self.anonymous_calls: dict[bytes, bytes] = {}
        self.objects: dict[bytes, tuple[ref[object], dict[str, bytes]]] = {}
        self.drifted: set[str] = set()
        self.reused: set[int] = set()
        self.taken_over: dict[tuple[str, str, bytes, int], StepRecord] = {}  # by the calls that did
        self.undoubted: set[tuple[str, str, str]] = set()
        self.state: RunState | None = None
        self.context: Any = ABSENT
        self.secrets: list[str] = []
        self.labels_elsewhere: list[str] = []
        self.root_task: asyncio.Task[Any] | None = None
        self.history = self.open_history(0, past.last_event)
        self.body = Body(self, None, Scope("", "", self.history), name=workflow.title)

    @property
    def is_new(self) -> bool:
        """Whether this is the first execution of the run."""
        return self.run.epoch == 1

    def open_history(self, parent: int, last: int) -> StepHistory:
        """Open what is recorded below a step up to the event `last`."""
        if not last:
            return NOTHING
        self.histories[parent] = StepHistory(self.journal.store, self.id, parent, last)
        return self.histories[parent]

    def tell(self, event: Event | None) -> None:
        """Tell observers of an event; what they call in turn is no part of the run."""
        if event is not None:
            token = FRAME.set(None)
            try:
                notify(event)
            finally:
                FRAME.reset(token)

    def tell_step(self, record: StepRecord) -> None:
        """Tell observers what a step's record says that was just written."""
        self.tell(step_event(self.run, record, self.serializer, self.clock()))

    def tell_replayed(self, record: StepRecord) -> None:
        """Tell observers that a recorded step gave what it gave."""
        self.tell(replay_event(self.run, record, self.clock()))

    def check(self) -> None:
        """Raise what stopped this execution, if anything did."""
        if self.stopped is not None:
            raise self.stop(self.stopped)
        if self.journal.failure is not None:
            raise self.stop(self.journal.failure)

    def stop(self, error: DurableError) -> ExecutionStopped:
        """Latch the execution; gives what leaves the code that called a step now."""
        self.latch(error)
        assert self.stopped is not None
        return self.told(ExecutionStopped(self.stopped))

    def told(self, end: ExecutionStopped, body: Body | None = None) -> ExecutionStopped:
        """Note that a body, or the running one, gets this, so that what it makes of it is not taken for its result."""
        frame = FRAME.get()
        body = frame.body if body is None and frame is not None else body
        if body is not None:
            self.told_bodies[body] = end
        return end

    def latch(self, error: DurableError) -> None:
        """Let no step begin any more, and end what waits; the first reason holds."""
        if self.stopped is None:
            self.stopped = error
            if observers and isinstance(error, StepInDoubtError):
                self.tell(doubt_event(self.run, error.step_key, self.clock()))
            if self.on_stop is not None:
                self.on_stop()
            self.standby.ring()

    def _lose(self) -> None:
        if self.journal.failure is not None:
            self.latch(self.journal.failure)
        elif self.is_new and not self.executed:
            message = f"Run {self.id} was started by another process at the same moment. {waiting_way(self.run)}"
            self.latch(RunInProgressError(message, self.id))
        elif not self.ended:
            message = (
                f"Run {self.id} was taken over by another process; this one writes nothing more. "
                f"Its result will be in the store: {shell_command('show', self.id)}"
            )
            self.latch(LeaseLostError(message, self.id))

    @property
    def is_cancelled(self) -> bool:
        """Whether it was stopped from outside, so that what runs is to be executed when the run is called again."""
        return isinstance(self.stopped, RunCancelledError | RunTimeoutError)

    def receive(self, wish: str) -> None:
        """Do what somebody asks for, in whichever thread: `cancel`, `pause` or `resume`; also in the runs called by it."""
        if wish == "cancel":
            message = f"Run {self.id} was cancelled. Call it again, or {shell_command('resume', self.id)}."
            self.latch(RunCancelledError(message, self.id))
        elif wish == ("resume" if self.standby.is_paused else "pause"):
            self.standby.set_paused(wish == "pause")
        else:
            return
        for other in list(self.session.active.values()):
            if other.run.parent_run == self.id:
                other.receive(wish)

    def inherit(self, outer: Execution) -> None:
        """Be paused or cancelled like the run that called this one."""
        if outer.standby.is_paused:
            self.receive("pause")
        if outer.is_cancelled:
            self.receive("cancel")

    def time_out(self, seconds: float) -> None:
        """Stop the execution because its time is over, and the runs called by it."""
        message = (
            f"Run {self.id} did not end within {seconds:g} s. What was running is executed when it is called again: "
            f"{shell_command('resume', self.id)}."
        )
        self.latch(RunTimeoutError(message, self.id))
        self.receive("cancel")

    def end_if_abandoned(self) -> None:
        """End an execution that can never go on: its event loop was closed in its middle, and with it all that it awaits."""
        task = self.root_task
        if task is not None and not task.done() and task.get_loop().is_closed():
            task.get_coro().close()

    def disown(self) -> None:
        """In a forked child: this is the parent's, whose threads and steps in flight do not exist here."""
        self.is_disowned = True
        self.ended = True
        self.timed_bodies.clear()
        self.in_flight.clear()

    def timed_bodies_below(self, body: Body) -> list[TimedBody]:
        """List the bodies below this one that run in threads of their own."""
        self.timed_bodies = [timed for timed in self.timed_bodies if timed.thread.is_alive()]
        return [timed for timed in self.timed_bodies if timed.body.is_below(body)]

    def forget_steps_below(self, body: Body) -> None:
        """Wait no longer for steps that were called in a body or below it."""
        for step in [step for step, owner in list(self.in_flight.items()) if owner.is_below(body)]:
            self.in_flight.pop(step, None)

    def has_steps_below(self, body: Body) -> bool:
        """Whether a step that was called in a body or below it is in flight, in whichever thread."""
        return any(owner.is_below(body) for owner in list(self.in_flight.values()))

    def calls_in_flight(self) -> list[str]:
        """Name the calls whose steps are in flight."""
        return sorted(step.call.label for step in list(self.in_flight))

    def is_gone(self, label: str) -> bool:
        """Whether nothing of this program goes by a recorded label any more."""
        return registry.is_gone(label, self.anchor)


class Body:
    """A function of the user under execution: the workflow itself, with `seq` 0, or one attempt of a step."""

    __slots__ = ("_token", "attempt", "closed", "execution", "name", "outer", "record", "scope", "seq", "step_key")

    def __init__(
        self,
        execution: Execution,
        outer: Body | None,
        scope: Scope,
        name: str,
        record: StepRecord | None = None,
        step_key: str = "",
        attempt: int = 1,
    ) -> None:
        self.execution = execution
        self.outer = outer
        self.scope = scope
        self.name = name
        self.record = record
        self.seq = record.seq if record is not None else 0
        self.step_key = step_key
        self.attempt = attempt
        self.closed: str | None = None

    @property
    def idempotency_key(self) -> str:
        """The step's idempotency key, empty for the workflow itself."""
        return idempotency_key(self.record) if self.record is not None else ""

    def __enter__(self) -> None:
        self._token = FRAME.set(Frame(self, self.scope))

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105 -- `suppress` costs three calls on every step
            FRAME.reset(self._token)
        except ValueError:  # a coroutine that is closed from another context never stood here
            pass

    def is_below(self, body: Body) -> bool:
        """Whether this body is the given one or was started in it."""
        current: Body | None = self
        while current is not None:
            if current is body:
                return True
            current = current.outer
        return False

    def timed_out(self, seconds: float) -> TimeoutError:
        """Close the body to further calls and give the exception that its caller gets."""
        self.closed = f"it had timed out after {seconds:g} s"
        return TimeoutError(f"Step {self.step_key!r} of run {self.execution.id} did not end within {seconds:g} s.")

    def check(self) -> None:
        """Raise if calls from this body are no longer taken."""
        execution = self.execution
        if execution.ended:
            raise RunEndedError(
                f"Run {execution.id} has ended; a task of it was called afterwards and was not executed. Await or join "
                f"everything that the workflow starts.",
                execution.id,
            )
        execution.check()
        if execution.interrupted and (execution.root_task is None or not execution.root_task.cancelling()):
            execution.interrupted.clear()
        body: Body | None = self
        while body is not None:
            if body.closed is not None:
                raise RunEndedError(
                    f"A task was called in step {body.step_key!r} of run {self.execution.id} when {body.closed}; it was "
                    f"not executed.",
                    self.execution.id,
                )
            body = body.outer


class Frame:
    """Where the running code stands: in which body, and in which scope of it."""

    __slots__ = ("body", "scope")

    def __init__(self, body: Body, scope: Scope) -> None:
        self.body = body
        self.scope = scope


NOTHING = StepHistory(None, "", 0, 0)

FRAME: contextvars.ContextVar[Frame | None] = contextvars.ContextVar("durable_frame", default=None)


def leave(token: contextvars.Token[Frame | None]) -> None:
    """Stand again where the code stood before; a coroutine that is closed from another context never stood there."""
    try:
        FRAME.reset(token)
    except ValueError:
        return


_warned: set[tuple[str, str]] = set()


def warn_once(kind: str, subject: str, message: str) -> None:
    """Warn of something once per subject in this process."""
    if (kind, subject) not in _warned:
        _warned.add((kind, subject))
        warnings.warn(message, DurableWarning, stacklevel=_depth_of_user_code())


def _depth_of_user_code() -> int:
    frame, depth = sys._getframe(1), 1  # noqa: SLF001 -- the documented way to find the caller
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]  # None ends the loop
    return depth


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(FRAME.set, None))
