"""Executes the submitted tasks of one execution: dependencies first, then by priority, never more at once than allowed.

A body that waits for another submitted task lends its slot, so bodies that wait for bodies never block each other.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from durable.concurrency.executors import Executors
from durable.concurrency.submissions import RUNNING
from durable.concurrency.workers import Workers
from durable.errors import ExecutionStopped, RunEndedError
from durable.steps.awaitables import running_loop, wake
from durable.telling.progress import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable.concurrency.places import Group
    from durable.concurrency.submissions import Submission
    from durable.runs.execution import Body, Execution

T = TypeVar("T")
_GRACE = 0.002  # seconds that an idle flow waits for more submissions: their intents share a commit, priorities count
_REPLAY_GRACE = 1.0  # at most, on a resumed run: until the code that submits waits for something


class Flow:
    """The submitted tasks of one execution of a run.

    `submitted` are those of each body that have not succeeded yet, `under_way` those that have begun and are not settled, and
    `tasks` the asyncio tasks that execute some of them.
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.executors = Executors(execution.workflow.max_workers, self._widen)
        self.counts = Counts()
        self.submitted: dict[Body, dict[Submission, None]] = {}
        self.tasks: dict[Submission, asyncio.Task[None]] = {}
        self.next_order = itertools.count().__next__
        self._lock = threading.Lock()
        self._workers = Workers(self, self._lock)
        self.under_way = self._workers.under_way
        self._is_over = False

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Take submissions of one body in the order in which they were made: all or, where a signal handler raises, none."""
        if not submissions:
            return
        if self._is_over:
            raise self.execution.told(ExecutionStopped(self._not_executed("a task was submitted and")))
        try:
            with self._lock:
                self.submitted.setdefault(submissions[0].body, {}).update(dict.fromkeys(submissions))
                self.counts.submitted += len(submissions)
                self._wait_for_more(submissions)
                if all(each.needs is None and each.match.record is None for each in submissions):
                    self._workers.add_all(submissions)
                    free = []
                else:
                    free = [submission for submission in submissions if not self._count_missing(submission)]
            self._advance(free)
        except BaseException:
            self._withdraw(submissions)
            raise

    def _withdraw(self, submissions: Sequence[Submission]) -> None:
        """Execute none of these that has not begun: who submits them was interrupted, and nobody has their futures."""
        with self._lock:
            taken = self.submitted.get(submissions[0].body, {})
            for submission in taken.keys() & submissions:
                if not (submission.is_settled or submission in self.under_way):
                    submission.is_taken = submission.is_settled = True
                    self.counts.settled += 1
                    self._forget(submission)
                    self._workers.release(submission)

    def _wait_for_more(self, submissions: Sequence[Submission]) -> None:
        """Let what follows be submitted before anything is taken; until then nobody knows which records are left over."""
        is_resumed = not submissions[0].match.scope.history.is_empty
        if is_resumed and any(submission.match.record is None for submission in submissions):
            self._workers.opening.postpone(_REPLAY_GRACE)
            if self.execution.root_task is not None:
                wake(self.execution.root_task.get_loop(), self.open)
        elif len(submissions) == 1 and self._workers.is_idle:
            self._workers.opening.postpone(_GRACE)

    def _count_missing(self, submission: Submission) -> int:
        """Have those that it waits for tell it when they are settled; gives how many there are."""
        needs = submission.needs
        if needs is None:
            return 0
        for dependency in {*needs.results, *needs.after}:
            if not dependency.is_settled:
                if dependency.dependants is None:
                    dependency.dependants = []
                dependency.dependants.append(submission)
                needs.missing += 1
        return needs.missing

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
                self._workers.add(queued, goes_on=goes_on)
        if self._is_over:
            self.give_up()

    def settle(self, submission: Submission, *, goes_on: bool = False) -> None:
        """Make the outcome of a submission known, and queue those that depend on it; see `_advance`."""
        free = self._conclude(submission, goes_on=goes_on)
        if free:
            self._advance(free, goes_on=goes_on)

    def _conclude(self, submission: Submission, *, goes_on: bool = False) -> list[Submission]:
        """Settle one; gives those whose last missing dependency it was."""
        with self._lock:
            submission.is_settled = True
            self.counts.settled += 1
            if submission.error is None:
                self._forget(submission)
            elif submission.culprit is not None:
                self.counts.skipped += 1
                self._forget(submission)
            elif not submission.has_outcome:
                self._forget(submission)
                if isinstance(submission.error, ExecutionStopped):
                    self.execution.told(submission.error, submission.body)
            self._workers.release(submission, goes_on=goes_on)
            callbacks, submission.callbacks = submission.callbacks, None
            free = self._freed_by(submission) if submission.dependants is not None else []
        if callbacks is not None:
            for callback in callbacks:
                callback(submission)
        submission.is_ending = False
        self.under_way.discard(submission)
        if submission.loop is not None:
            self.tasks.pop(submission, None)
        return free

    def _freed_by(self, submission: Submission) -> list[Submission]:
        free = []
        for dependant in submission.dependants or ():
            assert dependant.needs is not None
            dependant.needs.missing -= 1
            if not dependant.needs.missing:
                free.append(dependant)
        submission.dependants = None
        return free

    def _widen(self, group: Group, places: float) -> None:
        with self._lock:
            self._workers.widen(group, places)

    def _forget(self, submission: Submission) -> None:
        body = submission.match.frame.body
        siblings = self.submitted.get(body)
        if siblings is not None:
            siblings.pop(submission, None)
            if not siblings:
                del self.submitted[body]

    def add_callback(self, submission: Submission, callback: Callable[[Submission], object]) -> bool:
        """Have this called when it is settled; False if it is already."""
        with self._lock:
            if submission.is_settled:
                return False
            if submission.callbacks is None:
                submission.callbacks = []
            submission.callbacks.append(callback)
            return True

    def block(self, wait: Callable[[], T]) -> T:
        """Block this thread until `wait` returns; a body that waits lends its slot."""
        self.open()
        holder = self._holder()
        if holder is None:
            return wait()
        self._workers.lend(holder)
        try:
            return wait()
        finally:
            returned = threading.Lock()
            returned.acquire()
            if not self._workers.take_back(holder, returned.release):
                returned.acquire()

    async def pause(self, waiting: Awaitable[T]) -> T:
        """Await something; a body that waits lends its slot."""
        self.open()
        holder = self._holder()
        if holder is None:
            return await waiting
        self._workers.lend(holder)
        try:
            return await waiting
        finally:
            await self._returned(holder)

    async def _returned(self, holder: Submission) -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        if not self._workers.take_back(holder, partial(wake, loop, event.set)):
            await event.wait()

    def open(self) -> None:
        """Wait no longer for more submissions."""
        if not self._workers.opening.has_come:
            with self._lock:
                self._workers.opening.come()

    def _holder(self) -> Submission | None:
        holder = RUNNING.get()
        return holder if holder is not None and holder.flow is self and not holder.is_settled else None

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
            left = [each for each in self.submitted.get(body, ()) if not each.is_taken or self._is_only_scheduled(each)]
            for submission in left:
                submission.is_taken = True
                if submission in self.tasks:
                    self.tasks[submission].cancel()
        for submission in left:
            error = self._not_executed(f"step {submission.key!r}")
            submission.end(None, ExecutionStopped(error) if self._is_over else error)
            self._conclude(submission)

    def _not_executed(self, what: str) -> RunEndedError:
        run = self.execution.id
        return RunEndedError(f"Run {run} is ending; {what} was not executed.", run)

    def _is_only_scheduled(self, submission: Submission) -> bool:
        """Whether its asyncio task is there and has not begun: cancelled now, it would never tell that it has ended."""
        here = submission.loop is not None and submission.loop is running_loop()
        return here and submission in self.tasks and submission.life is None and not submission.is_settled

    def reopen(self) -> None:
        """Take submissions again: those of compensations, after everything else was given up."""
        self._is_over = False

    def close(self) -> None:
        """End the threads and the executors that were made here."""
        self.give_up()
        self._workers.close()
        self.executors.close()


def flow_of(execution: Execution) -> Flow:
    """Give the flow of an execution, which has one from its first submission on."""
    with execution.lock:
        if execution.flow is None:
            execution.flow = Flow(execution)
        return execution.flow
