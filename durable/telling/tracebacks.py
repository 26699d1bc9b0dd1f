"""A traceback that a person sees shows their code, without the frames of this library and of what wraps functions."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from durable.errors import DurableError

if TYPE_CHECKING:
    from types import TracebackType

_MEANT = (DurableError, KeyboardInterrupt, BaseExceptionGroup)  # we raise them for the caller


def strip_our_frames(error: BaseException) -> None:
    """Take our frames out of the traceback of an exception and of all those that hang on it."""
    ours, waiting, seen = _folders(), [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _without(ours, current.__traceback__)
        waiting += [linked for linked in (current.__cause__, current.__context__) if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def strip_for_caller(error: BaseException) -> None:
    """Do so with what leaves a run or a cell, but for what was raised here by a mistake of ours."""
    if _is_meant(error) or not _is_raised_here(error):
        strip_our_frames(error)


class ShownToCaller:
    """Does so with what leaves its block."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            strip_for_caller(error)


def _is_meant(error: BaseException) -> bool:
    return isinstance(error, _MEANT) or hasattr(error, "__durable_traceback__")


def _is_raised_here(error: BaseException) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename.startswith(_folders())


def _folders() -> tuple[str, ...]:
    known = (sys.modules.get(name) for name in ("durable", "wrapt"))
    files = (str(module.__file__) for module in known if module is not None)
    return tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in files)


def _without(ours: tuple[str, ...], trace: TracebackType | None) -> TracebackType | None:
    frames: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(ours):
            frames.append(trace)
        trace = trace.tb_next
    kept = None
    for frame in reversed(frames):
        frame.tb_next, kept = kept, frame
    return kept
