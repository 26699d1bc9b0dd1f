"""Bytes are decoded only if they are, to the last bit, what was written for this very step.

A codec turns a value into a body, and the envelope around it says how to read it:

    D 1   magic and format version
    j     codec: j JSON, p pickle, d dill, e exception, s a value and, beside it, what its step changed in the run's state,
          l any of these, locked by a vault
    c     seal: c CRC-32 or h HMAC-SHA256, in hex, over this header, run, step and body
    ...   the seal (8 or 64 characters), then the body

All of it but the body of pickle and dill is text, so that plain values can be read in the database.
"""

from __future__ import annotations

import hmac
import types
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

from durable.errors import ConfigurationError, CorruptRecordError
from durable.identity.type_names import is_main_found
from durable.values.codecs import DECODERS, ENCODERS, Unserializable, exhausted, reason_against, takes
from durable.values.rebuilt_exceptions import attributes_of, type_name
from durable.values.vaults import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["Serializer", "Unserializable", "describe_unserializable", "has_second", "is_locked", "is_plain"]

_MAGIC = b"D1"
_LETTERS = {"json": b"j", "pickle": b"p", "dill": b"d", "exception": b"e", "state": b"s", "locked": b"l"}
_NAMES = {letter: name for name, letter in _LETTERS.items()}
_CHECKSUM, _HMAC = b"c", b"h"
_SIGNED = b"durable snapshot:"
_COPIED = 4096  # bytes up to which a copy is quicker than a view


class Serializer:
    """Values to sealed bytes and back; safe to share between threads."""

    def __init__(
        self,
        *,
        keys: Sequence[bytes] = (),
        codecs: Collection[str] = ("json", "pickle", "dill"),
        vault: Vault | None = None,
    ) -> None:
        """Seal with `keys[0]`, accept seals of all `keys`; write and read no codec but `codecs`; lock with `vault`."""
        if not all(keys):
            raise ConfigurationError("A secret key is empty. Leave it out, or set DURABLE_SECRET_KEY to random bytes.")
        if unknown := set(codecs) - set(ENCODERS):
            raise ConfigurationError(f"There is no codec {min(unknown)!r}. Choose from: {', '.join(ENCODERS)}.")
        self._keys = tuple(keys)
        self._vault = vault or Vault(keys, None)
        self._seal = _HMAC if keys else _CHECKSUM
        self._body_at = len(_MAGIC) + 2 + (64 if keys else 8)
        # in the order of ENCODERS, whatever the order in `codecs`
        self._encoders = [(self._header(name), encode) for name, encode in ENCODERS.items() if name in codecs]
        self._decoders = {self._header(name): decode for name, decode in DECODERS.items() if name in codecs}
        self._decoders[self._header("state")] = self._decode_first
        self._decoders[self._header("locked")] = lambda body: self._decode_unsealed(self._vault.unlock(bytes(body)))

    def _header(self, codec: str) -> bytes:
        return _MAGIC + _LETTERS[codec] + self._seal

    def encode(self, value: object, *, run: str, step: str) -> bytes:
        """The sealed value; `Unserializable` if it could not be read again."""
        try:
            for header, encode in self._encoders:
                body = encode(value)
                if body is not None:
                    return self._sealed(header, body, run, step)
        except (RecursionError, MemoryError) as error:
            raise Unserializable("", type_name(type(value)), exhausted(error)) from None
        except Unserializable:  # raised deep inside of the value, where the path is not known
            pass
        raise _explain(value, self.can_encode)

    def can_encode(self, value: object) -> bool:
        """Whether `encode` would take the value."""
        return any(takes(encode, value) for _, encode in self._encoders)

    def decode(self, data: bytes, run: str, step: str) -> object:
        """The value; `CorruptRecordError` if it is not what was written for this step, or not readable here."""
        header, body = self._opened(data, run, step)
        decode = self._decoders.get(header)
        if decode is None:
            letter = header[2:3]
            raise CorruptRecordError(
                f"{_record(run, step)} is written in the codec {_NAMES.get(letter, letter.decode('latin-1'))!r}, which "
                "this reader does not accept. Nothing was decoded. Accept the codec in the settings if you trust the "
                "store, or read it with the release that wrote it."
            )
        try:
            return decode(body)
        except (ImportError, AttributeError) as error:
            if not is_main_found():
                return self.decode(data, run=run, step=step)
            raise CorruptRecordError(
                f"{_record(run, step)} needs a class or function that is not where it was: {error}. Put it back, or "
                "leave an alias under the old name (`Old = New`). What a script defines is found in that script only."
            ) from error
        except MemoryError:
            raise
        except Exception as error:
            is_code = header == self._header("dill")
            hint = " Code stored by value is tied to the Python that wrote it." if is_code else ""
            raise CorruptRecordError(
                f"{_record(run, step)} cannot be decoded: {type(error).__name__}: {error}.{hint} Nothing was executed "
                "in its place. Restore the code that wrote it, or execute the step again under a new `version=`."
            ) from error

    def join(self, data: bytes, beside: object, *, run: str, step: str) -> bytes:
        """Put a second value beside one that `encode` gave; `decode` gives the first one."""
        first, second = self.unseal(data, run=run, step=step), self.encode(beside, run=run, step=step)
        body = b"%d %b%b" % (len(first), first, self.unseal(second, run=run, step=step))
        return self._sealed(self._header("state"), body, run, step)

    def decode_beside(self, data: bytes, *, run: str, step: str) -> object:
        """The second value of those that `join` put together, None if there is only one."""
        unsealed = self.unlocked(self.unseal(data, run=run, step=step), run=run, step=step)
        if not has_second(unsealed):
            return None
        second = _halves(unsealed[1:])[1]
        return self.decode(self.seal(second, run=run, step=step), run=run, step=step)

    def unseal(self, data: bytes, *, run: str, step: str) -> bytes:
        """Letter and body of something sealed, checked and not decoded."""
        header, body = self._opened(data, run, step)
        return header[2:3] + body

    def seal(self, unsealed: bytes, *, run: str, step: str) -> bytes:
        """Seal what `unseal` gave, for this run and step."""
        return self._sealed(_MAGIC + unsealed[:1] + self._seal, unsealed[1:], run, step)

    def lock(self, data: bytes, *, run: str, step: str) -> bytes:
        """Make something sealed unreadable without the key of the vault; `decode` reads it with the key."""
        return self._sealed(self._header("locked"), self._vault.lock(self.unseal(data, run=run, step=step)), run, step)

    def unlocked(self, unsealed: bytes, *, run: str, step: str) -> bytes:
        """Letter and body of what `unseal` gave, unlocked if it is locked; raises `CorruptRecordError` without the key."""
        if not is_locked(unsealed):
            return unsealed
        try:
            return self._vault.unlock(unsealed[1:])
        except ValueError as error:
            raise CorruptRecordError(
                f"{_record(run, step)} is that of a sensitive step and cannot be read: {error}. Put the key file back beside "
                f"the store, or set the DURABLE_SECRET_KEY that it was written with."
            ) from None

    def sign(self, data: bytes) -> str:
        """Seal something that leaves the store; empty if no secret key is configured."""
        return hmac.digest(self._keys[0], _SIGNED + data, "sha256").hex() if self._keys else ""

    def is_signed(self, data: bytes, signature: str) -> bool:
        """Whether `sign` gave this signature, with any of the keys."""
        return any(
            hmac.compare_digest(signature.encode(), hmac.digest(key, _SIGNED + data, "sha256").hex().encode())
            for key in self._keys
        )

    def _decode_first(self, body: bytes | memoryview) -> object:
        return self._decode_unsealed(_halves(body)[0])

    def _decode_unsealed(self, unsealed: bytes) -> object:
        return self._decoders[_MAGIC + unsealed[:1] + self._seal](unsealed[1:])

    def seal_text(self, text: str, *, run: str, step: str) -> bytes:
        """Seal the text of a stored exception."""
        return self._sealed(self._header("exception"), text.encode(), run, step)

    def open_text(self, data: bytes, *, run: str, step: str) -> str:
        """The text of a stored exception; nothing is unpickled."""
        header, body = self._opened(data, run, step)
        if header != self._header("exception"):
            raise CorruptRecordError(f"{_record(run, step)} holds a value where an exception is expected.")
        return str(body, "utf-8")

    def _sealed(self, header: bytes, body: bytes, run: str, step: str) -> bytes:
        if self._keys:
            return header + _mac(self._keys[0], header, body, run, step) + body
        return header + _checksum(header, body, run, step) + body

    def _opened(self, data: bytes, run: str, step: str) -> tuple[bytes, bytes | memoryview]:
        header, at = data[:4], self._body_at
        if header not in self._decoders and (header[:2] != _MAGIC or header[3:] != self._seal):
            _refuse_header(header, run, step)
        body = data[at:] if len(data) < _COPIED else memoryview(data)[at:]
        if self._keys:
            valid = any(hmac.compare_digest(data[4:at], _mac(key, header, body, run, step)) for key in self._keys)
        else:
            valid = data[4:at] == _checksum(header, body, run, step)
        if not valid:
            cause = "is sealed with another key, " if self._keys else ""
            raise CorruptRecordError(
                f"{_record(run, step)} {cause}is damaged, or was written for another step. Nothing was decoded or "
                "executed in its place. Restore a backup, or execute the step again under a new `version=`."
            )
        return header, body


def is_plain(unsealed: bytes) -> bool:
    """Whether decoding what `Serializer.unseal` gave executes no code: it is JSON, or text."""
    if unsealed[:1] == _LETTERS["state"]:
        return all(map(is_plain, _halves(unsealed[1:])))
    return unsealed[:1] in (_LETTERS["json"], _LETTERS["exception"])


def is_locked(unsealed: bytes) -> bool:
    """Whether what `Serializer.unseal` gave cannot be read without the key of a vault."""
    return unsealed[:1] == _LETTERS["locked"]


def has_second(unsealed: bytes) -> bool:
    """Whether what `Serializer.unseal` gave holds a second value beside the first."""
    return unsealed[:1] == _LETTERS["state"]


def _halves(body: bytes | memoryview) -> tuple[bytes, bytes]:
    length, _, parts = bytes(body).partition(b" ")
    return parts[: int(length)], parts[int(length) :]


def _mac(key: bytes, header: bytes, body: bytes | memoryview, run: str, step: str) -> bytes:
    message = b"".join((_context(header, run, step), body))
    return hmac.digest(key, message, "sha256").hex().encode()


def _checksum(header: bytes, body: bytes | memoryview, run: str, step: str) -> bytes:
    begun = _begun_checksum(header, run, len(step))
    return b"%08x" % crc32(body, crc32(step.encode("utf-8", "surrogatepass"), begun))


@lru_cache(maxsize=1024)
def _begun_checksum(header: bytes, run: str, step_length: int) -> int:
    return crc32(b"%d:" % step_length, crc32(_context(header, run, "")))


def _context(header: bytes, run: str, step: str) -> bytes:
    # the lengths keep ("ab", "c") apart from ("a", "bc")
    return header + f"{len(run)}:{len(step)}:{run}{step}".encode("utf-8", "surrogatepass")


def _record(run: str, step: str) -> str:
    return f"The record of step {step!r} of run {run!r}"


def _refuse_header(header: bytes, run: str, step: str) -> NoReturn:
    magic, seal = header[:2], header[3:]
    if magic == _MAGIC and seal == _HMAC:
        raise CorruptRecordError(
            f"{_record(run, step)} is sealed with a secret key and none is configured. Set DURABLE_SECRET_KEY."
        )
    if magic == _MAGIC and seal == _CHECKSUM:
        raise CorruptRecordError(
            f"{_record(run, step)} is not sealed with a secret key, although one is configured: anybody could have "
            "written it. Nothing was decoded. If you trust the store, read it without DURABLE_SECRET_KEY."
        )
    if magic[:1] == _MAGIC[:1] and magic > _MAGIC:
        raise CorruptRecordError(
            f"{_record(run, step)} has the format {magic[1:].decode('latin-1')!r}, which is newer than this release "
            "knows, or is damaged. Nothing was decoded. Read it with the release that wrote it."
        )
    raise CorruptRecordError(f"{_record(run, step)} is damaged: it does not begin as a record does. Restore a backup.")


_MAX_DEPTH = 50


def describe_unserializable(value: object) -> tuple[str, str]:
    """Path to the innermost part that cannot be stored, and its type: `("['conn'].sock", "socket.socket")`."""
    error = _explain(value, Serializer().can_encode)
    return error.path, error.culprit


def _explain(value: object, can_encode: Callable[[object], bool]) -> Unserializable:
    path = ""
    seen: set[int] = set()
    while len(seen) < _MAX_DEPTH:
        seen.add(id(value))
        inner = next(((p, v) for p, v in _parts(value) if id(v) not in seen and not can_encode(v)), None)
        if inner is None:
            break
        path, value = path + inner[0], inner[1]
    return Unserializable(path, type_name(type(value)), reason_against(value))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
        yield from ((f" key {key!r}", key) for key in value)
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f" element {item!r}", item) for item in value)
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f" variable {name!r}", cell.cell_contents) for name, cell in cells)
    # a class names its base, which is no part of it
    if not isinstance(value, type) and "__reduce_ex__" not in vars(type(value)):
        yield from ((f".{name}", item) for name, item in attributes_of(value).items())
