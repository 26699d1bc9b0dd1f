"""Bodies of aiohttp responses that are read from recorded pieces; leaving the response closes the stream of them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator

_LIMIT = 2**16  # bytes, as aiohttp has it


class _Protocol(BaseProtocol):
    """That of a body which nobody is sending, so that there is nobody to pause."""

    def pause_reading(self) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


class Pieces(StreamReader):
    """A body whose next piece is asked for when nothing is left to read."""

    def __init__(self, loop: AbstractEventLoop, items: AsyncIterator[bytes]) -> None:
        """Read these pieces."""
        super().__init__(_Protocol(loop), _LIMIT, loop=loop)
        self._items = items

    async def _wait(self, func_name: str) -> None:  # noqa: ARG002 -- aiohttp names its caller
        try:
            self.feed_data(await anext(self._items))
        except StopAsyncIteration:
            self.feed_eof()


def content(loop: AbstractEventLoop, items: AsyncIterator[bytes] | None, read: bytes | None) -> StreamReader:
    """Give the body of a response that was read, or is to be read from these pieces."""
    if items is not None:
        return Pieces(loop, items)
    reader = StreamReader(_Protocol(loop), _LIMIT, loop=loop)
    if read:
        reader.feed_data(read)
    reader.feed_eof()
    return reader


@cache
def reading(base: type[Any]) -> type[Any]:
    """Give the class of responses that close their pieces when they are left."""

    class Reading(base):  # type: ignore[misc]  # the class that the session makes responses of
        async def wait_for_close(self) -> None:
            await self._items.aclose()
            await super().wait_for_close()

    Reading.__name__, Reading.__qualname__, Reading.__module__ = base.__name__, base.__qualname__, base.__module__
    return Reading
