"""Recorded steps of earlier executions, matched by content; every record is used at most once.

One `StepHistory` holds what was recorded below one step (or in the workflow itself). It is read page by page in the
order of the calls and forgets what was used, so a replayed step costs no query and a long run does not have to fit in
memory. A call that the loaded pages do not hold is looked up by content in the store.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from durable.records import StepQuery, StepRecord, StepStatus
from durable.step_pages import all_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable.identity.step_keys import Scope
    from durable.stores.protocol import Store

_Where = tuple[str, str]  # container and branch
_Place = tuple[str, str, bytes, int]  # container, branch, content and occurrence
_PAGE = 1000
_WINDOW = 2  # pages of unused records in memory beyond which a miss is looked up in the store
_SEQ = itemgetter(StepRecord._fields.index("seq"))
_place: Callable[[StepRecord], _Place] = itemgetter(  # neither a call in Python nor of the descriptors of a named tuple
    *map(StepRecord._fields.index, ("container", "branch", "content", "occurrence"))
)


class StepHistory:
    """Unused records below the step `parent` (0: the workflow itself) with `seq` up to `last`."""

    def __init__(self, store: Store | None, run_id: str, parent: int, last: int, *, page: int = _PAGE) -> None:
        self._page = page
        self._store = store
        self._run_id = run_id
        self.parent = parent
        self._last = last
        self._loaded = parent
        self._complete = store is None or last <= parent
        self._index: dict[_Place, StepRecord] = {}
        self._by_content: dict[tuple[str, bytes], dict[_Place, StepRecord]] | None = None
        self._order: deque[tuple[int, _Place]] | None = None
        self._used_ahead: set[int] = set()
        self._read = 0
        self._moved: set[_Place] = set()
        self._not_awaited = 0
        self._tasks_ahead: dict[_Where | None, frozenset[str]] = {}
        self._entered: set[_Where] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing recorded is left."""
        return self._complete and not self._index

    @property
    def has_moved(self) -> bool:
        """Whether records were used by calls with other keys than theirs, which stay taken."""
        return bool(self._moved)

    @property
    def used(self) -> int:
        """How many records were used, without those that were looked up far ahead."""
        return max(0, self._read - len(self._index))

    def is_earlier(self, record: StepRecord) -> bool:
        """Whether a call was made by an earlier execution."""
        return record.seq <= self._last

    def take(self, scope: Scope, content: bytes, occurrence: int) -> StepRecord | None:
        """Use the record of exactly this scope, content and occurrence."""
        place = (scope.container, scope.branch, content, occurrence)
        record = self._index.pop(place, None)
        if record is None:
            return None if self._complete else self._take_later(place)
        if self._by_content is not None:
            self._forget_content(place)
        return record

    def take_elsewhere(self, scope: Scope, content: bytes) -> StepRecord | None:
        """Use a record of this content from another asyncio branch of the same container, siblings first."""
        unused = self._content_index().get((scope.container, content))
        if unused:
            home = scope.branch.rpartition("/")[0]
            record: StepRecord | None = min(
                unused.values(), key=lambda found: (found.branch.rpartition("/")[0] != home, found.seq)
            )
            assert record is not None
            self._drop(_place(record))
        elif self._complete:
            return None
        else:
            query = StepQuery(parent=self.parent, content=content)
            record = self._take_ahead(query, lambda found: found.container == scope.container)
        if record is not None:
            self._moved.add(_place(record))
        return record

    def exchange(self, record: StepRecord, fits: Callable[[StepRecord], bool]) -> StepRecord:
        """Give a used record back for an unused one of the same scope and content that fits, if there is one."""
        for place, other in self._content_index().get((record.container, record.content), {}).items():
            if other.branch == record.branch and fits(other):
                self._drop(place)
                self._moved.add(place)
                self._add(record)
                return other
        return record

    def is_occupied(self, scope: Scope, content: bytes, occurrence: int) -> bool:
        """Whether a record of this key exists, used by a call in another scope or not used yet."""
        place = (scope.container, scope.branch, content, occurrence)
        return place in self._moved or place in self._index

    def unused(
        self,
        is_candidate: Callable[[str], bool],
        *,
        where: _Where | None = None,
        fits: Callable[[StepRecord], bool] = lambda _: True,
    ) -> list[StepRecord]:
        """List unused records whose task label `is_candidate` and that fit, the oldest first; `where` limits them to a scope.

        Of those that are not loaded: the oldest ones, and all that were left running.
        """
        found = [
            record
            for (container, branch, _, _), record in self._index.items()
            if where in (None, (container, branch)) and is_candidate(record.task) and fits(record)
        ]
        if not self._complete:
            tasks = tuple(label for label in self._labels_ahead(where) if is_candidate(label))
            if tasks:
                query = StepQuery(parent=self.parent, scope=where, tasks=tasks)
                found += islice(filter(fits, self._unused_ahead(query)), self._page)
                known = {record.seq for record in found}
                running = self._unused_ahead(replace(query, statuses=(StepStatus.STARTED,)))
                found += [record for record in running if record.seq not in known and fits(record)]
        return sorted(found, key=lambda record: record.seq)

    def enter(self, container: str, branch: str) -> None:
        """Note that this execution has an asyncio task of this name."""
        if not self.is_empty:
            self._entered.add((container, branch))

    def is_entered(self, container: str, branch: str) -> bool:
        """Whether this execution has an asyncio task of this name."""
        return (container, branch) in self._entered

    def use(self, record: StepRecord) -> None:
        """Use a record that `unused` gave."""
        self._moved.add(_place(record))
        if _place(record) in self._index:
            self._drop(_place(record))
        else:
            self._used_ahead.add(record.seq)

    def first_unused(self) -> int | None:
        """Give the number of the oldest recorded call that is awaited: not made yet by this execution."""
        order = self._trimmed_order()
        while not order and not self._complete and not self._index and self._loaded >= self._not_awaited:
            self._load_page()
        return order[0][0] if order else None

    def stop_awaiting(self, seq: int) -> None:
        """Give up waiting for recorded calls up to this number; they stay usable."""
        self._not_awaited = max(self._not_awaited, seq)

    def extent(self) -> tuple[int, list[int], list[int]]:
        """Tell up to which number records were read, which of those were not used, and which of those beyond were."""
        loaded = self._last if self._complete else self._loaded
        unused = [record.seq for record in self._index.values()]
        return loaded, unused, [number for number in self._used_ahead if number > loaded]

    def _load_page(self) -> None:
        assert self._store is not None
        query = StepQuery(after=self._loaded, limit=self._page, parent=self.parent, lean=True)
        page = self._store.steps(self._run_id, query)
        if not page or page[-1].seq > self._last:
            self._complete = True
            page = [record for record in page if record.seq <= self._last]
        if page:
            self._loaded = page[-1].seq
        if self._used_ahead:
            unused = [record for record in page if record.seq not in self._used_ahead]
            self._used_ahead.difference_update(map(_SEQ, page))
            page = unused
        places = list(map(_place, page))
        self._read += len(page)
        self._index.update(zip(places, page, strict=True))
        if self._order is not None:
            self._trimmed_order().extend(zip(map(_SEQ, page), places, strict=True))
        if self._by_content is not None:
            for record in page:
                self._add_content(record)

    def _take_later(self, place: _Place) -> StepRecord | None:
        """Use a record that is not loaded, with the pages up to it unless they are too many."""
        while not self._complete and len(self._index) < _WINDOW * self._page:
            self._load_page()
            if place in self._index:
                record = self._index[place]
                self._drop(place)
                return record
        if self._complete:
            return None
        container, branch, content, occurrence = place
        query = StepQuery(parent=self.parent, content=content, scope=(container, branch))
        return self._take_ahead(query, lambda found: found.occurrence == occurrence)

    def _add(self, record: StepRecord) -> None:
        self._index[_place(record)] = record
        if self._by_content is not None:
            self._add_content(record)

    def _add_content(self, record: StepRecord) -> None:
        assert self._by_content is not None
        self._by_content.setdefault((record.container, record.content), {})[_place(record)] = record

    def _drop(self, place: _Place) -> None:
        del self._index[place]
        if self._by_content is not None:
            self._forget_content(place)

    def _forget_content(self, place: _Place) -> None:
        assert self._by_content is not None
        alike = self._by_content[place[0], place[2]]
        del alike[place]
        if not alike:
            del self._by_content[place[0], place[2]]

    def _take_ahead(self, query: StepQuery, fits: Callable[[StepRecord], bool]) -> StepRecord | None:
        record = next((found for found in self._unused_ahead(query) if fits(found)), None)
        if record is not None:
            self._used_ahead.add(record.seq)
        return record

    def _unused_ahead(self, query: StepQuery) -> Iterator[StepRecord]:
        """Read what matches and is not loaded yet, page by page."""
        assert self._store is not None
        ahead = replace(query, after=self._loaded, limit=self._page)
        for record in all_steps(self._store, self._run_id, ahead):
            if record.seq > self._last:
                return
            if record.seq not in self._used_ahead:
                yield record

    def _labels_ahead(self, where: _Where | None) -> frozenset[str]:
        assert self._store is not None
        if where not in self._tasks_ahead:
            query = StepQuery(after=self._loaded, parent=self.parent, scope=where)
            self._tasks_ahead[where] = self._store.step_tasks(self._run_id, query)
        return self._tasks_ahead[where]

    def _content_index(self) -> dict[tuple[str, bytes], dict[_Place, StepRecord]]:
        if self._by_content is None:
            self._by_content = {}
            for record in self._index.values():
                self._add_content(record)
        return self._by_content

    def _trimmed_order(self) -> deque[tuple[int, _Place]]:
        """Give numbers and places of what is loaded, without a beginning that is not awaited; kept once it was asked for."""
        index = self._index
        if self._order is None:
            self._order = deque(sorted((record.seq, place) for place, record in index.items()))
        order = self._order
        if not index:
            order.clear()
        while order and (order[0][1] not in index or order[0][0] <= self._not_awaited):
            order.popleft()
        return order
