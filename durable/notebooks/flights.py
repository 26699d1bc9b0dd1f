"""Of equal calls that are made at the same time one is executed; the others wait for it and then find its record."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Key = tuple[str, bytes]


class Flights:
    """The calls that are under way, by the container and the content of what they say."""

    def __init__(self) -> None:
        self._flying: dict[Key, Future[None]] = {}

    @contextlib.contextmanager
    def alone(self, key: Key) -> Iterator[None]:
        """Keep equal calls out of the block."""
        mine: Future[None] = Future()
        try:
            while (first := self._flying.setdefault(key, mine)) is not mine:
                first.result()
            yield
        finally:
            self._land(key, mine)

    @contextlib.asynccontextmanager
    async def alone_async(self, key: Key) -> AsyncIterator[None]:
        """Do what `alone` does, awaiting."""
        mine: Future[None] = Future()
        try:
            while (first := self._flying.setdefault(key, mine)) is not mine:
                await asyncio.shield(asyncio.wrap_future(first))
            yield
        finally:
            self._land(key, mine)

    def _land(self, key: Key, flight: Future[None]) -> None:
        if self._flying.get(key) is flight:
            del self._flying[key]
            flight.set_result(None)
