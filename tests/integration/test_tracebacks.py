"""What a person sees of a failure is their own code, without a command line of ours around it."""

from __future__ import annotations

import asyncio
import os
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.records import step_key
from durable.telling.tracebacks import strip_our_frames

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("store")
PACKAGE = os.path.dirname(durable.__file__)
raised: list[BaseException] = []


@task
def divide(number: int) -> float:
    try:
        return 1 / number
    except ZeroDivisionError as error:
        raised.append(error)
        raise


@task
def outer(number: int) -> float:
    return divide(number)


@workflow
def plain() -> float:
    return outer(0)


@task
async def divide_async(number: int) -> float:
    return divide(number)


@workflow
async def in_async() -> float:
    return (await asyncio.gather(divide_async(0)))[0]


def in_block() -> float:
    with durable.run("block"):
        return outer(0)


def _run_async() -> Any:
    return asyncio.run(_awaited())


async def _awaited() -> Any:
    return await in_async()


def _ours(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]


def _theirs(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.name for frame in frames if frame.filename == __file__]


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (plain, ["plain", "outer", "divide"]),
        (_run_async, ["_run_async", "_awaited", "in_async", "divide_async", "divide"]),
        (in_block, ["in_block", "in_block", "outer", "divide"]),
    ],
)
def test_an_exception_shows_the_users_frames(program: Callable[[], object], names: list[str]) -> None:
    """The exception that leaves a run is the very one that was raised, and between the frames of the program there are none
    of ours, only those that lead into the run."""
    raised.clear()
    with pytest.raises(ZeroDivisionError) as caught:
        program()
    assert caught.value is raised[-1]
    assert [name for name in _theirs(caught.value) if not name.startswith("test_")] == names
    assert len(_ours(caught.value)) <= 6
    text = "".join(traceback.format_exception(caught.value))
    after = text[text.index(f"in {names[-2]}") :]
    assert PACKAGE not in after


def test_a_defect_of_ours_keeps_its_frames() -> None:
    """An exception that arose in our code, and is not one of our errors, tells where; one of our errors does not."""
    for wrong, kept in ((lambda: step_key(1, "", "x", 1), 1), (lambda: durable.get_run("none"), 0)):  # type: ignore[arg-type]
        with pytest.raises((TypeError, durable.NotFoundError)) as caught:
            wrong()
        strip_our_frames(caught.value, keep_defects=True)
        assert (len(_ours(caught.value)) > 0) == kept
