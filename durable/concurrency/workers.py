"""Who executes the submitted tasks of one execution that are ready: threads and event loops, never more at once than allowed.

A body is given a slot before its intent is written and keeps it until it has ended. Intents of bodies that begin at the same
time share a commit; each body is then executed by whichever thread comes first.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from durable.concurrency.places import Opening, Slots, Turns
from durable.errors import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from durable.concurrency.flow import Flow
    from durable.concurrency.places import Group
    from durable.concurrency.submissions import Submission

_THREADS = 32  # at most, where @workflow(max_workers=...) does not say


class Workers:
    """Threads and event loops that execute what is ready; `under_way` are those that have begun and are not settled.

    Methods that say so are called with the flow's lock held.
    """

    def __init__(self, flow: Flow, lock: threading.Lock) -> None:
        limit = flow.execution.workflow.max_workers
        self.opening = Opening(lock)
        self.under_way: set[Submission] = set()
        self._flow = flow
        self._lock = lock
        self._work = threading.Condition(lock)
        self._slots = Slots(limit or _THREADS)
        self._task_slots = self._slots if limit else Slots(float("inf"))
        self._ready = Turns()
        self._ready_tasks = Turns()
        self._begun: deque[Submission] = deque()
        self._idle = 0
        self._is_waking = False  # one thread at a time is on its way, and wakes the next
        self._is_beginning = False  # one thread at a time, so that what is ready by then shares a commit
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no thread has anything to do."""
        return not self.under_way and not self._ready

    def add(self, submissions: Iterable[Submission], *, goes_on: bool = False) -> None:
        """Have submissions executed when it is their turn; with `goes_on` the calling thread looks itself. Needs the lock."""
        for submission in submissions:
            group = submission.group
            if group is None:
                self._ready_beside(submission).add(submission)
            else:
                group.waiting.add(submission)
                self._fill(group)
        self._wake(thread=not goes_on)

    def add_all(self, submissions: Sequence[Submission]) -> None:
        """Do what `add` does for calls of one task that were submitted one after the other. Needs the lock."""
        group = submissions[0].group
        if group is None:
            self._ready_beside(submissions[0]).add_all(submissions)
        else:
            group.waiting.add_all(submissions)
            self._fill(group)
        self._wake()

    def release(self, submission: Submission, *, goes_on: bool = False) -> None:
        """Take back the slot of one that has ended, and pass on its place in its map. Needs the lock."""
        if submission.has_slot:
            submission.has_slot = False
            slots = self._slots if submission.loop is None else self._task_slots
            if slots.returning:
                slots.release()
            else:
                slots.free += 1
        if submission.place is not None:
            self._leave(submission)
        if not goes_on or self._ready_tasks:
            self._wake(thread=not goes_on)

    def widen(self, group: Group, places: float) -> None:
        """Give a group more places. Needs the lock."""
        group.places += places
        self._fill(group)
        self._wake()

    def _fill(self, group: Group) -> None:
        while group.places and (submission := group.waiting.next()) is not None:
            if not submission.is_taken:
                group.places -= 1
                submission.place = group
                if group.around is None:
                    self._ready_beside(submission).add(submission)
                else:
                    group.around.waiting.add(submission)
                    self._fill(group.around)

    def _leave(self, submission: Submission) -> None:
        """Pass on the places of a submission in its groups, the outermost one being `place`."""
        group, last = submission.group, submission.place
        submission.place = None
        while group is not None:
            group.places += 1
            self._fill(group)
            group = group.around if group is not last else None

    def _ready_beside(self, submission: Submission) -> Turns:
        return self._ready if submission.loop is None else self._ready_tasks

    def _wake(self, *, thread: bool = True) -> None:
        """Let somebody look at what is ready; the lock is held."""
        if (
            thread
            and not self._is_waking
            and (self._begun or (self._ready and self._slots.free > 0 and not self._is_beginning))
        ):
            try:
                self._is_waking = True
                self._wake_thread()
            except BaseException:  # a signal handler raised: nobody may be on the way
                self._is_waking = False
                raise
        if self._ready_tasks and self._task_slots.free > 0:
            for loop in {submission.loop for submission in self._ready_tasks} - self._loops:
                assert loop is not None
                self._loops.add(loop)
                try:
                    loop.call_soon_threadsafe(self._start_tasks, loop)
                except RuntimeError:  # the loop was closed: nobody waits there any more
                    self._loops.discard(loop)

    def _wake_thread(self) -> None:
        if self._idle:
            self._idle -= 1
            self._work.notify()
        else:
            name = f"durable-{self._flow.execution.id}"
            threading.Thread(target=self._execute_in_thread, name=name, daemon=True).start()

    def _execute_in_thread(self) -> None:
        """Execute what has begun, one after the other; begin what is ready when nothing has."""
        begun = self._begun
        self._is_waking = False
        while (batch := self._next_batch()) is not None:
            if batch:
                self._begin(batch)
            while begun:
                try:
                    submission = begun.popleft()
                except IndexError:  # another thread was quicker
                    break
                if not self._is_waking and (begun or self._ready):
                    with self._lock:
                        self._wake()
                submission.context.copy().run(submission.drive)

    def _next_batch(self) -> list[Submission] | None:
        """Wait for something to do in a thread; gives what is to be begun, None if there will be nothing more."""
        with self._lock:
            while True:
                if self._begun:
                    return []
                may_take = self._ready and self._slots.free > 0 and not self._is_beginning
                if may_take and self.opening.has_come:
                    batch = self._take(self._ready, self._slots)
                    self._is_beginning = bool(batch)
                    if batch:
                        return batch
                if self._is_closed:
                    return None
                if may_take:
                    self.opening.wait()
                else:
                    self._idle += 1
                    self._work.wait()
                    self._is_waking = False

    def _take(self, ready: Turns, slots: Slots) -> list[Submission]:
        taken: list[Submission] = []
        while len(taken) < slots.free and (submission := ready.next()) is not None:
            if not submission.is_taken:
                submission.is_taken = submission.has_slot = True
                taken.append(submission)
        slots.free -= len(taken)
        self.under_way.update(taken)
        return taken

    def _begin(self, batch: Sequence[Submission]) -> None:
        """Write the intents of all in one commit."""
        begun = []
        for submission in batch:
            if submission.begin():
                begun.append(submission)
            else:
                self._flow.settle(submission)
        ticket = next((each.ticket for each in reversed(begun) if each.ticket), 0)  # they grow from one to the next
        if ticket:
            with contextlib.suppress(StoreError):  # each of them stops for it
                self._flow.execution.journal.flush(ticket)
        with self._lock:
            self._begun += begun
            self._is_beginning = False

    def _start_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loops.discard(loop)
            batch = self._take(self._ready_tasks, self._task_slots)
        for submission in batch:
            assert submission.loop is not None
            task = submission.loop.create_task(submission.drive_async(), context=submission.context.copy())
            if not submission.is_settled:
                self._flow.tasks[submission] = task

    def lend(self, holder: Submission) -> None:
        """Let others have the slot of a body that waits."""
        with self._lock:
            holder.waits += 1
            if holder.waits == 1 and holder.has_slot:
                holder.has_slot = False
                (self._slots if holder.loop is None else self._task_slots).release()
                self._wake()

    def take_back(self, holder: Submission, go_on: Callable[[], object]) -> bool:
        """Take a slot again, or have `go_on` called with it; True if there is nothing to wait for."""
        slots = self._slots if holder.loop is None else self._task_slots

        def take() -> bool:
            if holder.is_settled:
                return False
            holder.has_slot = True
            go_on()
            return True

        with self._lock:
            holder.waits -= 1
            if holder.waits or holder.has_slot or holder.is_settled:
                return True
            if slots.free > 0:
                slots.free -= 1
                holder.has_slot = True
                return True
            slots.returning.append(take)
            return False

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            self._is_closed = True
            self._work.notify_all()
