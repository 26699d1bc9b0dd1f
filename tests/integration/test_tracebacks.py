"""What leaves a run shows the user's code: of the library no more than the line that was called."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.runs import opening

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("store")
PACKAGE = str(Path(durable.__file__).parent)


def shown(call: Callable[[], object]) -> list[str]:
    """Name the functions in the traceback of what a call raises; those of the library are one dot each."""
    try:
        call()
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        return ["." if frame.filename.startswith(PACKAGE) else frame.name for frame in frames]
    raise AssertionError("nothing was raised")


@task
def work() -> None:
    raise KeyError("m")


@task
async def awork() -> None:
    raise KeyError("m")


@task
def outer() -> None:
    work()


@workflow
def job() -> None:
    work()


@workflow
def nesting() -> None:
    outer()


@workflow
async def ajob() -> None:
    await awork()


def block() -> None:
    with durable.run("block"):
        work()


def test_an_error_of_the_user() -> None:
    """A workflow adds one frame to the traceback of an error in a task, a block and an async workflow none."""
    assert shown(job) == ["shown", ".", "job", "work"]
    assert shown(nesting) == ["shown", ".", "nesting", "outer", "work"]
    assert shown(block) == ["shown", "block", "block", "work"]
    assert shown(lambda: asyncio.run(ajob()))[-2:] == ["ajob", "awork"]


def test_an_error_that_tells_the_user_something() -> None:
    """An error of the library ends at the line of the user that has to be changed."""

    @workflow
    def nested() -> None:
        with durable.run("inner"):
            pass

    assert shown(nested) == ["shown", ".", "nested"]


def test_a_mistake_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library raises by mistake shows where."""
    monkeypatch.setattr(opening, "watch", None)
    assert len([name for name in shown(job) if name == "."]) > 2
