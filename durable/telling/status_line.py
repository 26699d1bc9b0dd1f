"""One line at the bottom of a terminal that never mixes with what the program prints.

As long as it is shown, what is printed goes through here: the line makes way for it and comes back only below a whole
line, so neither half a line, a prompt nor an answer being typed is drawn over.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import logging
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ERASE = "\r\x1b[2K"


def can_show() -> bool:
    """Whether people see stderr, and nothing else draws there."""
    return (
        _is_terminal(sys.stderr)
        and sys.stderr is sys.__stderr__
        and (sys.stdout is None or sys.stdout is sys.__stdout__)
        and not _is_pipe(sys.stdout)  # its other end may write to the same terminal
        and os.environ.get("TERM") != "dumb"
        and (sys.platform != "win32" or "WT_SESSION" in os.environ)  # older consoles know no escape sequences
        and not _has_bars()
    )


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # a closed stream
        return False


def _is_pipe(stream: Any) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return True


def _has_bars() -> bool:
    """Whether the program draws progress bars itself, with the package that most do it with."""
    bars = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    return bool(getattr(bars, "_instances", ()))


_shown: list[StatusLine] = []


def abandon() -> None:
    """In a forked child: leave the line to the parent."""
    while _shown:
        _shown.pop().abandon()


class StatusLine:
    """The line; from `begin` to `end` what is printed and asked for goes around it."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self._stream: Any = sys.stderr
        self._is_shown = False
        self._held = 0  # how often somebody is asked something
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._handlers: list[tuple[Any, Any]] = []
        self._around: list[_Around] = []

    def begin(self) -> None:
        """Stand between the program and the terminal."""
        streams = {id(stream): _Around(stream, self) for stream in (sys.stdout, sys.stderr) if _is_terminal(stream)}
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if id(stream) in streams:
                self._replace(sys, name, streams[id(stream)])
        self._replace(builtins, "input", self._asking(builtins.input))
        for handler in logging.root.handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and id(stream) in streams:
                self._handlers.append((handler, stream))
                handler.setStream(streams[id(stream)])
        self._around = list(streams.values())
        _shown.append(self)

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name), value))
        setattr(owner, name, value)

    def end(self) -> None:
        """Leave the terminal as if nothing had been shown."""
        with self.guard:
            self.erase()
            self._give_back()
            _shown.remove(self)

    def _give_back(self) -> None:
        for owner, name, before, ours in self._replaced:
            if getattr(owner, name) is ours:
                setattr(owner, name, before)
        for handler, stream in self._handlers:
            handler.stream = stream

    def abandon(self) -> None:
        """In a forked child: what is printed goes its own way again."""
        self.guard = threading.RLock()
        self._is_shown = False
        self._give_back()

    def _asking(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ask)
        def asks(*args: Any) -> Any:
            with self.held():
                return ask(*args)

        return asks

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Show nothing in the block."""
        with self.guard:
            self.erase()
            self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def draw(self, text: str) -> None:
        """Show the line, unless something else stands there that is not to be drawn over."""
        with self.guard:
            if self._held or any(around.is_amid for around in self._around) or _has_bars():
                self.erase()
                return
            self._stream.write(f"{_ERASE}{text}")
            self._stream.flush()
            self._is_shown = True

    def erase(self) -> None:
        """Make way."""
        if self._is_shown:
            self._is_shown = False
            self._stream.write(_ERASE)
            self._stream.flush()


class _Around:
    """A stream of the terminal; `is_amid` tells whether half a line was printed."""

    def __init__(self, stream: Any, line: StatusLine) -> None:
        self._stream = stream
        self._line = line
        self.is_amid = False

    def write(self, text: str) -> Any:
        with self._line.guard:
            self._line.erase()
            if text:
                self.is_amid = not text.endswith("\n")
            return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
