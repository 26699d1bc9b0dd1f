"""Bodies of responses that are read from recorded pieces, for httpx and what SDKs take for it; closing one closes the stream.

Code that fails in the middle of an answer will ask for the rest when its run is called again: what is paid for is read to
its end then.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from functools import cache
from typing import Any


@cache
def sync_body(http: Any, *, is_paid: bool = False) -> Any:
    """Make the type of the body of a response of a sync client."""

    class Pieces(http.SyncByteStream):  # type: ignore[misc]  # of a module that is known when it runs
        def __init__(self, items: Any) -> None:
            self._items = items

        def __iter__(self) -> Any:
            yield from self._items

        def close(self) -> None:
            if is_paid and _is_failing():
                with contextlib.suppress(Exception):
                    deque(self._items, maxlen=0)
            self._items.close()

    return Pieces


@cache
def async_body(http: Any, *, is_paid: bool = False) -> Any:
    """Make the type of the body of a response of an async client."""

    class AsyncPieces(http.AsyncByteStream):  # type: ignore[misc]  # as above
        def __init__(self, items: Any) -> None:
            self._items = items

        async def __aiter__(self) -> Any:
            async for piece in self._items:
                yield piece

        async def aclose(self) -> None:
            if is_paid and _is_failing():
                with contextlib.suppress(Exception):
                    async for _ in self._items:
                        pass
            await self._items.aclose()

    return AsyncPieces


def _is_failing() -> bool:
    """Whether an exception is passing through the code that closes the body."""
    return isinstance(sys.exc_info()[1], Exception)
