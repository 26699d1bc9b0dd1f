"""The run of the notebook that this process is the kernel of.

It is claimed at the first call of a task and held while the kernel lives, so that no second kernel executes anything of
it. It is given back where somebody has to decide a doubt, and at the kernel's end.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import shlex
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable import sessions
from durable.branches import scoped_tasks
from durable.calls import Call
from durable.consumers import items_of, items_of_async
from durable.definitions import TaskDefinition, WorkflowDefinition
from durable.doubts import describe_doubt, in_doubt
from durable.effects import drive, drive_async
from durable.engine import continued, open_life
from durable.errors import (
    ConfigurationError,
    DurableError,
    ExecutionStopped,
    RunInProgressError,
    StepInDoubtError,
    StoreError,
)
from durable.execution import Frame, warn_once
from durable.handles import Run
from durable.matching import Match
from durable.namesakes import refuse_other_object
from durable.naming import home, set_notebook_path
from durable.notebooks.flights import Flights
from durable.notebooks.memory import Memory, MemoryScope
from durable.notebooks.saying import say
from durable.notices import NOTEBOOK, age
from durable.records import RunStatus, StepFlag, StepStatus
from durable.run_calls import RunCall
from durable.runs import run_life
from durable.steps import Step
from durable.streams import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator

    from durable.effects import Effect
    from durable.execution import Execution
    from durable.notebooks.names import Name
    from durable.records import RunRecord, StepRecord
    from durable.step_keys import Scope

_ENDED_BADLY = (StepStatus.FAILED, StepStatus.CANCELLED)
_EXECUTED = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED)
_SHOWN_DOUBTS = 3
_scopes: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("durable_notebook_scopes", default=())


class Kernel:
    """Takes the calls that cells make, and keeps the notebook's run."""

    def __init__(self, find_name: Callable[[], Name]) -> None:
        self.observe: Callable[[Observation], None] = lambda _: None
        self.find_name = find_name
        self.name: Name | None = None
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._opening = threading.Lock()
        self._open: OpenRun | None = None

    def is_here(self) -> bool:
        """Whether code without a run context is that of a cell: in its thread, or in one of its own while no run executes."""
        if os.getpid() != self._pid:
            return False
        return threading.get_ident() == self._thread or not self._other_runs()

    def _other_runs(self) -> bool:
        opened = self._open
        if opened is None:
            return bool(sessions.defaults_of_active_runs())
        return len(opened.session.active) > (not opened.execution.ended)

    def call(
        self,
        task: TaskDefinition,
        function: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a task as a step of the notebook's run; an equal call of it gives the same result."""
        opened = self.opened()
        opened.check()
        task = task.at(opened.execution.anchor)
        call = Call(task, instance, args, kwargs)
        if task.is_generator:
            return opened.items(call, function)
        return opened.call_async(call, function) if task.is_async else opened.call(call, function)

    def frame(self) -> Frame:
        """Give the place that cells call from."""
        opened = self.opened()
        opened.check()
        return opened.frame()

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Tell calls in the block from equal ones elsewhere."""
        token = _scopes.set((*_scopes.get(), name))
        try:
            yield
        finally:
            _scopes.reset(token)

    def begin_cell(self) -> None:
        """Note that a cell begins."""
        self._thread = threading.get_ident()
        if self._open is not None:
            self._open.execution.code_seen.clear()  # functions may have been edited
            self._open.called.clear()

    def end_cell(self) -> None:
        """Give the run back if something is in doubt, so that it can be decided, and say what."""
        opened = self._open
        if opened is None or opened.is_busy:
            return
        doubts = list(opened.doubts.values())
        if doubts:
            _tell_doubts(doubts, opened.execution.run)
        if opened.execution.stopped is None and doubts:
            opened.execution.stop(in_doubt(doubts[0], opened.execution.run))
        if isinstance(opened.execution.stopped, StepInDoubtError):
            key = shlex.quote(opened.execution.stopped.step_key)
            say(f"to decide it in a cell: %durable resolve {key} --happened JSON, or --did-not-happen")
        if opened.execution.stopped is not None:
            self.close()

    def start(self, name: Name) -> Run:
        """Go on with the run of this name; raises `RunInProgressError` if another kernel has it."""
        self.release()
        self.name = name
        return self.run()

    def fresh(self) -> Run:
        """Begin a new run of the notebook; an unfinished one is superseded."""
        self.release()
        self.opened(fresh=True)
        return self.run()

    def finish(self) -> Run:
        """End the run: it has succeeded. Calls that follow go on with it."""
        run = self.run()
        self.close()
        return run

    def run(self) -> Run:
        """Give the notebook's run."""
        opened = self.opened()
        opened.session.journal.flush_all()
        return Run(opened.session, opened.execution.id)

    def opened(self, *, fresh: bool = False) -> OpenRun:
        """Give the run as it is open here, claimed if need be."""
        opened = self._open
        if opened is not None and not opened.is_lost:
            return opened
        with self._opening:
            if self._open is None or self._open.is_lost:
                self._open = self._claim(fresh=fresh)
            return self._open

    def _claim(self, *, fresh: bool) -> OpenRun:
        name = self.name if self.name is not None else self.find_name()
        session = sessions.current()
        set_notebook_path(name.path)
        run_id = name.run_id(home(session.anchor))
        known = session.store.load_run(run_id)
        if known is not None and known.workflow != NOTEBOOK:
            raise ConfigurationError(
                f"{run_id!r} is the run of {known.workflow!r} and not of a notebook. Nothing was executed. Choose another "
                f"name: %durable start NAME"
            )
        try:
            opened = OpenRun(run_id, self, fresh=fresh)
        except RunInProgressError as error:
            raise _in_another_kernel(name, session.store.load_run(error.run_id), error) from None
        self.name = name
        return opened

    def close(self) -> None:
        """End the run: succeeded, or stopped by what stopped it."""
        opened, self._open = self._open, None
        if opened is not None and not opened.is_lost:
            opened.close()

    def release(self) -> None:
        """Give the run back as it is; whoever goes on with it finds it paused."""
        opened, self._open = self._open, None
        if opened is not None and not opened.is_lost:
            opened.release()


class Observation:
    """What happened to a call of a cell: `called`, `executed` when its body has ended, or `ended`."""

    __slots__ = ("key", "kind")

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key


class OpenRun:
    """A run that this kernel owns."""

    def __init__(self, run_id: str, kernel: Kernel, *, fresh: bool) -> None:
        definition = _DEFINITION.with_options(run_id=run_id, **({"fresh": True} if fresh else {}))
        call = RunCall(definition, None, (), {})
        self.session = call.session
        self._call = call
        self._kernel = kernel
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
        if self.execution.is_new:
            self.session.journal.flush_all()

    @property
    def is_busy(self) -> bool:
        """Whether something of it is under way."""
        execution = self.execution
        return bool(execution.in_flight or (execution.flow is not None and execution.flow.unsettled(execution.body)))

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be recorded here: the run has ended, or was taken over, or the store failed."""
        execution = self.execution
        return execution.ended or execution.journal.failure is not None or execution.run.id not in self.session.active

    def call(self, call: Call, function: Callable[..., Any], *, is_cell: bool = False) -> Any:
        """Call a task, unless an equal call gives its result."""
        frame, key = self._frame(call)
        try:
            with self._flights.alone(key):
                if (under_way := frame.scope.under_way(call.content)) is not None:
                    under_way.wait()
                self.execution.body.check()
                self._begin(call, key, is_cell=is_cell)
                try:
                    return drive(self._step(call, function, frame).life())
                finally:
                    self._end(call)
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
                self.execution.body.check()
                self._begin(call, key, is_cell=is_cell)
                try:
                    with scoped_tasks():
                        return await drive_async(self._step(call, function, frame).life())
                finally:
                    self._end(call)
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
        stream = Stream(self._match(call, self.frame()), function)
        is_async = isinstance(call.task, TaskDefinition) and call.task.is_async_generator
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
        match = Match(call.task, call, frame)  # type: ignore[arg-type]
        if call.instance is not None:
            refuse_other_object(match)
        return match

    def _step(self, call: Call, function: Callable[..., Any], frame: Frame) -> Step:
        return Step(self._match(call, frame), function)

    def _begin(self, call: Call, key: tuple[str, bytes], *, is_cell: bool) -> None:
        task = call.task
        if key in self.called and not is_cell:
            warn_once(
                "equal",
                f"{self.execution.id}:{task.label}",
                f"Task {task.full_name!r} was called with equal arguments more than once in a cell. In a notebook that is one "
                f"call: the others get its result. To make it a call of its own, pass an argument that differs, or call it in "
                f"`with durable.scope(name)`.",
            )
        self.called.add(key)
        self._kernel.observe(Observation("called", call.label))

    def _end(self, call: Call) -> None:
        self._kernel.observe(Observation("ended", call.label))

    def _note(self, record: StepRecord) -> int:
        if record.flags & StepFlag.NOT_IDEMPOTENT:
            if record.status in _ENDED_BADLY and not record.flags & StepFlag.NO_EFFECT:
                self.doubts[record.seq] = record
            else:
                self.doubts.pop(record.seq, None)
        ticket = self._append(record)
        if not record.parent:
            self._memory.note(record)
            if record.status in _EXECUTED:
                self._kernel.observe(Observation("executed", record.label))
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


def _tell_doubts(doubts: list[StepRecord], run: RunRecord) -> None:
    for record in doubts[:_SHOWN_DOUBTS]:
        say(describe_doubt(record, run))
    if len(doubts) > _SHOWN_DOUBTS:
        say(f"{len(doubts) - _SHOWN_DOUBTS} more steps are in doubt, see: %durable")


def _in_another_kernel(name: Name, run: RunRecord | None, error: RunInProgressError) -> RunInProgressError:
    if run is None:
        return error
    return RunInProgressError(
        f"Notebook {name} is open in another kernel: its run {run.id} is in progress on {run.host} with pid {run.pid}, begun "
        f"{age(sessions.clock() - run.updated_at)}. Nothing was executed. Shut that kernel down, or give this one a run of "
        f"its own: %durable start NAME",
        run.id,
    )


def _cells() -> None: ...


def _nothing() -> None: ...


_DEFINITION = WorkflowDefinition(function=_cells, name=NOTEBOOK, is_block=True, on_code_change="rerun")
