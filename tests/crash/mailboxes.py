"""A run that sends numbered messages and one that receives them, each in processes that may be killed.

What was received is the receiver's result: each number once and in order, wherever either of them was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import durable
from durable import task, workflow
from tests.crash.killing_stores import KillingStore
from tests.patience import until

if TYPE_CHECKING:
    from durable.records import Message

COUNT = 3


@task
def note(number: int) -> int:
    return number


@task
async def async_note(number: int) -> int:
    await asyncio.sleep(0)
    return number


@workflow(run_id="receiver")
def receiver() -> list[int]:
    durable.sleep(0)
    return [note(durable.wait_for("number")) for _ in range(COUNT)]


@workflow(run_id="receiver")
async def async_receiver() -> list[int]:
    await durable.sleep(0)
    return [await async_note(await durable.wait_for("number")) for _ in range(COUNT)]


@workflow(run_id="sender")
def sender() -> None:
    for number in range(COUNT):
        durable.send("receiver", "number", note(number))


@workflow(run_id="sender")
async def async_sender() -> None:
    for number in range(COUNT):
        await durable.send("receiver", "number", await async_note(number))


@workflow(run_id="branches")
async def branches() -> list[int]:
    """Receive in several branches at once: which one gets which number is left open."""
    return sorted(await asyncio.gather(*(_branch() for _ in range(COUNT))))


async def _branch() -> int:
    return await async_note(await durable.wait_for("number"))


class _SendingStore(KillingStore):
    """Sending is a commit too."""

    def post_message(self, message: Message) -> int:
        self._begin_commit()
        number = super().post_message(message)
        self._reach("after")
        return number


@dataclass(frozen=True)
class Box:
    """The store that both use, and which kind of workflow they are."""

    db: str
    is_async: bool


def receive(box: Box, when: str = "", commit: int = 0) -> list[int]:
    """Receive everything; killed before or after a commit."""
    durable.configure(_SendingStore(box.db, when, commit))
    return asyncio.run(async_receiver()) if box.is_async else receiver()


def receive_in_branches(box: Box, when: str = "", commit: int = 0) -> list[int]:
    """Receive everything, each number in a branch of its own."""
    durable.configure(_SendingStore(box.db, when, commit))
    return asyncio.run(branches())


def send(box: Box, when: str = "", commit: int = 0) -> None:
    """Send everything; killed before or after a commit."""
    durable.configure(_SendingStore(box.db, when, commit))
    if box.is_async:
        asyncio.run(async_sender())
    else:
        sender()


def send_to(box: Box, run_id: str, names: list[str]) -> None:
    """Send numbered messages of these names, from no run."""
    durable.configure(box.db)
    for number, name in enumerate(names):
        durable.send(run_id, name, number)


def begin(box: Box, run_id: str = "receiver") -> None:
    """Make the run of the receiver, and be killed when it waits."""
    durable.configure(box.db)
    run = (branches if run_id == "branches" else async_receiver if box.is_async else receiver).start()
    until(lambda: run.status == "waiting")
    os.kill(os.getpid(), signal.SIGKILL)
