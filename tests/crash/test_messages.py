"""Messages are consumed once and never lost, wherever sender and receiver are killed."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.mailboxes import COUNT, Box, begin, receive, receive_in_branches, send, send_to
from tests.crash.zygote import KILLED, Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = list(range(COUNT))
ROUNDS = 6  # in each of two tests with kills at random moments
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@pytest.fixture(scope="module")
def second_zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """Forks that live at the same time as those of the first."""
    with Zygote(request.module.__name__) as zygote:
        yield zygote


@both_kinds
@pytest.mark.parametrize("when", ["before", "after"])
def test_receiver_killed_at_every_commit(zygote: Zygote, memory_folder: str, when: str, is_async: bool) -> None:
    """Killed before or after every commit, and again at a commit of the resumption: each message is received once."""
    for number in count(1):
        box = Box(f"{memory_folder}/{number}.db", is_async)
        assert zygote.run(begin, box) == KILLED
        zygote.run(send, box)
        was_killed = zygote.run(receive, box, when, number) == KILLED
        zygote.run(receive, box, when, number % 3 + 1)
        assert zygote.run(receive, box) == ALL
        if not was_killed:
            break
    assert number > COUNT


@both_kinds
@pytest.mark.parametrize("when", ["before", "after"])
def test_sender_killed_at_every_commit(zygote: Zygote, memory_folder: str, when: str, is_async: bool) -> None:
    """Killed before or after every commit, between sending and recording it too: each message arrives once, in order,
    though nobody executed the receiver."""
    for number in count(1):
        box = Box(f"{memory_folder}/{number}.db", is_async)
        assert zygote.run(begin, box) == KILLED
        was_killed = zygote.run(send, box, when, number) == KILLED
        zygote.run(send, box)
        assert zygote.run(receive, box) == ALL
        if not was_killed:
            break
    assert number > COUNT


@pytest.mark.parametrize("when", ["before", "after"])
def test_branches_killed_at_every_commit(zygote: Zygote, memory_folder: str, when: str) -> None:
    """Branches that wait for the same name get one message each, whichever was recorded before the kill."""
    for number in count(1):
        box = Box(f"{memory_folder}/{number}.db", is_async=True)
        assert zygote.run(begin, box, "branches") == KILLED
        zygote.run(send_to, box, "branches", ["number"] * COUNT)
        was_killed = zygote.run(receive_in_branches, box, when, number) == KILLED
        assert zygote.run(receive_in_branches, box) == ALL
        if not was_killed:
            break
    assert number > COUNT


@both_kinds
def test_both_killed_at_any_moment(zygote: Zygote, second_zygote: Zygote, memory_folder: str, is_async: bool) -> None:
    """Sender and receiver, alive at the same time and killed at random moments: each message is received once."""
    seed = random.Random(is_async)
    lasts = 0.0
    with ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS + 1):
            box = Box(f"{memory_folder}/{number}.db", is_async)
            assert zygote.run(begin, box) == KILLED
            moments = [seed.uniform(0, lasts) for _ in range(4 if number else 0)]
            begun = time.monotonic()
            sending = pool.submit(_until_done, second_zygote, moments[:2], send, box)
            received = _until_done(zygote, moments[2:], receive, box)
            sending.result()
            assert received == ALL
            lasts = lasts or time.monotonic() - begun


def _until_done(zygote: Zygote, moments: list[float], function: Any, *args: Any) -> Any:
    """Start again what is killed after so many seconds each time, and in the end let it be."""
    for moment in moments:
        if (outcome := zygote.run(function, *args, blow=(moment, signal.SIGKILL))) != KILLED:
            return outcome
    return zygote.run(function, *args)
