from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.concurrency.branches import _label, scoped_tasks
from durable.runs.execution import FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


pytestmark = pytest.mark.usefixtures("memory_store")


@task
async def fetch(name: str) -> str:
    await asyncio.sleep(0)
    return name


async def outer(name: str, **options: Any) -> str:
    return await fetch(name)


async def plain() -> None: ...


class Client:
    async def get(self, path: str) -> str:
        return await fetch(path)


def labels(run_id: str) -> list[str]:
    """Give the scopes of the steps of a run, in the order of their calls."""
    return [step.key.rpartition("/")[0] for step in durable.get_run(run_id).steps]


def label_of(make: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> str:
    coroutine = make(*args, **kwargs)
    try:
        return _label(coroutine)
    finally:
        coroutine.close()


def test_a_label_says_what_runs() -> None:
    """The label is the coroutine function's name and a digest of its arguments: equal for equal calls only."""
    assert label_of(plain) == "plain"
    assert label_of(outer, "a").startswith("outer:")
    assert label_of(outer, "a") == label_of(outer, str(b"a", "ascii"))
    assert label_of(outer, "a") != label_of(outer, "b")
    assert label_of(Client().get, "x") == label_of(Client().get, "x")
    assert label_of(Client().get, "x").startswith("Client.get:")


def test_a_label_is_pinned() -> None:
    """Labels stand in step keys, so they stay what they are in every release."""
    assert label_of(outer, "a") == "outer:a460665a"


def test_a_wrapper_is_named_after_what_it_wraps() -> None:
    """A coroutine that is handed others is told from the same wrapper around others."""

    async def limited(coroutine: Any, *others: Any) -> None: ...

    def wrapped(*names: str) -> str:
        inner = [outer(name) for name in names]
        try:
            return label_of(limited, *inner)
        finally:
            for each in inner:
                each.close()

    assert wrapped("a") == f"test_a_wrapper_is_named_after_what_it_wraps.limited({label_of(outer, 'a')})"
    assert wrapped("a", "b") != wrapped("b", "a")


async def test_each_task_is_a_scope_of_its_own() -> None:
    """Steps of tasks stand below the label of their task, equal tasks are numbered, and awaited steps need no task."""

    @workflow(run_id="scopes")
    async def scopes() -> None:
        await fetch("direct")
        await asyncio.gather(*(outer(name) for name in ("a", "b", "a")))
        async with asyncio.TaskGroup() as group:
            group.create_task(outer("c"))
        await asyncio.gather(fetch("x"), fetch("y"))

    await scopes()
    a, b, c = (label_of(outer, name) for name in ("a", "b", "c"))
    assert labels("scopes") == ["", a, b, f"{a}~2", c, "", ""]


async def test_tasks_of_tasks_nest() -> None:
    """A task made by a task is a scope below it."""

    async def inner() -> None:
        await asyncio.create_task(outer("deep"))

    @workflow(run_id="nested")
    async def nested() -> None:
        await asyncio.create_task(inner())

    await nested()
    assert labels("nested") == [f"test_tasks_of_tasks_nest.inner/{label_of(outer, 'deep')}"]


async def test_a_factory_that_is_there_is_chained_to_and_restored() -> None:
    """Tasks of a run are made by the factory that the loop had, with all options; it is back when the run has ended."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)

    @workflow(run_id="chained")
    async def chained() -> str:
        assert loop.get_task_factory() is not factory
        return await loop.create_task(outer("a"), name="mine")

    assert await chained() == "a"
    assert [each.get_name() for each in made] == ["mine"]
    assert labels("chained") == [label_of(outer, "a")]
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


async def test_the_last_run_takes_the_factory_away() -> None:
    """Runs beside each other share one factory, which goes with the last of them; failed runs leave nothing either."""
    loop = asyncio.get_running_loop()
    seen: set[object] = set()

    @workflow(run_id="run-{number}")
    async def run(number: int) -> None:
        for _ in range(number):
            await outer(str(number))
            seen.add(loop.get_task_factory())
        if number == 3:
            raise ConnectionError

    await asyncio.gather(*(run(number) for number in range(1, 5)), return_exceptions=True)
    assert len(seen) == 1
    assert None not in seen
    assert loop.get_task_factory() is None


async def test_a_factory_that_came_later_is_left_alone() -> None:
    """A factory that the workflow itself installed stays when the run has ended."""
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    with_scopes = scoped_tasks()
    with with_scopes:
        loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    with scoped_tasks():
        assert loop.get_task_factory() is not factory
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


async def test_tasks_outside_the_run_carry_no_scope() -> None:
    """While a run executes, tasks made outside it are made as ever and are no part of the run."""
    started, proceed = asyncio.Event(), asyncio.Event()

    @workflow(run_id="beside")
    async def beside() -> str:
        started.set()
        await proceed.wait()
        return await outer("mine")

    async def stranger() -> object:
        return FRAME.get()

    running = asyncio.create_task(beside())
    await started.wait()
    assert await asyncio.create_task(stranger()) is None
    proceed.set()
    assert await running == "mine"
    assert len(durable.get_run("beside").steps) == 1


async def test_a_given_context_is_kept() -> None:
    """A task that is made with a context of its own runs in that, in the scope that the context carries."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")

    async def reads() -> str:
        return variable.get() + await fetch("a")

    @workflow(run_id="context")
    async def in_context() -> str:
        context = contextvars.copy_context()
        context.run(variable.set, "set ")
        return await asyncio.get_running_loop().create_task(reads(), context=context)

    assert await in_context() == "set a"
    assert labels("context") == [""]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_keep_their_scopes() -> None:
    """With `asyncio.eager_task_factory` steps get the same scopes, and the factory is back afterwards."""

    @workflow(run_id="eager")
    async def eager() -> list[str]:
        return list(await asyncio.gather(outer("a"), outer("b")))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        factory: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009 -- unknown before 3.12
        loop.set_task_factory(factory)
        assert await eager() == ["a", "b"]
        assert loop.get_task_factory() is factory

    asyncio.run(main())
    assert labels("eager") == [label_of(outer, "a"), label_of(outer, "b")]


def test_labels_of_strange_coroutines() -> None:
    """Objects that are awaited like coroutines, finished coroutines and odd names have labels too."""

    class Awaitable:
        def send(self, value: object) -> None: ...

    assert _label(Awaitable()) == "test_labels_of_strange_coroutines.Awaitable"
    finished = plain()
    finished.close()
    assert _label(finished) == "plain"
    odd: Any = plain()
    odd.__qualname__ = "a/b~2:\ud800"
    assert _label(odd) == "a%2Fb%7E2%3A%uD800"
    odd.close()
