"""In every form that a library documents a call is one step, and a resumed run reads the same off its response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import workflow
from tests.integration.patches.forms import ASYNC, SYNC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.receivers import Ledger


@pytest.mark.parametrize("form", SYNC, ids=lambda form: form.__name__)
def test_a_resumed_run_reads_the_same(form: Callable[[str], Iterator[Any]], web: str, ledger: Ledger) -> None:
    """A run that failed at its end and is called again makes no request, and its code reads the same values."""
    seen: list[list[Any]] = []

    @workflow(run_id=form.__name__)
    def run() -> None:
        seen.append(list(form(web)))
        raise ValueError

    outside, counts = list(form(web)), [len(ledger.entries)]
    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
        counts.append(len(ledger.entries))
    assert seen[0] == seen[1]
    assert len(outside) == len(seen[0])
    assert counts[1:] == [2 * counts[0]] * 2, "as many requests as without a run, and none when it is resumed"


@pytest.mark.parametrize("form", ASYNC, ids=lambda form: form.__name__)
def test_a_resumed_async_run_reads_the_same(
    form: Callable[[str], AsyncIterator[Any]], web: str, ledger: Ledger
) -> None:
    """The same in async code, whatever runs at the same time."""
    seen: list[list[Any]] = []

    async def read() -> list[Any]:
        return [value async for value in form(web)]

    @workflow(run_id=form.__name__)
    async def run() -> None:
        seen.append(await read())
        raise ValueError

    outside, counts = asyncio.run(read()), [len(ledger.entries)]
    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            asyncio.run(run())
        counts.append(len(ledger.entries))
    assert seen[0] == seen[1]
    assert len(outside) == len(seen[0])
    assert counts[1:] == [2 * counts[0]] * 2


def test_all_steps_have_ended(web: str) -> None:
    """Streams that were left half-way are steps that ended, too."""

    @workflow(run_id="ends")
    def run() -> None:
        for form in SYNC:
            list(form(web))

    run()
    assert {step.status for step in durable.get_run("ends").steps} == {"succeeded", "failed"}
