"""One submitted task: its step, what it waits for, and how it ended.

Its step key is fixed when it is submitted. A dependency counts there as the step that it is the result of, so the key
does not wait for the result.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.concurrency.futures import TaskFuture
from durable.concurrency.loops import run_in_loop
from durable.concurrency.submitted_steps import StepReference, SubmittedStep
from durable.errors import (
    ConfigurationError,
    ExecutionStopped,
    RunEndedError,
    UpstreamFailedError,
    WouldDeadlockError,
)
from durable.identity.step_keys import join
from durable.records import StepStatus
from durable.runs.execution import NOTHING
from durable.steps.awaitables import running_loop, wake
from durable.steps.effects import Arrival, Durable, Execute, Quiet, Sleep, carried, uncarried
from durable.steps.plain_steps import PlainLife

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.concurrency.flow import Flow
    from durable.concurrency.places import Group
    from durable.identity.calls import Call
    from durable.runs.execution import Body
    from durable.steps.effects import Effect
    from durable.steps.matching import Match

_DURABLE = (Durable, PlainLife)  # effects that wait for a record
_BEFORE_THE_END = (Execute, Sleep, Quiet)  # effects at which the completion of a step is not numbered yet

RUNNING: contextvars.ContextVar[Submission | None] = contextvars.ContextVar("durable_submission", default=None)


class Needs:
    """What a submission waits for: those whose `results` are its arguments, which `resolve` puts in, and others before it.

    `missing` counts those of them that are not settled.
    """

    __slots__ = ("after", "missing", "resolve", "results")

    def __init__(
        self,
        results: tuple[Submission, ...],
        after: tuple[Submission, ...],
        resolve: Callable[[], Call] | None = None,
    ) -> None:
        self.results = results
        self.after = after
        self.resolve = resolve
        self.missing = 0


class Submission:
    """A task on its way: waits for its dependencies, then for a free place, then its body is executed."""

    __slots__ = (
        "_step",
        "callbacks",
        "context",
        "culprit",
        "dependants",
        "effect",
        "error",
        "flow",
        "function",
        "group",
        "has_slot",
        "is_ending",
        "is_looked_at",
        "is_settled",
        "is_taken",
        "life",
        "loop",
        "match",
        "needs",
        "number",
        "order",
        "place",
        "seq",
        "value",
        "waits",
        "was_written",
    )

    def __init__(
        self,
        flow: Flow,
        match: Match,
        function: Callable[..., Any],
        context: contextvars.Context,
        loop: asyncio.AbstractEventLoop | None,
        group: Group | None,
        needs: Needs | None,
    ) -> None:
        """`context` is copied where the body begins; `loop` is None for threads.

        `number` of its completion, `seq` of its record (None and 0 if there are none) and whether this execution wrote it are
        known when it has ended.
        """
        self.flow = flow
        self.match = match
        self.function = function
        self.order: int = flow.next_order()
        self.context = context
        self.loop = loop
        self.group = group
        self.needs = needs
        self.dependants: list[Submission] | None = None
        self.callbacks: list[Callable[[Submission], object]] | None = None
        self._step: SubmittedStep | None = None
        self.life: Generator[Effect, Any, Any] | PlainLife | None = None
        self.effect: Effect | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.culprit: Submission | None = None
        self.number: int | None = None
        self.seq = 0
        self.place: Group | None = None
        self.waits = 0
        self.is_taken = self.is_settled = self.is_looked_at = self.is_ending = self.has_slot = False
        self.was_written = False

    @property
    def body(self) -> Body:
        """The body that submitted it."""
        return self.match.frame.body

    @property
    def step(self) -> SubmittedStep:
        """What decides whether it is executed or replayed, made where it is asked for: a new plain step needs none."""
        if self._step is None:
            depends_on_results = self.needs is not None and bool(self.needs.results)
            self._step = SubmittedStep(self.match, self.function, depends_on_results=depends_on_results)
        return self._step

    @property
    def key(self) -> str:
        """The step key."""
        match = self.match
        label = match.call.label if match.occurrence == 1 else f"{match.call.label}~{match.occurrence}"
        return join(match.scope.container, match.scope.branch, label)

    @property
    def reference(self) -> StepReference:
        """What stands for its result in the keys of others."""
        match = self.match
        return StepReference(match.scope.container, match.call.content, match.occurrence, self.key)

    @property
    def was_skipped(self) -> bool:
        """Whether it was not executed because another one failed, its culprit."""
        return self.culprit is not None

    @property
    def state(self) -> str:
        """Say in a word how far it is."""
        if not self.is_settled:
            return "running" if self.is_taken else "waiting"
        if self.was_skipped:
            return "skipped"
        return "succeeded" if self.error is None else "failed"

    @property
    def has_outcome(self) -> bool:
        """Whether it ended by itself: neither stopped nor given up with the execution."""
        return not isinstance(self.error, ExecutionStopped | RunEndedError)

    def look(self) -> None:
        """Note that the user's code got the outcome; with that of a skipped one it got its culprit's."""
        self.is_looked_at = True
        self.show()
        if self.culprit is not None:
            self.culprit.is_looked_at = True

    def show(self) -> None:
        """Let the user's code see what it changed in the state of the run, now that it can know that it has ended."""
        state = self.flow.execution.state
        if state is not None and self.number is not None:
            state.catch_up(self.body, self.number)

    def call_when_settled(self, callback: Callable[[Submission], object]) -> None:
        """Call this when it is settled, at once if it is."""
        if not self.flow.add_callback(self, callback):
            callback(self)

    def wait(self, timeout: float | None = None) -> None:
        """Block until it is settled; raises TimeoutError and WouldDeadlockError."""
        if self.is_settled:
            return
        if RUNNING.get() is self or (self.loop is not None and running_loop() is self.loop):
            raise WouldDeadlockError(
                f"Step {self.key!r} of run {self.flow.execution.id} would never end: it is waited for by itself, or by the "
                f"thread of the event loop that executes it. In async code, await the future."
            )
        settled = threading.Lock()
        settled.acquire()
        self.call_when_settled(lambda _: settled.release())
        self.flow.block(partial(settled.acquire, timeout=-1 if timeout is None else max(timeout, 0)))
        if not self.is_settled:
            raise TimeoutError(f"Step {self.key!r} of run {self.flow.execution.id} did not end within {timeout:g} s.")

    async def settled(self) -> None:
        """Wait until it is settled without blocking the event loop."""
        if self.is_settled:
            return
        if RUNNING.get() is self and asyncio.current_task() is self.flow.tasks.get(self):
            raise WouldDeadlockError(f"Step {self.key!r} of run {self.flow.execution.id} waits for itself.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self.call_when_settled(lambda _: wake(loop, _set, future))
        await self.flow.pause(future)

    def prepare(self) -> bool:
        """Take the results of the dependencies; True if it is over without executing anything: replayed or skipped."""
        try:
            obstacle = self._obstacle()
            if obstacle is not None and not self.step.is_replayed:
                self._skip(obstacle)
                return True
            if obstacle is None and self.needs is not None and self.needs.resolve is not None:
                self.match.call = self.needs.resolve()
                self.needs.resolve = None
            if self.match.record is not None and self.step.is_replayed:
                self.life = self.step.life()
                self.effect = next(self.life)
                while isinstance(self.effect, Arrival):
                    self.effect = self.life.send(None)
        except StopIteration as end:
            self.end(end.value, None)
        except BaseException as error:
            self.end(None, error)
        else:
            return False
        return True

    def _obstacle(self) -> Submission | None:
        """Find the dependency because of which it is not executed."""
        if self.needs is None:
            return None
        everything = (*self.needs.results, *self.needs.after)
        required = everything if self.match.task.when == "succeeded" else self.needs.results
        for each in everything:
            if not each.has_outcome:
                assert each.error is not None
                raise each.error
        return next((each for each in required if each.error is not None), None)

    def _skip(self, obstacle: Submission) -> None:
        culprit = obstacle.culprit or obstacle
        record = self.match.record
        error = UpstreamFailedError(
            f"Step {self.key!r} of run {self.flow.execution.id} was skipped: it depends on step {culprit.key!r}, which "
            f"failed with {type(culprit.error).__name__}: {culprit.error}",
            self.flow.execution.id,
            self.key,
            culprit.key,
        )
        error.__cause__ = culprit.error
        self.culprit = culprit
        self.is_ending = True
        self.flow.under_way.add(self)
        stands = record is not None and record.status == StepStatus.SKIPPED and not culprit.was_written
        if not stands:
            self.step.skip(error)
        self.end(None, error)

    def begin(self) -> bool:
        """Go up to the first effect; False if it is over already."""
        if self.effect is not None:
            return True
        self.is_ending = True
        try:
            self.flow.execution.check()
            match = self.match
            is_new = match.record is None and match.execution.history is NOTHING and match.scope.history is NOTHING
            self.life = PlainLife(match, self.function) if is_new and match.task.is_plain else self.step.life()
            self.effect = next(self.life)
        except StopIteration as end:
            self.end(end.value, None)
            return False
        except BaseException as error:
            self.end(None, error)
            return False
        self.is_ending = False
        return True

    @property
    def ticket(self) -> int:
        """Number of the record that has to be durable before it goes on, 0 if there is none."""
        return self.effect.ticket if isinstance(self.effect, _DURABLE) else 0

    def drive(self) -> None:
        """Perform the effects of its life one after the other, blocking."""
        RUNNING.set(self)
        if self.match.task.is_async:
            run_in_loop(self.drive_async())  # a sync workflow has none
            return
        while (effect := self.effect) is not None:
            try:
                answer, error = effect.act(), None
            except BaseException as raised:
                answer, error = None, raised
            self._go_on(answer, error)
        self.flow.settle(self, goes_on=True)

    async def drive_async(self) -> None:
        """Perform the effects of its life one after the other, awaiting."""
        RUNNING.set(self)
        if not self.begin():
            self.flow.settle(self)
            return
        while (effect := self.effect) is not None:
            try:
                answer, error = await effect.act_async(), None
            except BaseException as raised:
                answer, error = None, raised
            self._go_on(answer, error)
        self.flow.settle(self)
        if isinstance(self.error, KeyboardInterrupt | SystemExit):
            raise self.error

    def _go_on(self, answer: Any, error: BaseException | None) -> None:
        life = self.life
        assert life is not None
        self.is_ending = True
        try:
            if error is not None:
                self.effect = effect = life.throw(carried(error))
            elif isinstance(life, PlainLife) and life.ends_with(answer):
                self.end(answer, None)
                return
            else:
                self.effect = effect = life.send(answer)
        except StopIteration as end:
            self.end(end.value, None)
        except BaseException as raised:
            self.end(None, uncarried(raised))
        else:
            self.is_ending = not isinstance(effect, _BEFORE_THE_END)

    def end(self, value: Any, error: BaseException | None) -> None:
        """Note the outcome; `Flow.settle` makes it known."""
        self.value, self.error = value, error
        step = self._step
        written: Any = self.life if step is None else step.attempts  # without a step there is a plain life, or none yet
        self.life = self.effect = self._step = None  # of thousands, what was written last would be held
        self.was_written = written is not None
        record = self.match.record if written is None else written.record
        if record is not None:
            self.number, self.seq = record.done, record.seq


def submission_of(future: object, what: str) -> Submission:
    """Give what stands behind a future; `ConfigurationError` for anything else."""
    if not isinstance(future, TaskFuture):
        raise ConfigurationError(f"{what} take futures of submit(...), not {future!r}.")
    return future._submission  # noqa: SLF001 -- a future shows users nothing of it


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
