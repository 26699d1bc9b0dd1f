"""The consumer's side of a generator: its life goes on when an item is asked for, and ends when nobody wants more.

A generator is closed by its consumer, by the garbage collector or, at the latest, by the end of its run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any

from durable.effects import carried, drive, drive_async
from durable.errors import ExecutionStopped
from durable.execution import warn_once
from durable.streams import Ends, Item

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from durable.effects import Effect
    from durable.execution import Execution
    from durable.streams import Stream

_HERE, _EFFECTS = os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "effects.py")
_PATCHES = os.path.join(_HERE, "patches")  # consumers themselves, which hold no locks


def items_of(stream: Stream) -> Generator[Any, Any, Any]:
    """Perform the effects of a generator's life, blocking, and give its items."""
    life, streams = stream.life(), stream.execution.streams
    go_on: Callable[[Any], Effect] = life.send
    answer: Any = None
    streams[stream] = life
    try:
        while True:
            try:
                effect = go_on(answer)
            except StopIteration as end:
                return end.value
            try:
                if isinstance(effect, Item):
                    stream.check((yield effect.value))
                    answer = None
                else:
                    answer = effect.act()
                go_on = life.send
            except GeneratorExit:
                if not _is_collected():  # else the end of the run closes the life
                    with contextlib.suppress(Ends):
                        drive(_ended(life, Ends(failed=False)))
                raise
            except BaseException as error:
                go_on, answer = life.throw, carried(error)
    finally:
        if getgeneratorstate(life) == GEN_CLOSED:
            streams.pop(stream, None)


async def items_of_async(stream: Stream) -> AsyncGenerator[Any, Any]:
    """Perform the effects of a generator's life, awaiting, and give its items."""
    life, streams = stream.life(), stream.execution.streams
    go_on: Callable[[Any], Effect] = life.send
    answer: Any = None
    streams[stream] = life
    try:
        while True:
            try:
                effect = go_on(answer)
            except StopIteration:
                return
            try:
                if isinstance(effect, Item):
                    stream.check((yield effect.value))
                    answer = None
                else:
                    answer = await effect.act_async()
                go_on = life.send
            except GeneratorExit:
                if isinstance(effect, Item):
                    with contextlib.suppress(Ends):
                        await drive_async(_ended(life, Ends(failed=False)))
                raise
            except BaseException as error:
                go_on, answer = life.throw, carried(error)
    finally:
        if getgeneratorstate(life) == GEN_CLOSED:
            streams.pop(stream, None)


def _is_collected() -> bool:
    """Whether the garbage collector closes the generator in the middle of our own work, where locks may be held."""
    frame = sys._getframe(2)  # noqa: SLF001 -- the documented way to find the caller
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_HERE) and not name.startswith(_PATCHES):
            return name != _EFFECTS
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return False


def end_streams(execution: Execution, error: BaseException | None) -> Generator[Effect, Any, None]:
    """Close the generators that a run leaves open; the last thing that their bodies do is recorded."""
    while execution.streams:
        _, life = execution.streams.popitem()
        try:
            yield from _ended(life, Ends(failed=error is not None))
        except (Ends, ExecutionStopped):
            continue
        except Exception as raised:  # by what the body does when it is closed
            warn_once("closing", execution.id, f"A generator of run {execution.id} could not be closed: {raised!r}.")


def _ended(life: Generator[Effect, Any, Any], ending: BaseException) -> Generator[Effect, Any, Any]:
    """Throw something into a life and go on with its effects to its end."""
    go_on: Callable[[Any], Effect] = life.throw
    answer: Any = ending
    while True:
        try:
            effect = go_on(answer)
        except StopIteration as end:
            return end.value
        try:
            answer = yield effect
            go_on = life.send
        except GeneratorExit:
            raise
        except BaseException as error:
            go_on, answer = life.throw, carried(error)
