from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from durable.identity.labels import escape
from durable.identity.step_keys import Scope, idempotency_key, join
from durable.records import StepFlag, StepRecord, StepStatus
from durable.steps.history import StepHistory
from durable.steps.verdicts import Drift, Past, Verdict, decide, decide_drift
from durable.stores import open_store
from durable.stores.memory import MemoryStore
from tests.unit.histories import RUN, make_step, store_steps

if TYPE_CHECKING:
    from durable.stores.protocol import Store

_CONTAINERS, _BRANCHES, _NAMES = ("", "named"), ("", "a", "b", "a/x", "a/y"), ("job", "pay", "log")
_recorded = st.tuples(
    st.sampled_from(_CONTAINERS),
    st.sampled_from(_BRANCHES),
    st.sampled_from(_NAMES),
    st.sampled_from((0, 0, 0, 5)),  # parent
    st.sampled_from(("succeeded", "started", "failed")),
)


class HistoryMachine(RuleBasedStateMachine):
    """A history that is read page by page finds what a plain list of unused records finds."""

    taken = Bundle("taken")
    is_sqlite = False

    @initialize(recorded=st.lists(_recorded, max_size=40), page=st.integers(1, 12), beyond=st.integers(0, 3))
    def open(self, recorded: list[tuple[str, str, str, int, str]], page: int, beyond: int) -> None:
        counts: dict[tuple[object, ...], int] = {}
        steps = []
        for seq, (container, branch, name, parent, status) in enumerate(recorded, 10):
            occurrence = counts[container, branch, name, parent] = counts.get((container, branch, name, parent), 0) + 1
            fields = {"container": container, "branch": branch, "name": name, "status": status}
            steps.append(make_step(seq, parent=parent, occurrence=occurrence, **fields))
        self.folder = tempfile.TemporaryDirectory()
        self.store: Store = open_store(f"{self.folder.name}/durable.db") if self.is_sqlite else MemoryStore()
        store_steps(self.store, steps)
        self.steps = {step.seq: step for step in steps}
        last = max(0, 9 + len(steps) - beyond)
        self.history = StepHistory(self.store, RUN, 0, last, page=page)
        self.unused = [step for step in steps if step.parent == 0 and step.seq <= last]
        self.moved: list[StepRecord] = []
        self.given_up = 0

    def _scope(self, container: str, branch: str) -> Scope:
        return Scope(container, branch, self.history)

    def _content(self, name: str) -> bytes:
        return make_step(1, name=name).content

    def _whole(self, found: StepRecord) -> StepRecord:
        """Give the step that a record stands for; the history may leave out what replaying does not need."""
        step = self.steps[found.seq]
        assert (found[:11], found.done, found.value, found.details) == (step[:11], step.done, step.value, step.details)
        assert found.epoch == 0 or found == step
        return step

    @rule(
        target=taken,
        container=st.sampled_from(_CONTAINERS),
        branch=st.sampled_from(_BRANCHES),
        name=st.sampled_from(_NAMES),
        occurrence=st.integers(1, 3),
    )
    def take(self, container: str, branch: str, name: str, occurrence: int) -> StepRecord | None:
        found = self.history.take(self._scope(container, branch), self._content(name), occurrence)
        place = (container, branch, self._content(name), occurrence)
        alike = [s for s in self.unused if (s.container, s.branch, s.content, s.occurrence) == place]
        assert (found and self._whole(found)) == (alike[0] if alike else None)
        self.unused = [step for step in self.unused if step not in alike]
        return found

    @rule(container=st.sampled_from(_CONTAINERS), branch=st.sampled_from(_BRANCHES), name=st.sampled_from(_NAMES))
    def take_elsewhere(self, container: str, branch: str, name: str) -> None:
        found = self.history.take_elsewhere(self._scope(container, branch), self._content(name))
        alike = [s for s in self.unused if (s.container, s.content) == (container, self._content(name))]
        if found is None:
            assert not alike
            return
        assert self._whole(found) in alike
        self.unused.remove(self._whole(found))
        self.moved.append(found)

    @rule(container=st.sampled_from(_CONTAINERS), branch=st.sampled_from(_BRANCHES), name=st.sampled_from(_NAMES))
    def reuse(self, container: str, branch: str, name: str) -> None:
        given = self.history.unused(lambda label: label == name, where=(container, branch))
        found = [self._whole(record) for record in given]
        here = [s for s in self.unused if (s.container, s.branch, s.task) == (container, branch, name)]
        assert all(record in here for record in found)
        assert found[:1] == here[:1]
        assert [s for s in found if s.status == "started"] == [s for s in here if s.status == "started"]
        if found:
            self.history.use(given[0])
            self.unused.remove(found[0])

    @rule(record=taken)
    def exchange(self, record: StepRecord | None) -> None:
        if record is None or self._whole(record) in self.unused:
            return
        given = self.history.exchange(record, lambda other: other.status == "started")
        if given is record:
            return
        given = self._whole(given)
        place = (record.container, record.branch, record.content)
        assert given.status == "started"
        assert (given.container, given.branch, given.content) == place
        self.unused.remove(given)
        self.unused.append(self._whole(record))
        self.unused.sort(key=lambda step: step.seq)

    @rule()
    def look_at_what_is_left(self) -> None:
        started = self.history.unused(lambda _: True, fits=lambda step: step.status == "started")
        assert list(map(self._whole, started)) == [step for step in self.unused if step.status == "started"]

    @rule(seq=st.integers(0, 60))
    def stop_awaiting(self, seq: int) -> None:
        self.given_up = max(self.given_up, seq)
        self.history.stop_awaiting(seq)

    @invariant()
    def awaits_only_what_is_unused(self) -> None:
        awaited = self.history.first_unused()
        assert awaited is None or (awaited > self.given_up and awaited in [step.seq for step in self.unused])

    @invariant()
    def keeps_moved_keys_occupied(self) -> None:
        for step in self.moved:
            assert self.history.is_occupied(self._scope(step.container, step.branch), step.content, step.occurrence)

    @invariant()
    def is_empty_only_when_nothing_is_left(self) -> None:
        assert not (self.history.is_empty and self.unused)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


class SQLiteHistoryMachine(HistoryMachine):
    """The same with a database."""

    is_sqlite = True


HistoryMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
SQLiteHistoryMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=30)
TestHistory = HistoryMachine.TestCase
TestSQLiteHistory = SQLiteHistoryMachine.TestCase

_segments = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3)


@given(one=_segments, other=_segments)
def test_escaped_segments_never_run_together(one: list[str], other: list[str]) -> None:
    """Two different paths of names have two different texts, whatever separators the names contain."""
    texts = [join(*map(escape, path)) for path in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)


_places = st.tuples(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.integers(1, 12))


@given(one=_places, other=_places)
def test_idempotency_keys_differ_where_step_keys_do(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    """Every part of a step key counts in its idempotency key, and nothing else does."""

    def key(place: tuple[str, str, str, int], seq: int) -> str:
        run_id, container, branch, occurrence = place
        step = make_step(seq, container=container, branch=branch, occurrence=occurrence)
        return idempotency_key(step._replace(run_id=run_id))

    assert (key(one, 1) == key(other, 2)) == (one == other)


_pasts = st.builds(
    Past,
    retry=st.sets(st.integers(1, 3)),
    retry_failed=st.booleans(),
    crashed=st.booleans(),
    progressed=st.booleans(),
    last_call=st.integers(0, 9),
    last_event=st.integers(0, 9),
)
_all_flags = [flag for name, flag in vars(StepFlag).items() if name.isupper()]
_flags = st.sets(st.sampled_from(_all_flags)).map(sum)
_records = st.builds(
    lambda seq, status, flags, interruptions, done: make_step(
        seq, status=str(status), flags=flags, interruptions=interruptions, done=done
    ),
    st.integers(1, 3),
    st.sampled_from(list(StepStatus)),
    _flags,
    st.integers(0, 4),
    st.none() | st.integers(1, 9),
)
_EXECUTES = {Verdict.EXECUTE, Verdict.EXECUTE_AGAIN, Verdict.TRY_AGAIN, Verdict.CONTINUE}


@given(record=_records, past=_pasts, idempotent=st.booleans(), replay=st.booleans())
def test_a_finished_body_is_never_executed_again(
    record: StepRecord, past: Past, idempotent: bool, replay: bool
) -> None:
    """A recorded success is replayed, whatever else is known, unless the task says that it executes every time."""
    verdict = decide(record, past, idempotent=idempotent, replay=replay, code=None, on_code_change="keep")
    if record.status == StepStatus.SUCCEEDED:
        assert verdict is (Verdict.REPLAY if replay else Verdict.EXECUTE)


@given(record=_records, past=_pasts)
def test_what_may_have_happened_is_in_doubt(record: StepRecord, past: Past) -> None:
    """A body that is not idempotent is executed again only if it is known that nothing happened."""
    verdict = decide(record, past, idempotent=False, replay=True, code=None, on_code_change="keep")
    known = record.flags & (StepFlag.NO_EFFECT | StepFlag.RESOLVED)
    between_attempts = record.status == StepStatus.STARTED and record.flags & StepFlag.RETRYING
    if verdict in _EXECUTES and record.status in {StepStatus.STARTED, StepStatus.FAILED, StepStatus.CANCELLED}:
        assert known or between_attempts
    if record.status == StepStatus.STARTED and not between_attempts:
        assert verdict is Verdict.DOUBT


@given(
    unused=st.lists(_records, max_size=4),
    past=_pasts,
    idempotent=st.booleans(),
    deviates=st.booleans(),
    on_drift=st.sampled_from((None, "error", "run", "reuse")),
)
def test_no_option_overrides_a_doubt(
    unused: list[StepRecord], past: Past, idempotent: bool, deviates: bool, on_drift: str | None
) -> None:
    """A call that may be one left running is never executed if it is not idempotent."""
    verdict = decide_drift(
        unused,
        past,
        idempotent=idempotent,
        deviates=deviates,
        on_drift=on_drift,  # type: ignore[arg-type]  # one of the literals
    )
    running = any(s.status == StepStatus.STARTED and not s.flags & StepFlag.RETRYING for s in unused)
    assert not idempotent or verdict is not Drift.DOUBT
    assert idempotent or not running or verdict is Drift.DOUBT
    if not unused:
        assert verdict is Drift.NEW
