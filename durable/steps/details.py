"""What a step's record says for error messages and retries: digests and previews, never values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from durable.errors import CorruptRecordError
from durable.identity.secrets_of_calls import is_secret_name, looks_secret, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREVIEW_LENGTH, _EXCERPT_LENGTH = 60, 200
_LONG = 8  # characters below which a text is no credential
_SCALARS = (str, int, float, bool, type(None))


class Argument(NamedTuple):
    """One argument of a call: its short digest and, unless sensitive, how it looks."""

    digest: str
    preview: str


class Excerpt(NamedTuple):
    """How something looks, said by whoever knows what may be seen of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """`tries` counts failed attempts of the present allowance, `until` is the back-off deadline (seconds since 1970) and
    `pause` how long it was planned to be (seconds), `retry` the steps whose failure made this one fail, `key` the idempotency
    key that a copied step had before, `undo` the name of its compensation and the stored arguments of the call, in base64
    (empty: they could not be stored). `spent` holds the amounts of a step that costs something, of all its attempts,
    `elsewhere` those that it cost the run that it was copied from, and `unknown` counts the attempts whose costs nobody
    knows. `expires` is the time at which the receiver forgets the idempotency key (seconds since 1970). `first` is the number
    of the event with which a step that was executed again since had ended at first, `again`
    that of the last event before it was tried again. `passed` holds, of a checkpoint that later
    executions came to again after something new, the number of the event that each of them began with and that it came at.
    """

    arguments: dict[str, Argument] = field(default_factory=dict)
    code: str | None = None
    tries: int = 0
    until: float | None = None
    retry: tuple[int, ...] = ()
    key: str = ""
    undo: tuple[str, str] | None = None
    spent: dict[str, str] | None = None
    elsewhere: dict[str, str] | None = None
    unknown: int = 0
    expires: float | None = None
    first: int | None = None
    pause: float | None = None
    passed: tuple[tuple[int, int], ...] = ()
    again: int | None = None

    def due(self, now: float) -> float | None:
        """Give the time of the next attempt; where the clock was set back, the planned pause counts from now."""
        return self.until if self.until is None or self.pause is None else min(self.until, now + self.pause)

    def write(self) -> bytes:
        """Give the bytes that the record keeps."""
        arguments = {name: [argument.digest, argument.preview] for name, argument in self.arguments.items()}
        always = {
            "u": self.until,
            "x": self.undo,
            "m": self.spent,
            "e": self.elsewhere,
            "w": self.expires,
            "f": self.first,
            "p": self.pause,
            "g": self.again,
        }
        unless_empty = {
            "a": arguments,
            "c": self.code,
            "t": self.tries,
            "r": self.retry,
            "k": self.key,
            "n": self.unknown,
            "b": self.passed,
        }
        data = {name: value for name, value in unless_empty.items() if value}
        return json.dumps(data | {name: value for name, value in always.items() if value is not None}).encode()

    def going_on(self, details: bytes, *, done: int | None, is_copied: bool) -> bytes:
        """Give the details of another execution of a step that ended with the event `done`, with what it leaves to that."""
        first = self.after(done).first
        if not is_copied and not self.unknown and first is None:
            return details
        key = self.key if is_copied else ""
        return replace(Details.read(details), key=key, unknown=self.unknown, first=first, again=self.again).write()

    def after(self, done: int | None) -> Details:
        """Give the details of a step that had ended with this event, if it had, and ends once more."""
        return self if self.first is not None else replace(self, first=done)

    def with_another_unknown(self) -> bytes:
        """Give the details after one more attempt of which nobody knows what it cost."""
        return replace(self, unknown=self.unknown + 1).write()

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
                _amounts(found.get("m")),
                _amounts(found.get("e")),
                int(found.get("n", 0)),
                found.get("w"),
                found.get("f"),
                found.get("p"),
                tuple((begun, came) for begun, came in found.get("b", ())),
                found.get("g"),
            )
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise CorruptRecordError(
                f"The details of a step are damaged: {data!r}. Nothing was executed in its place. Restore the store from "
                f"a backup, or begin again with DURABLE_FRESH=1."
            ) from error


def _amounts(found: Any) -> dict[str, str] | None:
    if found is None:
        return None
    if not all(isinstance(each, str) and Decimal(each) >= 0 for each in found.values()):
        raise ValueError(f"{found!r} are no amounts")
    return dict(found)


def short_digest(encoded: bytes) -> str:
    """Digest one argument, to name the one that changed without storing its value."""
    return f"{crc32(encoded):08x}"


def preview(name: str, value: object) -> str:
    """Show a value in a few characters; nothing of what is a credential by its parameter's name or by its looks."""
    if is_secret_name(name) or (type(value) is str and len(value) >= _LONG and looks_secret(value)):
        return "(hidden)"
    if isinstance(value, str) and "://" in value:
        value = without_credentials(value)
    if isinstance(value, _SCALARS):
        shown = repr(value)
        return shown if len(shown) <= _PREVIEW_LENGTH else shown[: _PREVIEW_LENGTH - 1] + "…"
    if isinstance(value, bytes):
        return f"<bytes of {len(value)}>"
    if isinstance(value, Excerpt):
        return value.text if len(value.text) <= _EXCERPT_LENGTH else value.text[: _EXCERPT_LENGTH - 1] + "…"
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
