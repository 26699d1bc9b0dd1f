"""Two processes that start one run at the same moment: one executes it, the other is told so."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import pickle
import struct
import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did
from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene

pytestmark = pytest.mark.slow

_NUMBERS = struct.Struct("=i")


class Meeting:
    """Memory that two processes share: how far each of them is."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4 * 4)
        self.mine = 0

    def tell(self, what: int, number: int) -> None:
        """Let the other process see how far this one is."""
        _NUMBERS.pack_into(self._memory, 4 * (2 * what + self.mine), number)

    def wait(self, what: int, number: int) -> None:
        """Spin until the other process is as far: it is too soon for a pipe to wake anybody."""
        deadline = time.monotonic() + LIMIT
        while _NUMBERS.unpack_from(self._memory, 4 * (2 * what + 1 - self.mine))[0] < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The other process did not come to {number}.")
            os.sched_yield()


_READY, _ANSWERED = range(2)
meeting: Meeting


is_rehearsal = False


class RehearsalOverError(Exception):
    """Leaves a run unfinished."""


@task
def first(number: int) -> None:
    did(f"first {number}")


@task(idempotent=False)
def alone(number: int) -> int:
    did(f"alone {number}")
    meeting.wait(_ANSWERED, number)
    return os.getpid()


@workflow
def contended(number: int) -> int:
    first(number)
    if is_rehearsal:
        raise RehearsalOverError
    return alone(number)


@task
async def async_first(number: int) -> None:
    did(f"first {number}")


@task(idempotent=False)
async def async_alone(number: int) -> int:
    did(f"alone {number}")
    meeting.wait(_ANSWERED, number)
    return os.getpid()


@workflow
async def async_contended(number: int) -> int:
    await async_first(number)
    if is_rehearsal:
        raise RehearsalOverError
    return await async_alone(number)


Answers = list[tuple[int | str, int]]


def _play(rounds: int, is_async: bool, is_unfinished: bool) -> tuple[Answers, Answers]:
    """Play all rounds in this process and a fork of it; gives the answers of both."""
    global meeting
    meeting = Meeting()
    source, sink = os.pipe()
    if not os.fork():
        meeting.mine = 1
        with os.fdopen(sink, "wb") as pipe:
            pickle.dump(_play_rounds(rounds, is_async, is_unfinished), pipe)
        os._exit(0)
    os.close(sink)
    mine = _play_rounds(rounds, is_async, is_unfinished)
    with os.fdopen(source, "rb") as pipe:
        others = pickle.load(pipe)
    os.wait()
    return mine, others


def _play_rounds(rounds: int, is_async: bool, is_unfinished: bool) -> Answers:
    def start(number: int) -> int:
        return asyncio.run(async_contended(number)) if is_async else contended(number)

    return [_play_round(number, start, is_unfinished) for number in range(1, rounds + 1)]


def _play_round(number: int, start: Callable[[int], int], is_unfinished: bool) -> tuple[int | str, int]:
    """Start a run together with the other process, and again when both have their answers."""
    global is_rehearsal
    if is_unfinished and meeting.mine == number % 2:
        is_rehearsal = True
        with contextlib.suppress(RehearsalOverError):
            start(number)
        is_rehearsal = False
    meeting.tell(_READY, number)
    meeting.wait(_READY, number)
    answer: int | str
    try:
        answer = start(number)
    except durable.RunInProgressError as error:
        answer = type(error).__name__
    meeting.tell(_ANSWERED, number)
    meeting.wait(_ANSWERED, number)
    return answer, start(number)


@pytest.mark.parametrize(
    ("rounds", "is_async", "is_unfinished"),
    [
        pytest.param(500, False, False, id="sync-new"),
        pytest.param(200, False, True, id="sync-unfinished"),
        pytest.param(150, True, False, id="async-new"),
        pytest.param(150, True, True, id="async-unfinished"),
    ],
)
def test_one_of_two_starters_executes_the_run(scene: Scene, rounds: int, is_async: bool, is_unfinished: bool) -> None:
    """Two processes start the same run, new or unfinished, at the same moment: in each of many rounds one executes it,
    the other gets `RunInProgressError`, and both get the stored result afterwards."""
    mine, others = scene.start(_play, rounds, is_async, is_unfinished).value
    for answers in zip(mine, others, strict=True):
        told = [answer for answer, _ in answers]
        [winner] = [answer for answer in told if answer != "RunInProgressError"]
        assert "RunInProgressError" in told
        assert [after for _, after in answers] == [winner, winner]
    assert scene.ledger == [f"{name} {number}" for number in range(1, rounds + 1) for name in ("first", "alone")]
