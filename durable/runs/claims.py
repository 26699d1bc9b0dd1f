"""A run belongs to one caller at a time: other processes are kept out by the store, callers of this process here.

To the store all callers of a process are the same owner, and each claim shuts out what was claimed before.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.errors import RunInProgressError
from durable.journal import Fence
from durable.runs import sessions
from durable.steps.effects import Effect, uninterrupted
from durable.telling import notices

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import Claim, RunRecord, StepRecord
    from durable.runs.sessions import Session


class Opening:
    """Keeps other callers of this process from claiming a run; raises `RunInProgressError` if one has it.

    A class and not a generator: Ctrl-C between its lines must not leave the run closed for good.
    """

    __slots__ = ("_is_open", "_run", "_session")

    def __init__(self, session: Session, run: RunRecord) -> None:
        self._session = session
        self._run = run
        self._is_open = False

    def __enter__(self) -> None:
        active = self._session.active.get(self._run.id)
        if active is not None:
            active.end_if_abandoned()
        try:
            with self._session.guard:
                self._enter()
        except BaseException:
            self.__exit__()
            raise

    def _enter(self) -> None:
        session, run = self._session, self._run
        active = session.active.get(run.id)
        if active is not None or run.id in session.opening:
            raise in_progress(active.run if active is not None else run, "in this process")
        self._is_open = True
        session.opening.add(run.id)

    def __exit__(self, *_: object) -> None:
        if self._is_open:
            self._session.opening.discard(self._run.id)


class Claiming(Effect):
    """A run is claimed for this process, and given back if nobody waits for it any more."""

    __slots__ = ("_run_id", "_session")

    def __init__(self, session: Session, run_id: str) -> None:
        self._session = session
        self._run_id = run_id

    def act(self) -> Claim:
        run_id = self._run_id
        claim = self._session.claim(run_id, sessions.clock())
        if claim is None:
            raise RunInProgressError(f"Run {run_id} was removed while it was opened. Call again.", run_id)
        if not claim.granted:
            raise in_progress(claim.run, f"on {claim.run.host} with pid {claim.run.pid}")
        return claim

    async def act_async(self) -> Claim:
        claiming = asyncio.ensure_future(asyncio.to_thread(self.act))
        try:
            claim: Claim = await uninterrupted(claiming)
        except asyncio.CancelledError:
            if not claiming.cancelled() and claiming.exception() is None:
                claim = claiming.result()
                leave(self._session, claim, before(claim))
            raise
        return claim


def before(claim: Claim) -> RunRecord:
    """Give the run as it was before a claim that was granted."""
    assert claim.previous is not None
    return claim.previous


def leave(session: Session, claim: Claim, run: RunRecord, steps: Iterable[StepRecord] = ()) -> int:
    """Give a claimed run back with this record and what changed in its steps; the ticket says when that is durable."""
    epoch = claim.run.epoch
    fence = Fence(run.id, epoch, claim.run.owner, lambda: None)
    for step in steps:
        session.journal.append(fence, step._replace(epoch=epoch))
    return session.journal.append(fence, replace(run, owner="", epoch=epoch))


def in_progress(run: RunRecord, where: str) -> RunInProgressError:
    """Say who holds a run."""
    begun = notices.age(sessions.clock() - run.updated_at)
    return RunInProgressError(f"Run {run.id} is in progress {where}, begun {begun}. {notices.waiting_way(run)}", run.id)
