"""Bodies of httpx responses that are read from recorded pieces; closing the response closes the stream of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator


class Pieces(httpx.SyncByteStream):
    """The body of a response of a sync client."""

    def __init__(self, items: Generator[bytes, Any, Any]) -> None:
        """Give these pieces."""
        self._items = items

    def __iter__(self) -> Iterator[bytes]:
        """Give them."""
        yield from self._items

    def close(self) -> None:
        """Close the stream: what was not read until now will not be."""
        self._items.close()


class AsyncPieces(httpx.AsyncByteStream):
    """The body of a response of an async client."""

    def __init__(self, items: AsyncGenerator[bytes, Any]) -> None:
        """Give these pieces."""
        self._items = items

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give them."""
        async for piece in self._items:
            yield piece

    async def aclose(self) -> None:
        """Close the stream: what was not read until now will not be."""
        await self._items.aclose()
