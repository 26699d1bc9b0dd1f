"""What a call says: its task and its arguments, or the business key that stands for them.

The content of a call is computed before anything is executed, so an argument without a value, or a key that cannot be
made, is an error that costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.details import preview, render, short_digest
from durable.errors import ConfigurationError, FingerprintError
from durable.fingerprints import encode, encode_argument, encode_self
from durable.step_keys import content_digest, shown_label

if TYPE_CHECKING:
    from durable.definitions import TaskDefinition

_SELF = "self"


class Call:
    """One call of a task: bound arguments, their encodings, and the digest of what it says."""

    __slots__ = ("args", "business_key", "content", "encoded", "instance", "kwargs", "task", "values")

    def __init__(self, task: TaskDefinition, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = task
        self.instance = instance
        self.args = args
        self.kwargs = kwargs
        signature = task.signature if instance is None or task.takes_self else task.bound_signature
        self.values = dict(zip(signature.names, signature.bind(*args, **kwargs), strict=True))
        self.business_key: str | None = None
        if task.key is None:
            self.encoded = self._encode(strict=True)
            self.content = content_digest(task.label, _framed(self.encoded))
        else:
            self.encoded = self._encode(strict=False)
            self.business_key, discriminator = self._make_key()
            self.content = content_digest(task.label, discriminator)

    @property
    def label(self) -> str:
        """Task and discriminator for people."""
        return shown_label(self.task.segment, self.content, self.business_key, hidden=self.task.sensitive)

    def content_under(self, label: str) -> bytes:
        """Digest the same call as a task of another name."""
        if self.business_key is None:
            return content_digest(label, _framed(self.encoded))
        return content_digest(label, self._make_key()[1])

    def details(self, code: str | None = None) -> bytes:
        """Render a short digest and a preview of each argument for the record."""
        hidden = self.task.sensitive
        return render(
            [(name, data, "(sensitive)" if hidden else self._preview(name)) for name, data in self.encoded.items()], code
        )

    def digests(self) -> dict[str, str]:
        """Give the short digest of each argument."""
        return {name: short_digest(data) for name, data in self.encoded.items()}

    def _preview(self, name: str) -> str:
        if name in self.values:
            return preview(name, self.values[name])
        if name == _SELF:
            return f"<{type(self.instance).__qualname__}>"
        for extra in self.values.values():
            if isinstance(extra, dict) and name in extra:
                return preview(name, extra[name])
        return "?"

    def mutated(self) -> str | None:
        """Name an argument that encodes differently now than before the body ran."""
        for name, value in self.values.items():
            if name in self.encoded and type(value) not in _IMMUTABLE:
                try:
                    if encode_argument(self.task.label, name, value) != self.encoded[name]:
                        return name
                except FingerprintError:
                    return name
        return None

    def _encode(self, *, strict: bool) -> dict[str, bytes]:
        task, encoded = self.task, {}
        if self.instance is not None:
            encoded[_SELF] = encode_self(self.instance)
        defaults = task.default_encodings
        for name, value in self.values.items():
            if name in task.ignore:
                continue
            try:
                data = encode_argument(task.label, name, value)
            except FingerprintError:
                if strict:
                    raise
                continue
            if data != defaults.get(name):
                encoded[name] = data
        return encoded

    def _make_key(self) -> tuple[str, bytes]:
        key = self.task.key
        try:
            if callable(key):
                bound = (self.instance,) if self.instance is not None and not self.task.takes_self else ()
                made = key(*bound, *self.args, **self.kwargs)
            else:
                made = str(key).format_map({**self.values, **self._variadic(), _SELF: self.instance})
            discriminator = b"key:" + encode(made)
        except Exception as error:
            raise ConfigurationError(
                f"Task {self.task.full_name!r} was not executed: its key= could not be made for this call: "
                f"{type(error).__name__}: {error}"
            ) from error
        if made is None or made == "":
            raise ConfigurationError(
                f"Task {self.task.full_name!r} was not executed: its key= is {made!r} for this call, which names nothing."
            )
        return str(made), discriminator

    def _variadic(self) -> dict[str, Any]:
        return {name: item for value in self.values.values() if isinstance(value, dict) for name, item in value.items()}


_IMMUTABLE = frozenset({str, int, float, bool, bytes, complex, type(None)})


def _framed(encoded: dict[str, bytes]) -> bytes:
    return b"".join([b"%d:%b=%d:%b" % (len(name), name.encode(), len(data), data) for name, data in encoded.items()])
