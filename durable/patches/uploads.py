"""A file in what a request sends counts by its content, and each attempt finds it as the first one did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from durable.patches.http_actions import can_be_set_back, content_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Uploads:
    """The files in what a request sends, however deep, and where each of them stood when it was called."""

    def __init__(self, *sent: object) -> None:
        self._starts = [
            (file, file.tell() if can_be_set_back(file) else None) for each in sent for file in _files(each)
        ]

    @property
    def can_be_repeated(self) -> bool:
        """Whether all can be sent twice: what can be read only once is gone after an attempt."""
        return all(start is not None for _, start in self._starts)

    def set_back(self) -> None:
        """Let an attempt send all of it."""
        for file, start in self._starts:
            if start is not None:
                file.seek(start)


def with_contents(sent: Any) -> Any:
    """Give what is sent with the content of each file in its place."""
    if isinstance(sent, Mapping):
        return {name: with_contents(each) for name, each in sent.items()}
    if isinstance(sent, list | tuple):
        kind = list if isinstance(sent, list) else getattr(sent, "_make", tuple)
        return kind(map(with_contents, sent))
    return content_of(sent) if _is_file(sent) else sent


def _files(sent: Any) -> Iterator[Any]:
    if isinstance(sent, Mapping):
        for each in sent.values():
            yield from _files(each)
    elif isinstance(sent, list | tuple):
        for each in sent:
            yield from _files(each)
    elif _is_file(sent):
        yield sent


def _is_file(sent: object) -> bool:
    return callable(getattr(sent, "read", None))
