"""A traceback that a person sees shows their code, without the frames of this library and of what wraps functions."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from durable.errors import DurableError

if TYPE_CHECKING:
    from types import TracebackType


def strip_our_frames(error: BaseException, *, keep_defects: bool = False) -> None:
    """Take our frames out of the traceback of an exception and of all those that hang on it.

    With `keep_defects` not from those of an exception that arose in them and is none of ours: nobody could mend its cause.
    """
    ours, waiting, seen = _folders(), [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if not keep_defects or not _is_defect(ours, current):
            current.__traceback__ = _without(ours, current.__traceback__)
        waiting += [linked for linked in (current.__cause__, current.__context__) if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def _folders() -> tuple[str, ...]:
    known = (sys.modules.get(name) for name in ("durable", "wrapt"))
    files = (str(module.__file__) for module in known if module is not None)
    return tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in files)


def _is_defect(ours: tuple[str, ...], error: BaseException) -> bool:
    trace = error.__traceback__
    if trace is None or isinstance(error, DurableError) or hasattr(error, "__durable_traceback__"):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename.startswith(ours)


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
