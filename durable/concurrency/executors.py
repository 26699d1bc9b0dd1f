"""Bodies that run elsewhere: in threads, in processes, on any `concurrent.futures.Executor`.

Only the body runs there. Its intent is durable before it is sent and its result is recorded here, so a worker process that
dies leaves a step whose body may have had its effect.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import pickle
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, TypeGuard

from durable.concurrency.loops import run_in_loop
from durable.concurrency.places import Group
from durable.concurrency.transfers import Ended, ended, outcome
from durable.errors import ConfigurationError
from durable.steps.effects import uninterrupted
from durable.steps.failures import note_given, note_not_begun

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

    from durable.declarations.definitions import TaskDefinition
    from durable.options import ExecutorOption

_NAMED = ("threads", "processes")
_MOST_PROCESSES = 61  # as many as Windows can wait for
_here = threading.local()  # in a thread for bodies: the executors that it belongs to


class Executors:
    """The executors of one execution: those made here are shut down with it, those of the user are left alone."""

    def __init__(self, max_workers: int | None, widen: Callable[[Group, float], None]) -> None:
        """`widen` gives a group more places."""
        self._max_workers = max_workers
        self._widen = widen
        self._made: dict[ExecutorOption, Executor] = {}
        self._broken: list[Executor] = []
        self._guard = threading.Lock()
        self._processes = min(max_workers or os.cpu_count() or 1, _MOST_PROCESSES)
        self._groups: dict[ExecutorOption, Group] = {}
        self._unsized: set[ExecutorOption] = set()

    def group(self, option: ExecutorOption | None, places: int | None) -> Group | None:
        """Give the group of what is submitted together for this executor, of which `places` may be on their way at once.

        Of all that is submitted for an executor no more than it executes at once, if it tells how many that are: a body that
        waits there would look as if it had begun.
        """
        around = None if option is None else self._group_of(option)
        return around if places is None else Group(places, around)

    def _group_of(self, option: ExecutorOption) -> Group | None:
        with self._guard:
            if option not in self._groups:
                size = self._size(option)
                if size is None:  # the first body finds out
                    self._unsized.add(option)
                self._groups[option] = Group(1 if size is None else size)
            group = self._groups[option]
            return group if group.places < inf else None

    def _size(self, option: ExecutorOption) -> float | None:
        """Tell how many bodies an executor executes at once, None for one that a function has yet to make."""
        if option == "processes":
            return self._processes
        if _is_made(option):
            return _size_of(option)
        if option == "threads" and option not in self._made:
            self._made[option] = self._make(option)
        return _size_of(self._made[option]) if option in self._made else None

    def get(self, option: ExecutorOption) -> Executor:
        """Give the executor that an option names, made at its first use."""
        if _is_made(option):
            return option
        with self._guard:
            if option not in self._made:
                self._made[option] = self._make(option)
            made = self._made[option]
            is_first = option in self._unsized
            self._unsized.discard(option)
        if is_first:
            self._widen(self._groups[option], _size_of(made) - 1)
        return made

    def _make(self, option: ExecutorOption) -> Executor:
        if option == "threads":
            return ThreadPoolExecutor(self._max_workers, "durable-body", partial(setattr, _here, "executors", self))
        if option == "processes":
            return _processes(self._processes)
        assert callable(option)
        made = option()
        if not callable(getattr(made, "submit", None)):
            raise ConfigurationError(f"executor={option!r} made {made!r}, which is no concurrent.futures.Executor.")
        return made

    def replace(self, option: ExecutorOption, broken: Executor) -> None:
        """Make another one at the next use, since a worker process of this one died."""
        with self._guard:
            if self._made.get(option) is broken:
                del self._made[option]
                self._broken.append(broken)
        broken.shutdown(wait=False)

    def close(self) -> None:
        """Shut down those that were made here, and wait for the bodies in them: also those of a broken one end only now."""
        with self._guard:
            made, self._made = [*self._broken, *self._made.values()], {}
        for executor in made:
            executor.shutdown()


def _is_made(option: ExecutorOption) -> TypeGuard[Executor]:
    return isinstance(option, Executor) or not (callable(option) or option in _NAMED)


def _size_of(executor: Executor) -> float:
    """Tell how many bodies an executor of the standard library, or one like them, executes at once."""
    size = getattr(executor, "_max_workers", None)
    return size if isinstance(size, int) and size > 0 else inf


def _processes(max_workers: int) -> ProcessPoolExecutor:
    import multiprocessing  # noqa: PLC0415 -- slow to import, needed for processes only
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 -- as above

    # not "fork": a child that is forked while other threads hold locks may never get them
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(max_workers, multiprocessing.get_context(method), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker process: end when the process that owns the run dies, so that nothing acts for it any more."""
    import multiprocessing  # noqa: PLC0415 -- see above

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


class Elsewhere:
    """A body that runs on an executor; called like the function itself, it gives what that gives there."""

    def __init__(
        self,
        executors: Executors,
        option: ExecutorOption,
        task: TaskDefinition,
        function: Callable[..., Any],
        instance: Any,
    ) -> None:
        """Raises `ConfigurationError` for a function that another process cannot import."""
        self._executors = executors
        self._option: ExecutorOption = option
        self._is_async = task.is_async
        self._function = function
        self._pack = _packer(option, task, function, instance)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `ConfigurationError` for arguments that cannot be sent there; nothing is executed."""
        if isinstance(self._pack, _Pickled):
            self._pack(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Have the body run there; gives an awaitable for an async one."""
        if self._option == "threads" and getattr(_here, "executors", None) is self._executors:
            # it is there: waiting for another thread could be waiting for this one
            return self._function(*args, **kwargs)
        executor, future = self._send(self._pack(args, kwargs))
        return self._awaited(executor, future) if self._is_async else self._result(executor, future)

    def _send(self, payload: _Payload) -> tuple[Executor, Future[Any]]:
        executor = self._executors.get(self._option)
        try:
            return executor, executor.submit(*payload)
        except BrokenExecutor:  # it broke under another body, and this one has not been sent
            self._executors.replace(self._option, executor)
        executor = self._executors.get(self._option)
        try:
            return executor, executor.submit(*payload)
        except BrokenExecutor as error:
            note_not_begun(error)
            error.add_note(
                "A worker process of this executor had died before, so the body was not executed. Give executor= a function "
                "that makes the executor: then another one is made."
            )
            raise

    def _result(self, executor: Executor, future: Future[Any]) -> Any:
        try:
            return _taken(future.result())
        except BrokenExecutor as error:
            self._tell_broken(executor, error)
            raise

    async def _awaited(self, executor: Executor, future: Future[Any]) -> Any:
        try:
            return _taken(await uninterrupted(asyncio.wrap_future(future)))
        except asyncio.CancelledError as error:
            if future.done() and not future.cancelled() and future.exception() is None:
                note_given(error, lambda: _taken(future.result()))
            raise
        except BrokenExecutor as error:
            self._tell_broken(executor, error)
            raise

    def _tell_broken(self, executor: Executor, error: BrokenExecutor) -> None:
        self._executors.replace(self._option, executor)
        if getattr(error, "__notes__", None):  # it is that of every call on this executor
            return
        error.add_note(
            "The worker process died while the body may have been running: killed, out of memory, or a script that calls "
            "its workflow outside `if __name__ == '__main__':`."
        )


_Payload = tuple[Any, ...]  # a function and its arguments


def _packer(
    option: ExecutorOption, task: TaskDefinition, function: Callable[..., Any], instance: Any
) -> Callable[[tuple[Any, ...], dict[str, Any]], _Payload]:
    if option == "threads" or isinstance(option, ThreadPoolExecutor):
        return lambda args, kwargs: (contextvars.copy_context().run, _call, function, args, kwargs)
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 -- slow to import, see above

    if option == "processes" or isinstance(option, ProcessPoolExecutor):
        return _Pickled(task, _Reference(task, instance))
    reference = _Reference(task, instance)
    target = reference if reference.is_importable else function
    return lambda args, kwargs: (_call, target, args, kwargs)


class _Reference:
    """Names a task's function, so that it is found again in another process, where its name leads to the task."""

    def __init__(self, task: TaskDefinition, instance: Any) -> None:
        self._module = task.plain.__module__
        self._qualname = task.plain.__qualname__
        self._instance = instance

    @property
    def is_importable(self) -> bool:
        """Whether the name leads to the function here."""
        try:
            return callable(self._find())
        except (ImportError, AttributeError):
            return False

    def _find(self) -> Callable[..., Any]:
        found: Any = sys.modules.get(self._module) or import_module(self._module)
        *path, name = self._qualname.split(".")
        for part in path:
            found = getattr(found, part)
        found = getattr(found if self._instance is None else self._instance, name)
        function: Callable[..., Any] = getattr(found, "__wrapped__", found)
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)


class _Pickled:
    """Makes payloads of bytes for processes."""

    def __init__(self, task: TaskDefinition, reference: _Reference) -> None:
        self._task = task
        self._reference = reference
        if not reference.is_importable:
            raise ConfigurationError(
                f"Task {task.full_name!r} was not executed: it is to run in another process, which cannot import it. Define "
                f"it at the top of a module, or choose executor='threads'."
            )

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Payload:
        try:
            return _call_pickled, pickle.dumps((self._reference, args, kwargs), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise ConfigurationError(
                f"Task {self._task.full_name!r} was not executed: it is to run in another process, and its arguments cannot "
                f"be sent there: {type(error).__name__}: {error}. Pass values, or choose executor='threads'."
            ) from error


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return run_in_loop(_awaited(value)) if inspect.isawaitable(value) else value


def _call_pickled(payload: bytes) -> Ended:
    return ended(lambda: _call(*pickle.loads(payload)))


def _taken(value: Any) -> Any:
    return outcome(value) if isinstance(value, Ended) else value


async def _awaited(value: Any) -> Any:
    return await value
