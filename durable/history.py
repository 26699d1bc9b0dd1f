"""Recorded steps of earlier executions, matched by content; every record is used at most once.

One `StepHistory` holds what was recorded below one step (or in the workflow itself). It is read page by page in the
order of the calls and forgets what was used, so a replayed step costs no query and a long run does not have to fit in
memory. A call that the loaded pages do not hold is looked up by content in the store.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from durable.records import StepQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable.records import StepRecord
    from durable.step_keys import Scope
    from durable.stores.protocol import Store

_PAGE = 1000
_WINDOW = 2  # pages of unused records in memory beyond which a miss is looked up in the store


class StepHistory:
    """Unused records below the step `parent` (0: the workflow itself) with `seq` up to `last`."""

    def __init__(self, store: Store | None, run_id: str, parent: int, last: int, *, page: int = _PAGE) -> None:
        self._page = page
        self._store = store
        self._run_id = run_id
        self._parent = parent
        self._last = last
        self._loaded = parent
        self._complete = store is None or last <= parent
        self._index: dict[tuple[str, str, bytes, int], StepRecord] = {}
        self._by_content: dict[tuple[str, bytes], list[StepRecord]] | None = None
        self._order: deque[tuple[int, tuple[str, str, bytes, int]]] = deque()
        self._used_ahead: set[int] = set()
        self._moved: set[tuple[str, str, bytes, int]] = set()
        self._not_awaited = 0
        self._tasks_ahead: dict[tuple[str, str], frozenset[str]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing recorded is left."""
        return self._complete and not self._index

    def take(self, scope: Scope, content: bytes, occurrence: int) -> StepRecord | None:
        """Use the record of exactly this scope, content and occurrence."""
        place = (scope.container, scope.branch, content, occurrence)
        record = self._index.pop(place, None)
        while record is None and not self._complete and len(self._index) < _WINDOW * self._page:
            self._load_page()
            record = self._index.pop(place, None)
        if record is None and not self._complete:
            return self._take_ahead(lambda found: _place(found) == place, content)
        return record

    def take_elsewhere(self, scope: Scope, content: bytes) -> StepRecord | None:
        """Use a record of this content from another asyncio branch of the same container, siblings first."""
        candidates = self._content_index().get((scope.container, content), ())
        unused = [record for record in candidates if self._index.get(_place(record)) is record]
        if not unused:
            if self._complete:
                return None
            record = self._take_ahead(lambda found: found.container == scope.container, content)
        else:
            home = scope.branch.rpartition("/")[0]
            record = min(unused, key=lambda found: (found.branch.rpartition("/")[0] != home, found.seq))
            del self._index[_place(record)]
            self._trim()
        if record is not None:
            self._moved.add(_place(record))
        return record

    def exchange(self, record: StepRecord, fits: Callable[[StepRecord], bool]) -> StepRecord:
        """Give a used record back for an unused one of the same scope and content that fits, if there is one."""
        for other in self._content_index().get((record.container, record.content), ()):
            if other.branch == record.branch and self._index.get(_place(other)) is other and fits(other):
                del self._index[_place(other)]
                self._index[_place(record)] = record
                self._content_index()[record.container, record.content].append(record)
                return other
        return record

    def is_occupied(self, scope: Scope, content: bytes, occurrence: int) -> bool:
        """Whether a record of this key exists, used by a call in another scope or not used yet."""
        place = (scope.container, scope.branch, content, occurrence)
        return place in self._moved or place in self._index

    def unused_in(self, scope: Scope, is_candidate: Callable[[str], bool]) -> list[StepRecord]:
        """List unused records of this very scope whose task label `is_candidate`, the oldest first."""
        found = [
            record
            for (container, branch, _, _), record in self._index.items()
            if (container, branch) == (scope.container, scope.branch) and is_candidate(record.task)
        ]
        if not self._complete:
            tasks = tuple(label for label in self._labels_ahead(scope) if is_candidate(label))
            if tasks:
                query = StepQuery(
                    after=self._loaded, parent=self._parent, scope=(scope.container, scope.branch), tasks=tasks
                )
                found += self._unused_ahead(query)
        return sorted(found, key=lambda record: record.seq)

    def use(self, record: StepRecord) -> None:
        """Use a record that `unused_in` gave."""
        if self._index.pop(_place(record), None) is None:
            self._used_ahead.add(record.seq)
        self._trim()

    def first_unused(self) -> int | None:
        """Give the number of the oldest recorded call that is awaited: not made yet by this execution."""
        self._trim()
        while not self._order and not self._complete and not self._index and self._loaded >= self._not_awaited:
            self._load_page()
        return self._order[0][0] if self._order else None

    def stop_awaiting(self, seq: int) -> None:
        """Give up waiting for recorded calls up to this number; they stay usable."""
        self._not_awaited = max(self._not_awaited, seq)
        self._trim()

    def left_over(self, statuses: Iterable[str]) -> list[StepRecord]:
        """List unused records in these statuses, the oldest first."""
        wanted = tuple(statuses)
        found = [record for record in self._index.values() if record.status in wanted]
        if not self._complete:
            found += self._unused_ahead(StepQuery(after=self._loaded, parent=self._parent, statuses=wanted))
        return sorted(found, key=lambda record: record.seq)

    def _load_page(self) -> None:
        assert self._store is not None
        self._trim()
        page = self._store.steps(self._run_id, StepQuery(after=self._loaded, limit=self._page, parent=self._parent))
        for record in page:
            if record.seq > self._last:
                break
            self._loaded = record.seq
            if record.seq in self._used_ahead:
                self._used_ahead.discard(record.seq)
                continue
            place = (record.container, record.branch, record.content, record.occurrence)
            self._index[place] = record
            self._order.append((record.seq, place))
            if self._by_content is not None:
                self._by_content.setdefault((record.container, record.content), []).append(record)
        else:
            if page:
                return
        self._complete = True

    def _take_ahead(self, fits: Callable[[StepRecord], bool], content: bytes) -> StepRecord | None:
        query = StepQuery(after=self._loaded, parent=self._parent, content=content)
        record = next((found for found in self._unused_ahead(query) if fits(found)), None)
        if record is not None:
            self._used_ahead.add(record.seq)
        return record

    def _unused_ahead(self, query: StepQuery) -> list[StepRecord]:
        assert self._store is not None
        found = self._store.steps(self._run_id, query)
        return [record for record in found if record.seq <= self._last and record.seq not in self._used_ahead]

    def _labels_ahead(self, scope: Scope) -> frozenset[str]:
        assert self._store is not None
        where = (scope.container, scope.branch)
        if where not in self._tasks_ahead:
            query = StepQuery(after=self._loaded, parent=self._parent, scope=where)
            self._tasks_ahead[where] = self._store.step_tasks(self._run_id, query)
        return self._tasks_ahead[where]

    def _content_index(self) -> dict[tuple[str, bytes], list[StepRecord]]:
        if self._by_content is None:
            self._by_content = {}
            for record in self._index.values():
                self._by_content.setdefault((record.container, record.content), []).append(record)
        return self._by_content

    def _trim(self) -> None:
        order, index = self._order, self._index
        while order and (order[0][1] not in index or order[0][0] <= self._not_awaited):
            order.popleft()


def _place(record: StepRecord) -> tuple[str, str, bytes, int]:
    return (record.container, record.branch, record.content, record.occurrence)
