"""The consumer's side of a generator: its life goes on when an item is asked for, and ends when nobody wants more.

A generator is closed by its consumer, by the garbage collector or, at the latest, by the end of the body that called it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any

from durable.concurrency.streams import Ends, Item
from durable.configuration import PACKAGE
from durable.errors import ExecutionStopped
from durable.runs.execution import warn_once
from durable.steps.effects import carried, drive, drive_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from durable.concurrency.streams import Stream
    from durable.steps.effects import Effect

_PATCHES = os.path.join(PACKAGE, "patches")  # consumers themselves, which hold no locks
_CALL_BODIES = {  # modules that call code of the user
    os.path.join(PACKAGE, package, f"{name}.py")
    for package, names in {
        "concurrency": ("executors", "loops"),
        "notebooks": ("code",),
        "runs": ("handles", "runs"),
        "scripts": ("launching", "loops"),
        "steps": ("effects", "plain_steps", "timed_bodies"),
    }.items()
    for name in names
}


def items_of(stream: Stream) -> Generator[Any, Any, Any]:
    """Perform the effects of a generator's life, blocking, and give its items."""
    course = _Course(stream)
    while (effect := course.advance()) is not None:
        try:
            if isinstance(effect, Item):
                stream.check((yield effect.value))
            else:
                course.answer = effect.act()
        except GeneratorExit:
            if not _is_collected():  # else the end of the run closes the life
                with contextlib.suppress(Ends):
                    drive(course.ended(Ends(failed=False)))
            raise
        except BaseException as error:
            course.fail(error)
    return course.returned


async def items_of_async(stream: Stream) -> AsyncGenerator[Any, Any]:
    """Perform the effects of a generator's life, awaiting, and give its items."""
    course = _Course(stream)
    while (effect := course.advance()) is not None:
        try:
            if isinstance(effect, Item):
                stream.check((yield effect.value))
            else:
                course.answer = await effect.act_async()
        except GeneratorExit:
            if isinstance(effect, Item):
                with contextlib.suppress(Ends):
                    await drive_async(course.ended(Ends(failed=False)))
            raise
        except BaseException as error:
            course.fail(error)


class _Course:
    """The life of a generator on its way, which the execution knows of until it has ended.

    `answer` is what the life's last effect gave.
    """

    def __init__(self, stream: Stream) -> None:
        self.answer: Any = None
        self.returned: Any = None
        self._error: BaseException | None = None
        self._stream = stream
        self._life = stream.life()
        stream.execution.streams[stream] = self

    def advance(self) -> Effect | None:
        """Give the next effect; None when the life has ended."""
        error, answer = self._error, self.answer
        self._error = self.answer = None
        if error is None and getgeneratorstate(self._life) == GEN_CLOSED:
            raise self._stream.ended_early()
        try:
            return self._life.send(answer) if error is None else self._life.throw(error)
        except StopIteration as end:
            self.returned = end.value
            return None
        finally:
            if getgeneratorstate(self._life) == GEN_CLOSED:
                self._stream.execution.streams.pop(self._stream, None)

    def fail(self, error: BaseException) -> None:
        """Have the life get an exception in the place of an answer."""
        self._error = carried(error)

    def end(self, *, failed: bool) -> Generator[Effect, Any, None]:
        """End the life because the body that asked for its items has ended, or the run; it may end by failing."""
        ending = self.ended(Ends(failed=failed))
        try:
            if self._stream.task.is_async_generator:
                yield from ending
            else:  # whose body cannot be awaited, in an async run neither
                drive(ending)
        except (Ends, ExecutionStopped):
            pass
        except Exception as raised:  # by what the body does when it is closed
            run = self._stream.execution.id
            warn_once("closing", run, f"A generator of run {run} could not be closed: {raised!r}.")

    def ended(self, ending: Ends) -> Generator[Effect, Any, Any]:
        """End the life: throw this into it and go on with its effects to the last."""
        self.fail(ending)
        while (effect := self.advance()) is not None:
            try:
                self.answer = yield effect
            except GeneratorExit:
                raise
            except BaseException as error:
                self.fail(error)
        return self.returned


def _is_collected() -> bool:
    """Whether the garbage collector closes the generator in the middle of our own work, where locks may be held."""
    frame = sys._getframe(2)  # noqa: SLF001 -- the documented way to find the caller
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and not name.startswith(_PATCHES):
            return name not in _CALL_BODIES
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return False
