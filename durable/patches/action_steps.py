"""An action is a step like any other; its result is made again of what is recorded, and may stand for a failure."""

from __future__ import annotations

import contextlib
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from durable.concurrency.consumers import items_of, items_of_async
from durable.concurrency.streams import Stream, StreamAttempts
from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.errors import ExecutionStopped
from durable.identity.calls import Call
from durable.identity.fingerprints import encode_argument
from durable.identity.step_keys import content_digest
from durable.options import ABSENT
from durable.patches.actions import NothingHappened
from durable.patches.resumed_bodies import Cut
from durable.records import StepFlag, StepStatus
from durable.runs.execution import warn_once
from durable.steps.attempts import Attempts
from durable.steps.details import Details
from durable.steps.doubts import Happened
from durable.steps.effects import Durable, drive
from durable.steps.engine import as_coroutine
from durable.steps.failures import mark
from durable.steps.matching import Match
from durable.steps.steps import Step
from durable.steps.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
    from datetime import timedelta

    from durable.identity.step_keys import Scope
    from durable.options import OnCodeChange
    from durable.patches.actions import Action
    from durable.records import StepRecord
    from durable.runs.execution import Body, Execution, Frame
    from durable.steps.doubts import DidNotHappen
    from durable.steps.effects import Effect

STEP_OF = "_durable_step"  # attribute of a result: the step that gave it, as run id and number
_RECEIPT = "idempotency_key"
_REPETITION = "repetition"
_labels: set[str] = set()
_accounts: dict[tuple[str, bytes], int] = {}  # whose calls of cells are, as this process alone can tell


def call_action(action: Action, frame: Frame) -> Any:
    """Execute an action as a step of the run that the calling code stands in, or replay it."""
    frame.body.check()
    task = _definition(action.task, action.idempotent, action.is_async, action.is_stream, action.retry)
    call = _ActionCall(task, action)
    call.tell_apart(frame.scope)
    match = _ActionMatch(task, call, frame)
    if action.is_async:
        return _given_async(match, action, call)
    with _told(call):
        if action.is_stream:
            return _read(_ActionStream(match, action))
        step = _ActionStep(match, action)
        return step.result(drive(step.life()))


async def _given_async(match: _ActionMatch, action: Action, call: _ActionCall) -> Any:
    with _told(call):
        if action.is_stream:
            return await _read_async(_ActionStream(match, action))
        step = _ActionStep(match, action)
        return step.result(await as_coroutine(step.life(), match.task, match.frame))


@contextlib.contextmanager
def _told(call: _ActionCall) -> Iterator[None]:
    """Give a cell the error itself that stopped its run, and a recorded exception what is not stored of it."""
    try:
        yield
    except Exception as error:
        call.action.complete(error)
        raise
    except ExecutionStopped as stopped:
        if not call.is_of_cell:
            raise
        raise stopped.error from None


def _read(stream: _ActionStream) -> Any:
    items: Iterator[Any] = items_of(stream)
    head = next(items)
    if stream.is_whole(head):
        next(items, None)
    return stream.rebuilt(head, items)


async def _read_async(stream: _ActionStream) -> Any:
    items: AsyncIterator[Any] = items_of_async(stream)
    head = await anext(items)
    if stream.is_whole(head):
        await anext(items, None)
    return stream.rebuilt(head, items)


def register(tasks: Iterable[str]) -> None:
    """Make known which tasks a preset has, so that their records are not those of tasks that are gone."""
    for name in tasks:
        definition = _definition(name, True, False, False)
        _labels.add(definition.label)
        registry.tasks.add(definition)


def is_action(body: Body) -> bool:
    """Whether a body is that of an action, so that what it calls is part of it."""
    return body.record is not None and body.record.task in _labels


class _ActionDefinition(TaskDefinition):
    """The task of an action; its body is the library's, whose releases are no change of the user's code."""

    @property
    def _is_checked_for_changes(self) -> bool:
        return False


def _plain() -> None: ...


async def _awaited() -> None: ...


def _items() -> Iterator[None]:
    yield


async def _awaited_items() -> AsyncIterator[None]:
    yield


_KINDS: dict[tuple[bool, bool], Callable[[], Any]] = {
    (False, False): _plain,
    (True, False): _awaited,
    (False, True): _items,
    (True, True): _awaited_items,
}


@cache
def _definition(
    name: str, idempotent: bool | timedelta, is_async: bool, is_stream: bool, retry: Any = None
) -> TaskDefinition:
    return _ActionDefinition(
        function=_KINDS[is_async, is_stream],
        name=name,
        idempotent=idempotent,
        no_effect_on=(NothingHappened,),
        retry=retry,
    )


class _ActionCall(Call):
    """What an action says; a receipt is kept beside it and does not count."""

    __slots__ = ("action", "is_of_cell")

    def __init__(self, task: TaskDefinition, action: Action) -> None:
        self.task, self.instance, self.args, self.kwargs = task, None, (), {}
        self.action = action
        self._binding, self._bound = task.binding, ()
        self.business_key, self.immutable = None, True
        self.arguments, framed = [], []
        for name, value in action.inputs.items():
            data = encode_argument(task.label, name, value)
            self.arguments.append((name, data, action.shown.get(name, value)))
            framed.append(b"%d:%b=%d:%b" % (len(name), name.encode(), len(data), data))
        self._data = b"".join(framed)
        self.content = content_digest(task.label_prefix, self._data)
        if action.receipt is not None:
            self.arguments.append((_RECEIPT, encode_argument(task.label, _RECEIPT, action.receipt), "given"))
        self.is_of_cell = False

    def tell_apart(self, scope: Scope) -> None:
        """Tell it from equal calls of the same cell by their order, as a run tells its calls apart."""
        repetition = scope.repetition(self.content)
        self.is_of_cell = repetition is not None
        if repetition:
            data = encode_argument(self.task.label, _REPETITION, repetition)
            self.arguments.append((_REPETITION, data, repetition))
            self._data += b"%d:%b=%d:%b" % (len(_REPETITION), _REPETITION.encode(), len(data), data)
            self.content = content_digest(self.task.label_prefix, self._data)
        account = self.action.account
        if self.is_of_cell and _accounts.setdefault((scope.container, self.content), account) != account:
            warn_once(
                "account",
                self.task.label,
                f"{self.task.full_name!r} was called with other credentials than an equal call before, and is that call: "
                f"credentials do not count. If it is made for somebody else, call it in `with durable.scope(name)`.",
            )


class _ActionMatch(Match):
    """One call of an action, and the record that it found."""

    __slots__ = ()

    @property
    def is_idempotent(self) -> bool:
        """Whether it may be repeated in doubt: not under another idempotency key than it had."""
        if not super().is_idempotent:
            return False
        return self.record is None or self._receipt() == self._recorded_receipt()

    def _receipt(self) -> str | None:
        return self.call.digests().get(_RECEIPT)

    def _recorded_receipt(self) -> str | None:
        record = self.whole_record()
        found = Details.read(record.details).arguments.get(_RECEIPT) if record is not None else None
        return found.digest if found is not None else None


class _Kept:
    """Attempts whose result is on disk before the caller has it."""

    __slots__ = ()
    execution: Execution
    _ticket: int

    def succeed(self, value: Any, flags: int = 0, body: Body | None = None) -> Generator[Effect, Any, Any]:
        """Record the result as others do, and wait for the disk."""
        value = yield from super().succeed(value, flags, body)  # type: ignore[misc]  # of the class that it is mixed into
        yield Durable(self.execution, self._ticket, certain=True)
        return value

    def _append(self, *args: Any, **kwargs: Any) -> int:
        self._ticket = super()._append(*args, **kwargs)  # type: ignore[misc]  # as above
        return self._ticket


class _KeptAttempts(_Kept, Attempts):
    __slots__ = ("_ticket",)


class _KeptStreamAttempts(_Kept, StreamAttempts):
    __slots__ = ("_ticket",)


class _Acting(Step):
    """What both kinds of actions have in common: how their results fail, are decided and are given."""

    _action: Action
    _attempted: Attempts | None = None

    def rebuilt(self, *recorded: Any) -> Any:
        """Give a result like the one that was recorded; what that raises counts as raised by this step."""
        try:
            return self._noted(self._action.replay(*recorded))
        except Exception as error:
            mark(error, self.execution.id, self._seq)
            raise

    @property
    def _seq(self) -> int:
        record = self.match.record
        if record is not None:
            return record.seq
        assert self._attempted is not None
        return self._attempted.seq

    def _noted(self, result: Any) -> Any:
        with contextlib.suppress(AttributeError, TypeError):
            setattr(result, STEP_OF, (self.execution.id, self._seq))
        return result

    def _attempts(self) -> Attempts:
        self._attempted = self._kept_attempts() if self._action.is_kept else super()._attempts()
        return self._attempted

    def _kept_attempts(self) -> Attempts:
        return _KeptAttempts(self.match, self._function)

    def _decide(self, record: StepRecord, on_code_change: OnCodeChange) -> Verdict:
        verdict = super()._decide(record, on_code_change)
        if verdict is not Verdict.REPLAY or not self._may_have_ended_the_run(record):
            return verdict
        nothing_happened = self._action.failure(self._outcome(record))
        if nothing_happened is None:
            return verdict
        may_repeat = nothing_happened or (self.match.is_idempotent and not self._is_forgotten())
        return Verdict.TRY_AGAIN if may_repeat else Verdict.DOUBT

    def _may_have_ended_the_run(self, record: StepRecord) -> bool:
        """Whether the last execution ended by what came of the result, or recorded nothing after it; a cell that makes a
        failed call again asks for another answer.
        """
        past, call = self.execution.past, self.match.call
        if isinstance(call, _ActionCall) and call.is_of_cell:
            return True
        return past.retry_failed or record.seq in past.retry or past.is_last(record)

    def _outcome(self, record: StepRecord) -> Any:
        """Give what is recorded, of a stream its head."""
        return self._replay(record)

    def _replay(self, record: StepRecord) -> Any:
        value = super()._replay(record)
        return self._action.resolved(value) if record.flags & StepFlag.RESOLVED else value

    def _settle_doubt(self, record: StepRecord, attempts: Attempts) -> Generator[Effect, Any, Happened | DidNotHappen]:
        if record.status == StepStatus.SUCCEEDED:  # a failure that somebody has to decide first
            whole, epoch = self.match.whole_record(), self.execution.run.epoch
            assert whole is not None
            record = whole._replace(status=StepStatus.STARTED.value, epoch=epoch, done=None, ended_at=None)
            self.execution.append(record)
        outcome = yield from super()._settle_doubt(record, attempts)
        return Happened(self._action.resolved(outcome.value)) if isinstance(outcome, Happened) else outcome


class _ActionStep(_Acting):
    """An action that is performed at once."""

    def __init__(self, match: Match, action: Action) -> None:
        super().__init__(match, self._perform_async if action.is_async else self._perform)
        self._action = action
        self._live: Any = ABSENT

    def _perform(self) -> Any:
        self._live = self._action.perform()
        return self._action.record(self._live)

    async def _perform_async(self) -> Any:
        self._live = await self._action.perform()
        return self._action.record(self._live)

    def result(self, recorded: Any) -> Any:
        """Give the caller what the function gave, or would have given."""
        if self._live is not ABSENT and not self._action.is_rebuilt:
            return self._noted(self._live)
        return self.rebuilt(recorded)


class _ActionStream(_Acting, Stream):
    """An action whose result is read piece by piece."""

    def __init__(self, match: Match, action: Action) -> None:
        super().__init__(match, action.perform)
        self._action = action

    def _go_on(self, manifest: dict[str, Any]) -> Generator[Effect, Any, Any]:
        """Execute it again for a consumer that wants more, unless it had got all that there is."""
        _, *pieces = [item.value for item in self._recorded(manifest)]
        if self._action.is_over(pieces):
            self._end_replay()
            return manifest["returned"]
        return (yield from super()._go_on(manifest))

    def _given(self, manifest: dict[str, Any]) -> Iterator[Any]:
        """Give what was given of each piece of another execution, whose pieces are of other sizes."""
        head, *pieces = [item.value for item in self._recorded(manifest)]
        if not all(isinstance(piece, bytes) for piece in pieces):
            return iter((head, *pieces))
        cut = Cut(b"".join(pieces))
        self._function = partial(cut.pieces_async if self._action.is_async else cut.pieces, self._action.perform)
        return cut.given(head)

    def _kept_attempts(self) -> Attempts:
        self._begun = True
        return _KeptStreamAttempts(self.match, self._function)

    def is_whole(self, head: Any) -> bool:
        """Whether nothing comes after the head."""
        return self._action.is_whole(head)

    def _outcome(self, record: StepRecord) -> Any:
        if record.flags & StepFlag.RESOLVED:
            return next(iter(self._replay(record)))
        return next(self._recorded(self._manifest(record))).value
