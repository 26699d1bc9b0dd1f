"""A generator as a step: its items are bytes before the consumer sees them, and a replay gives the same ones.

A generator that ended, or that its consumer closed, gives recorded items; a consumer that wants more than when it closed
it had failed then, and the body is executed again for the rest. One that was interrupted by a crash is executed again from
its start, and what it had given by then is set aside. Where that may not be repeated, the step is in doubt.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.costs.budgets import admission
from durable.errors import ConfigurationError, CorruptRecordError, ExecutionStopped, RunEndedError
from durable.identity.step_keys import items_container
from durable.records import ITEMS, StepFlag, StepQuery, StepRecord, StepStatus
from durable.runs.execution import warn_once
from durable.steps.attempts import Attempts
from durable.steps.doubts import in_doubt
from durable.steps.effects import Durable, Effect, Execute, Sleep
from durable.steps.key_windows import is_forgotten
from durable.steps.results import kept
from durable.steps.steps import Step
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from durable.runs.execution import Body
    from durable.steps.matching import Match

_CHUNK_ITEMS = 256
_CHUNK_BYTES = 256 * 1024
_PAGE = 8  # chunks that are read at once
_CONTENT = b"\0" * 16
_NOTHING = object()


class Item(Effect):
    """Something for the consumer."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Ends(BaseException):
    """Thrown into a life whose consumer wants no more items, or whose run ends; `failed` says that it ends by failing.

    Not GeneratorExit, for which `yield from` would close what it waits for.
    """

    def __init__(self, *, failed: bool) -> None:
        super().__init__()
        self.failed = failed


class Stream(Step):
    """One call of a generator task: a life that gives items among its effects."""

    __slots__ = ("_begun",)

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        super().__init__(match, function)
        self._begun = False

    def _attempts(self) -> Attempts:
        self._begun = True
        return StreamAttempts(self.match, self._function)

    def life(self) -> Generator[Effect, Any, Any]:
        """Match the call, decide, and give the items, made now or recorded; returns what the generator returned."""
        try:
            outcome = yield from super().life()
        except Exception:
            record = self.match.record if not self._begun else None
            if record is not None and record.status == StepStatus.FAILED and record.value is not None:
                yield from self._recorded(self._manifest(record))  # of one that failed after these
            raise
        record = self.match.record
        if isinstance(outcome, _Made):
            return outcome.returned
        if self._begun or (record is not None and record.flags & StepFlag.RESOLVED):
            for item in outcome:  # that somebody says it gave
                yield Item(item)
            return None
        try:
            yield from self._recorded(outcome)
        except Ends:
            self._end_replay()
            raise
        if outcome["closed"]:
            return (yield from self._go_on(outcome))
        self._end_replay()
        return outcome["returned"]

    def _wait_to_be_cancelled(self, record: StepRecord) -> Generator[Effect, Any, None]:
        if record.value is not None:
            yield from self._recorded(self._manifest(record))  # of one that was cancelled after these
        yield from super()._wait_to_be_cancelled(record)

    def _replay_changes(self, record: StepRecord) -> None:
        """Nothing is changed before the items are given, as when they were made."""

    def _end_replay(self) -> None:
        record = self.match.record
        if record is not None and record.flags & StepFlag.STATE:
            super()._replay_changes(record)

    def _go_on(self, manifest: dict[str, Any]) -> Generator[Effect, Any, Any]:
        """Execute the body again for a consumer that wants more than when it closed the generator: it had failed then."""
        execution, record = self.execution, self.match.whole_record()
        assert record is not None
        if not self.match.is_idempotent or is_forgotten(record.details, execution.clock()):
            left = record._replace(status=StepStatus.STARTED.value, epoch=execution.run.epoch, done=None, ended_at=None)
            execution.append(left)
            more = f"It is a generator that its consumer closed after {manifest['items']} items, and is now asked for more."
            raise execution.stop(in_doubt(left, execution.run, more))
        given = self._given(manifest)
        attempts = StreamAttempts(self.match, self._function)
        attempts.given = given
        return (yield from attempts.execute()).returned

    def _given(self, manifest: dict[str, Any]) -> Iterator[Any]:
        """List what the consumer has got already, to compare it with what another execution gives."""
        return (item.value for item in self._recorded(manifest))

    def ended_early(self) -> RunEndedError:
        """Say to a consumer that wants more, in another thread or asyncio task, that the body around it has ended."""
        run, key = self.execution.id, self.match.frame.body.step_key
        caller = f"step {key!r} of run {run}" if key else f"run {run}"
        return RunEndedError(
            f"Generator {self.task.full_name!r} was asked for more when {caller}, which had called it, was over: it was closed "
            f"then. Await or join everything that a task starts.",
            run,
        )

    def check(self, sent: Any) -> None:
        """Refuse what is sent, and further items once the run has ended."""
        if sent is not None:
            raise ConfigurationError(
                f"send(...) into generator {self.task.full_name!r} is refused: what is sent is not recorded, so a replay "
                f"could not answer it. Give it what it needs as arguments, or make each answer a task of its own."
            )
        self.match.frame.body.check()

    def _manifest(self, record: StepRecord) -> dict[str, Any]:
        execution, run, step = self.execution, record.run_id, record.key
        assert record.value is not None
        value = execution.session.fetch(record.value, run=run, step=step)
        found: Any = execution.serializer.decode(value, run=run, step=step)
        return dict(found)

    def _recorded(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """Read the items chunk by chunk."""
        execution, record = self.execution, self.match.record
        assert record is not None  # the one that the manifest stands in
        left, after = manifest["chunks"], manifest["since"] - 1
        query = StepQuery(parent=record.seq, scope=(items_container(record.key), ""))
        while left:
            page = execution.journal.store.steps(execution.id, replace(query, after=after, limit=min(left, _PAGE)))
            if not page:
                raise execution.stop(
                    CorruptRecordError(
                        f"The items of generator {record.key!r} are not in run {execution.id}. Nothing was executed in their "
                        f"place. Begin again with DURABLE_FRESH=1, or execute the generator again under a new version=."
                    )
                )
            for chunk in page:
                assert chunk.value is not None
                data = execution.session.fetch(chunk.value, run=chunk.run_id, step=record.key)
                items: Any = execution.serializer.decode(data, run=chunk.run_id, step=record.key)
                for item in items:
                    yield Item(execution.serializer.decode(item, run=chunk.run_id, step=record.key))
                left, after = left - 1, chunk.seq


class _Made:
    """A generator was executed to its end, and its items were given."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned


class StreamAttempts(Attempts):
    """Executes the body of a generator, piece by piece."""

    __slots__ = ("_bytes", "_chunk", "_chunks", "_items", "_since", "given")

    def __init__(self, match: Match, function: Callable[..., Any]) -> None:
        super().__init__(match, function)
        self.given: Iterator[Any] = iter(())  # what the consumer has got already in this execution

    def execute(self, until: float | None = None) -> Generator[Effect, Any, Any]:
        """Execute the body from its start and give its items."""
        execution = self.execution
        if until is not None:
            yield Sleep(until - execution.clock())
        begun = time.monotonic()
        yield from admission(self)
        self._attempts += 1
        self._chunk: list[bytes] = []
        self._bytes = self._chunks = self._items = 0
        self._since = execution.tick()
        try:
            if execution.standby.is_paused:
                yield from execution.standby.admission()
            yield Durable(execution, self._append(StepStatus.STARTED.value))
        except BaseException as error:
            self._withdraw(error)
            raise
        body = self.open_body()
        execution.executed += 1
        source = self._function(*self.call.args, **self.call.kwargs)
        try:
            returned = yield from self._produce(body, source)
            self._refuse_if_told(body)
        except BaseException as error:
            if isinstance(error, GeneratorExit | Ends) or self._has_ended():
                raise
            yield from self._fail(error, body, time.monotonic() - begun)
            raise
        yield from self.succeed(self._manifest(returned=returned), body=body)
        return _Made(returned)

    def _produce(self, body: Body, source: Any) -> Generator[Effect, Any, Any]:
        """Give the items; returns what the generator returns."""
        advance, close = (_anext, source.aclose) if self.task.is_async_generator else (_next, source.close)
        in_flight = self.execution.in_flight
        while True:
            in_flight[self] = self.frame.body
            try:
                produced, value = yield Execute(body, advance, (source,))
                if not produced:
                    return value
                try:
                    self._keep(value)
                except Unserializable:
                    yield Execute(body, close)
                    yield from self.succeed(value)  # records that it has no value that could be stored
            finally:
                in_flight.pop(self, None)
            if (given := next(self.given, _NOTHING)) is not _NOTHING:
                self._compare(given, value)
                continue
            try:
                yield Item(value)
            except BaseException as ending:
                yield from self._end(ending, body, close)
                raise

    def _has_ended(self) -> bool:
        return self.record is None or self.record.status != StepStatus.STARTED

    def _end(self, ending: BaseException, body: Body, close: Callable[[], Any]) -> Generator[Effect, Any, None]:
        """The consumer, or the end of the run, closes the generator."""
        yield Execute(body, close)
        is_told = isinstance(ending, ExecutionStopped) or body in self.execution.told_bodies
        if is_told or (isinstance(ending, Ends) and ending.failed):
            if self._is_idempotent:  # else it stays `started`, and is in doubt
                self._append(StepStatus.STARTED.value, StepFlag.RETRYING)
        else:
            yield from self.succeed(self._manifest(closed=True), body=body)

    def _compare(self, given: Any, item: Any) -> None:
        try:
            is_equal = bool(given == item)
        except Exception:  # of values that do not say it in one word, as arrays
            return
        if not is_equal:
            was, now = (given, item) if not self.task.sensitive else ("(sensitive)", "(another)")
            warn_once(
                "items",
                f"{self.execution.id}:{self.key}",
                f"Generator {self.key!r} of run {self.execution.id} was executed again to go on where its consumer had "
                f"failed, and gives other items than those that were recorded and used: item {self._items} was {was!r:.60} "
                f"and is {now!r:.60}. To execute all of it again use version= or a new run.",
            )

    def _keep(self, item: Any) -> None:
        """Turn an item into bytes, now that nobody can change it."""
        data = self.execution.serializer.encode(item, run=self.execution.id, step=self.key)
        self._chunk.append(data)
        self._items += 1
        self._bytes += len(data)
        if len(self._chunk) >= _CHUNK_ITEMS or self._bytes >= _CHUNK_BYTES:
            self._write_chunk()

    def _write_chunk(self) -> None:
        if not self._chunk:
            return
        execution, now = self.execution, self.execution.clock()
        value = execution.serializer.encode(self._chunk, run=execution.id, step=self.key)
        value = kept(self, value)
        self._chunks += 1
        self._chunk, self._bytes = [], 0
        record = StepRecord(
            execution.id,
            execution.tick(),
            self.seq,
            items_container(self.key),
            "",
            ITEMS,
            "items",
            _CONTENT,
            self._chunks,
            StepStatus.SUCCEEDED.value,
            StepFlag.NO_BODY,
            execution.run.epoch,
            0,
            0,
            now,
            now,
            None,
            value,
        )
        execution.journal.append(execution.fence, record)

    def _manifest(self, *, closed: bool = False, returned: Any = None) -> dict[str, Any]:
        self._write_chunk()
        return {
            "items": self._items,
            "chunks": self._chunks,
            "since": self._since,
            "closed": closed,
            "returned": returned,
        }

    def _append(self, status: str, flags: int = 0, *, value: bytes | None = None, **more: Any) -> int:
        if status in (StepStatus.FAILED, StepStatus.CANCELLED):
            value = self.execution.serializer.encode(self._manifest(), run=self.execution.id, step=self.key)
        return super()._append(status, flags, value=value, **more)


def _next(source: Any) -> tuple[bool, Any]:
    try:
        return True, next(source)
    except StopIteration as end:
        return False, end.value


async def _anext(source: Any) -> tuple[bool, Any]:
    try:
        return True, await anext(source)
    except StopAsyncIteration:
        return False, None
