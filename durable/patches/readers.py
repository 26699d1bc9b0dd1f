"""A response is read from recorded items one after the other, and closes their stream with itself."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOT_RECORDED = frozenset({"transfer-encoding"})  # the pieces are recorded without it


def http_response(head: dict[str, Any], items: Iterable[bytes], method: str) -> HTTPResponse:
    """Make the standard library's response of a recorded head and the pieces of its body."""
    lines = [f"HTTP/1.1 {head['status']} {head['reason'] or ''}"]
    lines += [f"{name}: {value}" for name, value in head["headers"] if name.lower() not in _NOT_RECORDED]
    start = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    response = HTTPResponse(_Socket(ItemsReader(start, items)), method=method)  # type: ignore[arg-type]  # all that it asks for
    response.begin()
    return response


class _Socket:
    """What a response asks of a socket."""

    def __init__(self, reader: ItemsReader) -> None:
        self._reader = reader

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class ItemsReader(io.RawIOBase):
    """Gives what one item holds at a time, so that nobody waits for more than what has come."""

    def __init__(self, start: bytes, items: Iterable[bytes]) -> None:
        """Read the start and then the items."""
        super().__init__()
        self._items = items
        self._pieces: Iterator[bytes] = chain((start,), items)
        self._rest = b""

    def readable(self) -> bool:
        """Files like this one are for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the present item goes."""
        while not self._rest:
            item = next(self._pieces, None)
            if item is None:
                return 0
            self._rest = item
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        """Close the stream too: what was not read until now will not be."""
        close = getattr(self._items, "close", None)
        if not self.closed and close is not None:
            close()
        super().close()
