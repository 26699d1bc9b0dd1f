"""A traceback that a person sees shows their code, without the frames of this library and of what wraps functions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import wrapt

if TYPE_CHECKING:
    from types import TracebackType

_OURS = tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, wrapt.__file__))


def strip_our_frames(error: BaseException) -> None:
    """Take our frames out of the traceback of an exception and of all those that hang on it."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _without_ours(current.__traceback__)
        waiting += [linked for linked in (current.__cause__, current.__context__) if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    frames: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OURS):
            frames.append(trace)
        trace = trace.tb_next
    kept = None
    for frame in reversed(frames):
        frame.tb_next, kept = kept, frame
    return kept
