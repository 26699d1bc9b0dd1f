"""A notebook's run as its kernel owns it: calls go in, equal ones once, and records are kept at hand."""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from durable.concurrency.branches import scoped_tasks
from durable.concurrency.consumers import items_of, items_of_async
from durable.concurrency.streams import Stream
from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
from durable.errors import DurableError, ExecutionStopped, StoreError
from durable.identity.namesakes import refuse_other_object
from durable.identity.run_calls import RunCall
from durable.notebooks.flights import Flights
from durable.notebooks.former import Place
from durable.notebooks.memory import ENDED_BADLY, Memory, MemoryScope
from durable.records import ENDED, RunStatus, StepFlag, StepStatus
from durable.runs.execution import Frame, warn_once
from durable.runs.runs import run_life
from durable.steps.effects import drive, drive_async
from durable.steps.engine import continued, open_life
from durable.steps.matching import Match
from durable.steps.steps import Step
from durable.telling.notices import NOTEBOOK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator

    from durable.identity.calls import Call
    from durable.identity.step_keys import Scope
    from durable.records import StepRecord
    from durable.runs.execution import Execution
    from durable.steps.effects import Effect

_scopes: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("durable_notebook_scopes", default=())


@contextlib.contextmanager
def named_scope(name: str) -> Iterator[None]:
    """Tell calls in the block from equal ones elsewhere."""
    token = _scopes.set((*_scopes.get(), name))
    try:
        yield
    finally:
        _scopes.reset(token)


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened to a call of a cell."""

    kind: Literal["called", "executed", "ended"]
    key: str


class OpenRun:
    """A run that this kernel owns."""

    def __init__(
        self, run_id: str, observe: Callable[[Observation], None], place: Place, *, fresh: bool | None
    ) -> None:
        definition = _DEFINITION.with_options(run_id=run_id, fresh=fresh)
        call = RunCall(definition, None, (), {})
        self.session = call.session
        self._call = call
        self._observe = observe
        self._life: Generator[Effect, Any, Any] = run_life(call, _nothing)
        self._effect = open_life(self._life)
        self.execution: Execution = self._effect.body.execution
        self.execution.past.progressed = True  # somebody who restarts a kernel is no crash loop
        self._memory = Memory(self.execution)
        self._root = MemoryScope(self._memory)
        self.execution.history = self._memory
        self.execution.body.scope = self._root
        self._append = self.execution.append
        self.execution.append = self._note
        self._flights = Flights()
        self.doubts: dict[int, StepRecord] = {}
        self.called: set[tuple[str, bytes]] = set()
        if Place.of(self.execution.run) != place:
            self.execution.run = replace(self.execution.run, entry=place.entry(self.execution.run))
            self.session.journal.append(self.execution.fence, self.execution.run)
            self.session.journal.flush_all()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is recorded."""
        return self._memory.is_empty

    @property
    def is_busy(self) -> bool:
        """Whether something of it is under way."""
        execution = self.execution
        return bool(execution.in_flight or (execution.flow is not None and execution.flow.unsettled(execution.body)))

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be recorded here."""
        return self.execution.ended or self.execution.run.id not in self.session.active

    def begin_cell(self) -> None:
        """Forget what counts for the length of a cell."""
        self.execution.code_seen.clear()  # functions may have been edited
        self.called.clear()
        self._memory.made.clear()

    def call(self, call: Call, function: Callable[..., Any], *, is_cell: bool = False) -> Any:
        """Call a task, unless an equal call gives its result."""
        frame, key = self._frame(call)
        try:
            with self._flights.alone(key):
                if (under_way := frame.scope.under_way(call.content)) is not None:
                    under_way.wait()
                self._check_call(call, key, is_cell=is_cell)
                with self._observed(call, key):
                    return drive(self._step(call, function, frame).life())
        except ExecutionStopped as stopped:
            raise stopped.error from None

    def call_async(self, call: Call, function: Callable[..., Any], *, is_cell: bool = False) -> Any:
        """Give the coroutine that does what `call` does."""
        coroutine: Any = self._call_async(call, function, *self._frame(call), is_cell=is_cell)
        coroutine.__qualname__ = call.task.qualname
        return coroutine

    async def _call_async(
        self, call: Call, function: Callable[..., Any], frame: Frame, key: tuple[str, bytes], *, is_cell: bool
    ) -> Any:
        try:
            async with self._flights.alone_async(key):
                if (under_way := frame.scope.under_way(call.content)) is not None:
                    await under_way.settled()
                self._check_call(call, key, is_cell=is_cell)
                with self._observed(call, key), scoped_tasks():
                    return await drive_async(self._step(call, function, frame).life())
        except ExecutionStopped as stopped:
            raise stopped.error from None

    @property
    def replayed(self) -> set[int]:
        """Numbers of the recorded steps that calls of this kernel have found."""
        return self._memory.taken

    def check(self) -> None:
        """Raise what stopped the execution, if anything did."""
        if self.execution.stopped is not None:
            raise self.execution.stopped

    def recorded(self, call: Call) -> StepRecord | None:
        """Give the record of a call if it succeeded."""
        _, (container, content) = self._frame(call)
        record = self._memory.known(container, content)
        if record is None or record.status != StepStatus.SUCCEEDED:
            return None
        return self._memory.whole(record)

    def set_aside(self, records: Iterable[StepRecord]) -> None:
        """Let calls with these records be executed when they are made again, as next occurrences."""
        execution = self.execution
        for record in records:
            flags = record.flags & ~(StepFlag.REOPENED | StepFlag.STATE | StepFlag.VALUE_UNAVAILABLE)
            done = execution.tick()
            changed = record._replace(
                status=StepStatus.UNDONE, flags=flags, epoch=execution.run.epoch, done=done, value=None
            )
            self._note(changed)
        self.session.journal.flush_all()

    def items(self, call: Call, function: Callable[..., Any]) -> Any:
        """Give the items of a task that is a generator."""
        self.session.journal.flush_all()  # recorded items are read from the store
        match = self._match(call, self.frame())
        stream = Stream(match, function)
        is_async = match.task.is_async_generator
        return _unwrapped_async(items_of_async(stream)) if is_async else _unwrapped(items_of(stream))

    def frame(self) -> Frame:
        """Give the place that cells call from."""
        scope: Scope = self._root
        for name in _scopes.get():
            scope = scope.named(name)
        return Frame(self.execution.body, scope)

    def _frame(self, call: Call) -> tuple[Frame, tuple[str, bytes]]:
        frame = self.frame()
        return frame, (frame.scope.container, call.content)

    def _match(self, call: Call, frame: Frame) -> Match:
        assert isinstance(call.task, TaskDefinition)
        match = Match(call.task, call, frame)
        if call.instance is not None:
            refuse_other_object(self.execution, match.task, call, match.record)
        return match

    def _step(self, call: Call, function: Callable[..., Any], frame: Frame) -> Step:
        return Step(self._match(call, frame), function)

    def _check_call(self, call: Call, key: tuple[str, bytes], *, is_cell: bool) -> None:
        """Raise what stopped the run, and say that a call is equal to an earlier one of its cell."""
        self.execution.body.check()
        task = call.task
        if key in self.called and not is_cell:
            warn_once(
                "equal",
                f"{self.execution.id}:{task.label}",
                f"Task {task.full_name!r} was called with equal arguments more than once in a cell. In a notebook that is one "
                f"call: the others get its result. To make it a call of its own, pass an argument that differs, or call it in "
                f"`with durable.scope(name)`.",
            )

    @contextlib.contextmanager
    def _observed(self, call: Call, key: tuple[str, bytes]) -> Iterator[None]:
        self._observe(Observation("called", call.label))
        try:
            yield
            self.called.add(key)
        finally:
            self._observe(Observation("ended", call.label))

    def _note(self, record: StepRecord) -> int:
        if record.flags & StepFlag.NOT_IDEMPOTENT:
            if record.status in ENDED_BADLY and not record.flags & StepFlag.NO_EFFECT:
                self.doubts[record.seq] = record
            else:
                self.doubts.pop(record.seq, None)
        ticket = self._append(record)
        if not record.parent:
            self._memory.note(record)
            if record.status in ENDED:
                self._observe(Observation("executed", record.label))
        return ticket

    def close(self) -> None:
        """End the run's execution; what stopped it was raised before."""
        with contextlib.suppress(DurableError):
            try:
                effect = self._life.send(None)
            except StopIteration:
                return
            drive(continued(effect, self._life))

    def release(self) -> None:
        """Give the run back as paused, without an end of its own."""
        execution = self.execution
        execution.standby.end()
        run = replace(execution.run, status=RunStatus.PAUSED, owner="", updated_at=execution.clock())
        execution.ended = True
        self._call.execution = None  # or the life would record an end of its own when it is closed
        self.session.active.pop(execution.run.id, None)
        with contextlib.suppress(StoreError):
            self.session.journal.append(execution.fence, run)
            self.session.journal.flush_all()


def _unwrapped(items: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Give the same items; what stops the run is an error for the cell."""
    try:
        return (yield from items)
    except ExecutionStopped as stopped:
        raise stopped.error from None


async def _unwrapped_async(items: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    try:
        async with contextlib.aclosing(items):
            async for item in items:
                yield item
    except ExecutionStopped as stopped:
        raise stopped.error from None


def _cells() -> None: ...


def _nothing() -> None: ...


_DEFINITION = WorkflowDefinition(function=_cells, name=NOTEBOOK, is_block=True, on_code_change="rerun")
