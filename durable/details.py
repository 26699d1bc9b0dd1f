"""What a step's record says for error messages and retries: digests and previews, never values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from durable.errors import CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREVIEW_LENGTH = 60
_SECRET_WORDS = ("password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "credential", "cookie")
_SCALARS = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: its short digest and, unless sensitive, how it looks."""

    digest: str
    preview: str


@dataclass(frozen=True, slots=True)
class Details:
    """`tries` counts failed attempts of the present allowance, `until` is the back-off deadline (seconds since 1970),
    `retry` the steps whose failure made this one fail, `key` the idempotency key that a copied step had before, `undo` the
    name of its compensation and the stored arguments of the call, in base64 (empty: they could not be stored), `expires`
    the time at which the receiver forgets the idempotency key (seconds since 1970).
    """

    arguments: dict[str, Argument] = field(default_factory=dict)
    code: str | None = None
    tries: int = 0
    until: float | None = None
    retry: tuple[int, ...] = ()
    key: str = ""
    undo: tuple[str, str] | None = None
    expires: float | None = None

    def write(self) -> bytes:
        """Give the bytes that the record keeps."""
        data: dict[str, Any] = {}
        if self.arguments:
            data["a"] = {name: [argument.digest, argument.preview] for name, argument in self.arguments.items()}
        if self.code:
            data["c"] = self.code
        if self.tries:
            data["t"] = self.tries
        if self.until is not None:
            data["u"] = self.until
        if self.retry:
            data["r"] = self.retry
        if self.key:
            data["k"] = self.key
        if self.undo is not None:
            data["x"] = self.undo
        if self.expires is not None:
            data["e"] = self.expires
        return json.dumps(data).encode()

    @staticmethod
    def read(data: bytes | None) -> Details:
        """Read what `write` gave."""
        if not data:
            return Details()
        try:
            found = json.loads(data)
            return Details(
                {name: Argument(*pair) for name, pair in found.get("a", {}).items()},
                found.get("c"),
                found.get("t", 0),
                found.get("u"),
                tuple(found.get("r", ())),
                found.get("k", ""),
                (found["x"][0], found["x"][1]) if "x" in found else None,
                found.get("e"),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise CorruptRecordError(
                f"The details of a step are damaged: {data!r}. Nothing was executed in its place. Restore the store from "
                f"a backup, or begin again with DURABLE_FRESH=1."
            ) from error


def short_digest(encoded: bytes) -> str:
    """Digest one argument, to name the one that changed without storing its value."""
    return f"{crc32(encoded):08x}"


@cache
def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def preview(name: str, value: object) -> str:
    """Show a value in a few characters; nothing of one whose parameter is named like a secret."""
    if _is_secret(name):
        return "(hidden)"
    if isinstance(value, _SCALARS):
        shown = repr(value)
        return shown if len(shown) <= _PREVIEW_LENGTH else shown[: _PREVIEW_LENGTH - 1] + "…"
    size = f" of {len(value)}" if isinstance(value, list | tuple | dict | set | frozenset) else ""
    return f"<{type(value).__qualname__}{size}>"


def render(arguments: Iterable[tuple[str, bytes, object]], code: str | None, *, hidden: bool) -> bytes:
    """Write the details of a plain intent from names, encodings and values: what `Details.write` would give, faster."""
    rendered = ""
    for name, encoded, value in arguments:
        shown = "(sensitive)" if hidden else preview(name, value)
        rendered += f'{"," if rendered else ""}{_quote(name)}:["{crc32(encoded):08x}",{_quote(shown)}]'
    if code:
        return f'{{"a":{{{rendered}}},"c":"{code}"}}'.encode()
    return f'{{"a":{{{rendered}}}}}'.encode()


_quote = json.encoder.encode_basestring_ascii
