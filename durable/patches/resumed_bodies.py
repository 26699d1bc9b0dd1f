"""A body that is asked for again goes on at the byte where its consumer had got to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator


class Cut:
    """Cuts the pieces of a body where the consumer of an earlier execution had got to."""

    def __init__(self, given: bytes) -> None:
        self._given = given
        self._done = 0  # bytes of what was given that came again
        self._length = 0  # of the present piece, as far as it was given
        self._head: Any = None

    def given(self, head: Any) -> Iterator[Any]:
        """Give what had been given in the place of each piece, up to the cut; of heads, each is another one."""
        yield self._head if self._is_like(head) else head
        while self._length:
            yield self._given[self._done - self._length : self._done]

    def pieces(self, perform: Callable[[], Generator[Any, Any, Any]]) -> Iterator[Any]:
        """Give the head and the pieces."""
        items = perform()
        try:
            self._head = next(items)
            yield self._head
            for item in items:
                yield from self._parts(item)
        finally:
            items.close()

    async def pieces_async(self, perform: Callable[[], AsyncGenerator[Any, Any]]) -> AsyncIterator[Any]:
        """Give the head and the pieces."""
        items = perform()
        try:
            self._head = await anext(items)
            yield self._head
            async for item in items:
                for part in self._parts(item):
                    yield part
        finally:
            await items.aclose()

    def _is_like(self, head: Any) -> bool:
        return not isinstance(head, dict) or head.get("status") == self._head.get("status")

    def _parts(self, item: bytes) -> Iterator[bytes]:
        self._length = min(len(item), len(self._given) - self._done)
        self._done += self._length
        if self._length:
            yield item[: self._length]
        if rest := item[self._length :]:
            self._length = 0
            yield rest
