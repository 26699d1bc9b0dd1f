"""Every asyncio task created inside a run is a scope of its own, named after what it runs and not after when.

While runs execute in a loop, its task factory gives each new task a scope named after its coroutine function and the
arguments in the coroutine's frame. The factory chains to one that is there and goes when the last run has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from durable.identity.fingerprints import cheap_label
from durable.identity.labels import escape
from durable.runs.execution import FRAME, Frame
from durable.steps.effects import drive_async
from durable.steps.plain_steps import live_plainly
from durable.steps.replaying import give_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


_STEP_CODES = (drive_async.__code__, live_plainly.__code__, give_in_turn.__code__)
_DEPTH = 4


class _Factory:
    """The task factory of one loop while runs execute in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.users = 0
        self.before = loop.get_task_factory()
        eager = getattr(asyncio, "eager_task_factory", None)
        self._make: Callable[..., asyncio.Task[Any]] = (
            asyncio.Task if self.before is None or self.before is eager else self._chain
        )

    def _chain(self, coro: Coroutine[Any, Any, Any], *, loop: asyncio.AbstractEventLoop, **options: Any) -> Any:
        assert self.before is not None
        return self.before(loop, coro, **options)

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        context = options.get("context")
        frame = FRAME.get() if context is None else context.get(FRAME)
        if frame is None or (execution := (body := frame.body).execution).ended:
            return self._make(coro, loop=loop, **options)
        if context is not None or getattr(coro, "cr_code", None) in _STEP_CODES:
            task = self._make(coro, loop=loop, **options)
        else:
            context = contextvars.copy_context()
            context.run(FRAME.set, Frame(body, frame.scope.branched(_label(coro))))
            task = context.run(self._make, coro, loop=loop, **options)
        execution.tasks.add(task, body)
        return task


_factories: dict[int, _Factory] = {}


@contextlib.contextmanager
def scoped_tasks() -> Iterator[None]:
    """Give asyncio tasks created in the running loop scopes of their own, until the block ends."""
    loop: Any = asyncio.get_running_loop()  # Any: the stubs ask more of a factory than asyncio does
    factory = _factories.get(id(loop))
    if factory is None or loop.get_task_factory() is not factory:
        factory = _factories[id(loop)] = _Factory(loop)
        loop.set_task_factory(factory)
    factory.users += 1
    try:
        yield
    finally:
        factory.users -= 1
        if not factory.users:
            if _factories.get(id(loop)) is factory:
                del _factories[id(loop)]
            if loop.get_task_factory() is factory:
                loop.set_task_factory(factory.before)


def _label(coro: Any, depth: int = _DEPTH) -> str:
    """Name a coroutine after its function and the cheap ones of its arguments; wrappers after what they wrap."""
    frame = getattr(coro, "cr_frame", None)
    name = escape(getattr(coro, "__qualname__", type(coro).__qualname__).replace("<locals>.", ""))
    if frame is None:
        return name
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    values = frame.f_locals
    digest = blake2b(digest_size=4)
    wrapped = []
    for argument in code.co_varnames[:count]:
        value = values.get(argument)
        parts = value if isinstance(value, tuple) else (value,)
        if depth and any(inspect.iscoroutine(part) for part in parts):
            wrapped += [_label(part, depth - 1) for part in parts if inspect.iscoroutine(part)]
        else:
            data = cheap_label(value)
            digest.update(len(data).to_bytes(4, "big") + data)
    if wrapped:
        return f"{name}({','.join(wrapped)})"
    return f"{name}:{digest.hexdigest()}" if count else name
