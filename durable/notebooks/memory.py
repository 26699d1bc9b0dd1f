"""In a notebook a call is known by its function and inputs alone: equal calls are one step, whenever they are made.

Records are not used up, as those of a script are. A call that failed is executed again, or is in doubt if it is not
idempotent; one that was set aside is executed as the next occurrence, under a new idempotency key.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from durable.identity.labels import escape
from durable.identity.step_keys import Scope, join
from durable.records import StepFlag, StepQuery, StepStatus
from durable.step_pages import all_steps, step_at
from durable.steps.history import StepHistory
from durable.steps.verdicts import is_undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable.concurrency.submissions import Submission
    from durable.records import StepRecord
    from durable.runs.execution import Execution

ENDED_BADLY = (StepStatus.FAILED, StepStatus.CANCELLED)
_LEFT = (StepStatus.STARTED, StepStatus.CANCELLED)
_MOST_BYTES = 4096  # of a result that is kept in memory
_ELSEWHERE = b"in the store"


class Memory(StepHistory):
    """What is recorded in the run of a notebook, looked up by content."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(None, "", 0, 0)
        self._execution = execution
        self._latest: dict[tuple[str, bytes], StepRecord] = {}
        self._left: dict[int, StepRecord] = {}
        self._changes_applied: set[int] = set()
        self.taken: set[int] = set()
        self.made: Counter[tuple[str, bytes]] = Counter()  # calls of libraries in the present cell
        for record in self._recorded():
            self._keep(record)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is recorded; what cells called before in this kernel counts, too."""
        return not self._latest

    def is_earlier(self, record: StepRecord) -> bool:  # noqa: ARG002 -- the kernel's execution does not end with a cell
        """Whether a call was made by a cell before."""
        return True

    def note(self, record: StepRecord) -> None:
        """Take note of a record that is on its way to disk."""
        self._keep(record, left=(StepStatus.CANCELLED,))
        if record.flags & StepFlag.STATE:
            self._changes_applied.add(record.seq)

    def _keep(self, record: StepRecord, left: tuple[str, ...] = _LEFT) -> None:
        if record.status in left:
            self._left[record.seq] = record
        else:
            self._left.pop(record.seq, None)
        place = (record.container, record.content)
        known = self._latest.get(place)
        if known is None or known.occurrence <= record.occurrence:
            is_large = record.value is not None and len(record.value) > _MOST_BYTES
            self._latest[place] = record._replace(value=_ELSEWHERE) if is_large else record

    def known(self, container: str, content: bytes) -> StepRecord | None:
        """Give the record of a content's last occurrence in a scope, its value left out if it is large."""
        return self._latest.get((container, content))

    def latest(self, container: str, content: bytes) -> StepRecord | None:
        """Give the record of a content's last occurrence in a scope."""
        record = self.known(container, content)
        return self.whole(record) if record is not None and record.value == _ELSEWHERE else record

    def whole(self, record: StepRecord) -> StepRecord:
        """Give a record as it is in the store."""
        execution = self._execution
        execution.journal.flush_all()
        return step_at(execution.journal.store, execution.id, record.seq)

    def take(self, scope: Scope, content: bytes, occurrence: int) -> StepRecord | None:
        """Give the record of a content; a failure that it may hold is tried again."""
        record = self.latest(scope.container, content)
        if record is None or record.occurrence != occurrence or is_undone(record):
            return None
        self.taken.add(record.seq)
        if record.status in ENDED_BADLY or record.flags & StepFlag.LEFT:
            self._execution.past.retry.add(record.seq)
        if record.flags & StepFlag.STATE:  # its changes count once, however often it is replayed
            if record.seq in self._changes_applied:
                return record._replace(flags=record.flags & ~StepFlag.STATE)
            self._changes_applied.add(record.seq)
        return record

    def take_elsewhere(self, scope: Scope, content: bytes) -> StepRecord | None:  # noqa: ARG002 -- nothing stands elsewhere
        """Give nothing: there are no branches."""
        return None

    def is_occupied(self, scope: Scope, content: bytes, occurrence: int) -> bool:  # noqa: ARG002 -- see take_elsewhere
        """Whether a key is taken by another call: never."""
        return False

    def exchange(self, record: StepRecord, fits: Callable[[StepRecord], bool]) -> StepRecord:  # noqa: ARG002 -- as above
        """Give the same record: the key decides."""
        return record

    def unused(
        self,
        is_candidate: Callable[[str], bool],
        *,
        where: tuple[str, str] | None = None,
        fits: Callable[[StepRecord], bool] = lambda _: True,
    ) -> list[StepRecord]:
        """List calls that were interrupted, of tasks that are defined; with `where` only what is not idempotent there."""
        found = [
            record
            for record in sorted(self._left.values())
            if (
                where is None or (record.flags & StepFlag.NOT_IDEMPOTENT and (record.container, record.branch) == where)
            )
            and is_candidate(record.task)
            and not self._execution.is_gone(record.task)
            and not record.flags & StepFlag.NO_EFFECT
        ]
        self._execution.past.retry.update(record.seq for record in found)
        return [record for record in found if fits(record)]

    def _recorded(self) -> Iterator[StepRecord]:
        """Read what cells have called, page by page."""
        execution = self._execution
        if execution.past.last_event:
            yield from all_steps(execution.journal.store, execution.id, StepQuery(parent=0, lean=True))


class MemoryScope(Scope):
    """A place that cells call from: the notebook itself, or a scope that the user named."""

    __slots__ = ("_memory", "_submissions")

    def __init__(self, memory: Memory, container: str = "", outer: Scope | None = None) -> None:
        super().__init__(container, "", memory, outer)
        self._memory = memory
        self._submissions: dict[bytes, Submission] = {}

    def note_another_try(self, number: int, key: str = "", last: int | None = None) -> None:
        """Note nothing: no other call may differ because one was tried again, since cells do not follow each other."""

    @property
    def renewed(self) -> bool:
        """Whether other calls may differ because one was executed again: never."""
        return False

    @renewed.setter
    def renewed(self, _: bool) -> None: ...

    def under_way(self, content: bytes) -> Submission | None:
        """Give the submitted call of this content that has not ended."""
        submission = self._submissions.get(content)
        return submission if submission is not None and not submission.is_settled else None

    def note_submission(self, content: bytes, submission: Submission) -> None:
        """Note that a call was submitted."""
        self._submissions[content] = submission

    def next_occurrence(self, content: bytes) -> int:
        """Give the occurrence that a call of this content is: the last one, unless that was set aside."""
        latest = self._memory.known(self.container, content)
        return 1 if latest is None else latest.occurrence + is_undone(latest)

    def repetition(self, content: bytes) -> int:
        """Give how many calls of a library like this one the present cell has made: a request may be made to see what
        changes, and in another name.
        """
        made, place = self._memory.made, (self.container, content)
        made[place] += 1
        return made[place] - 1

    def named(self, name: str) -> Scope:
        """Give the scope of this name below this one; the same object each time."""
        if self._children is None:
            self._children = {}
        segment = escape(name)
        if segment not in self._children:
            self._children[segment] = MemoryScope(self._memory, join(self.container, segment), self)
        return self._children[segment]
