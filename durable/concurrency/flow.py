"""Executes the submitted tasks of one execution: dependencies first, then by priority, never more at once than allowed.

A body is given a slot before its intent is written and keeps it until it has ended; one that waits for another submitted
task lends its slot, so bodies that wait for bodies never block each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from durable.concurrency.executors import Executors
from durable.concurrency.places import Opening, Slots
from durable.concurrency.submissions import RUNNING
from durable.errors import RunEndedError, StoreError
from durable.telling.progress import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable.concurrency.submissions import Submission
    from durable.runs.execution import Body, Execution

T = TypeVar("T")
_Entry = tuple[float, int, "Submission"]  # the largest priority first, then the order of submission

_THREADS = 32  # at most, where @workflow(max_workers=...) does not say
_GRACE = 0.002  # seconds that an idle flow waits for more submissions: their intents share a commit, priorities count
_REPLAY_GRACE = 1.0  # at most, on a resumed run: until the code that submits waits for something


class Flow:
    """The submitted tasks of one execution of a run.

    `submitted` are those of each body that have not succeeded yet, `ending` those whose completion is being numbered, and
    `tasks` the asyncio tasks that execute some of them.
    """

    def __init__(self, execution: Execution) -> None:
        limit = execution.workflow.max_workers
        self.execution = execution
        self.executors = Executors(limit)
        self.counts = Counts()
        self.submitted: dict[Body, dict[Submission, None]] = {}
        self.ending: set[Submission] = set()
        self.tasks: dict[Submission, asyncio.Task[None]] = {}
        self.orders = itertools.count()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._opening = Opening(self._lock)
        self._slots = Slots(limit or _THREADS)
        self._task_slots = self._slots if limit else Slots(float("inf"))
        self._ready: list[_Entry] = []
        self._ready_tasks: list[_Entry] = []
        self._begun: deque[Submission] = deque()
        self._idle = 0
        self._is_waking = False  # one thread at a time is on its way, and wakes the next
        self._is_beginning = False  # one thread at a time, so that what is ready by then shares a commit
        self._executing = 0
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._is_over = self._is_closed = False

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Take submissions in the order in which they were made."""
        with self._lock:
            if self._is_over:
                run = self.execution.id
                raise RunEndedError(f"Run {run} is ending; a task was submitted and was not executed.", run)
            for submission in submissions:
                self.submitted.setdefault(submission.body, {})[submission] = None
                for dependency in {*submission.needed, *submission.after}:
                    if not dependency.is_settled:
                        dependency.dependants.append(submission)
                        submission.missing += 1
            self._wait_for_more(submissions)
            free = [submission for submission in submissions if not submission.missing]
            self.counts.submitted += len(submissions)
        self._advance(free)

    def _wait_for_more(self, submissions: Sequence[Submission]) -> None:
        """Let what follows be submitted before anything is taken; until then nobody knows which records are left over."""
        if any(submission.is_new_to_the_run for submission in submissions):
            self._opening.postpone(_REPLAY_GRACE)
            if self.execution.root_task is not None:
                self.execution.root_task.get_loop().call_soon_threadsafe(self.open)
        elif len(submissions) == 1 and not self._executing and not self._ready:
            self._opening.postpone(_GRACE)

    def _advance(self, waiting: list[Submission], *, goes_on: bool = False) -> None:
        """Settle what is over without executing a body, with all that follows from it, and queue the rest.

        With `goes_on` the calling thread looks at once itself at what is ready.
        """
        waiting.reverse()
        queued = []
        while waiting:
            submission = waiting.pop()
            with self._lock:
                if submission.is_taken:
                    continue
                submission.is_taken = True
            if submission.prepare():
                waiting += reversed(self._conclude(submission))
            else:
                queued.append(submission)
        if queued:
            with self._lock:
                for submission in queued:
                    submission.is_taken = False
                    self._queue(submission)
                self._wake(thread=not goes_on)
            if self._is_over:
                self.give_up()

    def _queue(self, submission: Submission) -> None:
        entry = -submission.step.task.priority, submission.order, submission
        group = submission.group
        if group is not None and not submission.has_place:
            if not group.places:
                heapq.heappush(group.waiting, entry)
                return
            group.places -= 1
            submission.has_place = True
        heapq.heappush(self._ready if submission.loop is None else self._ready_tasks, entry)

    def settle(self, submission: Submission, *, goes_on: bool = False) -> None:
        """Make the outcome of a submission known, and queue those that depend on it; see `_advance`."""
        self._advance(self._conclude(submission, goes_on=goes_on), goes_on=goes_on)

    def _conclude(self, submission: Submission, *, goes_on: bool = False) -> list[Submission]:
        """Settle one; gives those whose last missing dependency it was."""
        with self._lock:
            submission.is_settled = True
            self.counts.settle(submission)
            callbacks, submission.callbacks = submission.callbacks, []
            free = []
            for dependant in submission.dependants:
                dependant.missing -= 1
                if not dependant.missing:
                    free.append(dependant)
            submission.dependants = []
            if submission.error is None or submission.was_skipped or not submission.has_outcome:
                self._forget(submission)
            if submission.has_slot:
                submission.has_slot = False
                self._executing -= 1
                (self._slots if submission.loop is None else self._task_slots).release()
            if submission.has_place:
                self._pass_place_on(submission)
            if self._ready or self._ready_tasks:
                self._wake(thread=not goes_on)
        for callback in callbacks:
            callback(submission)
        submission.is_ending = False
        self.ending.discard(submission)
        self.tasks.pop(submission, None)
        return free

    def _forget(self, submission: Submission) -> None:
        siblings = self.submitted.get(submission.body)
        if siblings is not None:
            siblings.pop(submission, None)
            if not siblings:
                del self.submitted[submission.body]

    def _pass_place_on(self, submission: Submission) -> None:
        assert submission.group is not None
        group, submission.has_place = submission.group, False
        group.places += 1
        while group.places and group.waiting:
            following = heapq.heappop(group.waiting)[2]
            if not following.is_taken:
                self._queue(following)

    def add_callback(self, submission: Submission, callback: Callable[[Submission], object]) -> bool:
        """Have this called when it is settled; False if it is already."""
        with self._lock:
            if submission.is_settled:
                return False
            submission.callbacks.append(callback)
            return True

    def _wake(self, *, thread: bool = True) -> None:
        """Let somebody look at what is ready; the lock is held."""
        if (
            thread
            and not self._is_waking
            and (self._begun or (self._ready and self._slots.free > 0 and not self._is_beginning))
        ):
            self._is_waking = True
            if self._idle:
                self._idle -= 1
                self._work.notify()
            else:
                name = f"durable-{self.execution.id}"
                threading.Thread(target=self._execute_in_thread, name=name, daemon=True).start()
        if self._ready_tasks and self._task_slots.free > 0:
            for loop in {submission.loop for _, _, submission in self._ready_tasks} - self._loops:
                assert loop is not None
                self._loops.add(loop)
                try:
                    loop.call_soon_threadsafe(self._start_tasks, loop)
                except RuntimeError:  # the loop was closed: nobody waits there any more
                    self._loops.discard(loop)

    def _execute_in_thread(self) -> None:
        is_woken = True
        while True:
            batch: list[Submission] = []
            begun: Submission | None = None
            with self._lock:
                while True:
                    if is_woken:
                        self._is_waking = is_woken = False
                    if self._begun:
                        begun = self._begun.popleft()
                        self._wake()
                        break
                    may_take = self._ready and self._slots.free > 0 and not self._is_beginning
                    if may_take and self._opening.has_come:
                        batch = self._take(self._ready, self._slots)
                        self._is_beginning = bool(batch)
                    if batch:
                        break
                    if self._is_closed:
                        return
                    if may_take:
                        self._opening.wait()
                    else:
                        self._idle += 1
                        self._work.wait()
                        is_woken = True
            if begun is not None:
                begun.context.run(begun.drive)
            else:
                self._begin(batch)

    def _take(self, ready: list[_Entry], slots: Slots) -> list[Submission]:
        taken = []
        while ready and slots.free > 0:
            submission = heapq.heappop(ready)[2]
            if not submission.is_taken:
                submission.is_taken = submission.has_slot = True
                self._executing += 1
                slots.free -= 1
                taken.append(submission)
        return taken

    def _begin(self, batch: list[Submission]) -> None:
        """Write the intents of all in one commit; then each is executed by whichever thread comes first."""
        begun = []
        for submission in batch:
            if submission.begin():
                begun.append(submission)
            else:
                self.settle(submission)
        ticket = max((submission.ticket for submission in begun), default=0)
        if ticket:
            with contextlib.suppress(StoreError):  # each of them stops for it
                self.execution.journal.flush(ticket)
        with self._lock:
            self._begun += begun
            self._is_beginning = False

    def _start_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loops.discard(loop)
            batch = self._take(self._ready_tasks, self._task_slots)
        for submission in batch:
            assert submission.loop is not None
            task = submission.loop.create_task(submission.drive_async(), context=submission.context)
            if not submission.is_settled:
                self.tasks[submission] = task

    def block(self, wait: Callable[[], T]) -> T:
        """Block this thread until `wait` returns; a body that waits lends its slot."""
        self.open()
        holder = self._holder()
        if holder is None:
            return wait()
        self._lend(holder)
        try:
            return wait()
        finally:
            returned = threading.Lock()
            returned.acquire()
            if not self._take_back(holder, returned.release):
                returned.acquire()

    async def pause(self, waiting: Awaitable[T]) -> T:
        """Await something; a body that waits lends its slot."""
        self.open()
        holder = self._holder()
        if holder is None:
            return await waiting
        self._lend(holder)
        try:
            return await waiting
        finally:
            await self._returned(holder)

    async def _returned(self, holder: Submission) -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        if not self._take_back(holder, lambda: loop.call_soon_threadsafe(event.set)):
            await event.wait()

    def open(self) -> None:
        """Wait no longer for more submissions."""
        if not self._opening.has_come:
            with self._lock:
                self._opening.come()

    def _holder(self) -> Submission | None:
        holder = RUNNING.get()
        return holder if holder is not None and holder.flow is self and not holder.is_settled else None

    def _lend(self, holder: Submission) -> None:
        with self._lock:
            holder.waits += 1
            if holder.waits == 1 and holder.has_slot:
                holder.has_slot = False
                self._executing -= 1
                (self._slots if holder.loop is None else self._task_slots).release()
                self._wake()

    def _take_back(self, holder: Submission, go_on: Callable[[], object]) -> bool:
        """Take a slot again, or have `go_on` called with it; True if there is nothing to wait for."""
        slots = self._slots if holder.loop is None else self._task_slots

        def take() -> bool:
            if holder.is_settled:
                return False
            holder.has_slot = True
            self._executing += 1
            go_on()
            return True

        with self._lock:
            holder.waits -= 1
            if holder.waits or holder.has_slot or holder.is_settled:
                return True
            if slots.free > 0:
                slots.free -= 1
                holder.has_slot = True
                self._executing += 1
                return True
            slots.returning.append(take)
            return False

    def unsettled(self, body: Body) -> list[Submission]:
        """List what a body has submitted and has not ended."""
        with self._lock:
            return [each for each in self.submitted.get(body, ()) if not each.is_settled]

    def overlooked(self, body: Body) -> list[Submission]:
        """List what a body has submitted, has failed and was not looked at."""
        with self._lock:
            failed = [each for each in self.submitted.get(body, ()) if each.is_settled and each.error is not None]
        return [each for each in failed if not each.is_looked_at]

    def give_up(self) -> None:
        """Settle what has not begun without executing it; nothing more is taken."""
        self._is_over = True
        for body in list(self.submitted):
            self.give_up_below(body)

    def give_up_below(self, body: Body) -> None:
        """Settle what a body has submitted and has not begun without executing it."""
        with self._lock:
            left = [each for each in self.submitted.get(body, ()) if not each.is_taken]
            for submission in left:
                submission.is_taken = True
        run = self.execution.id
        for submission in left:
            submission.end(None, RunEndedError(f"Run {run} is ending; step {submission.key!r} was not executed.", run))
            self._conclude(submission)

    def close(self) -> None:
        """End the threads and the executors that were made here."""
        self.give_up()
        with self._lock:
            self._is_closed = True
            self._work.notify_all()
        self.executors.close()


def flow_of(execution: Execution) -> Flow:
    """Give the flow of an execution, which has one from its first submission on."""
    with execution.lock:
        if execution.flow is None:
            execution.flow = Flow(execution)
        return execution.flow
