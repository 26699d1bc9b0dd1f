"""What a call says: its task and its arguments, or the business key that stands for them.

The content of a call is computed before anything is executed, so an argument without a value, or a key that cannot be
made, is an error that costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.errors import ConfigurationError, FingerprintError
from durable.identity.encoding import SCALARS, encode_type
from durable.identity.fingerprints import encode, encode_argument, encode_self
from durable.identity.labels import label_prefix
from durable.identity.step_keys import content_digest, shown_label
from durable.steps.details import short_digest

if TYPE_CHECKING:
    from durable.declarations.definitions import Definition

_SELF = "self"
_LENGTHS = {length: b"%d:" % length for length in range(64)}  # most encodings are short, and a look-up is quicker


class Call:
    """One call of a task: `arguments` that count, by name, encoding and value, and `content`, the digest of what it says."""

    __slots__ = (
        "_binding",
        "_bound",
        "_data",
        "args",
        "arguments",
        "business_key",
        "content",
        "immutable",
        "instance",
        "kwargs",
        "task",
    )

    def __init__(self, task: Definition, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = task
        self.instance = instance
        self.args = args
        self.kwargs = kwargs
        self._binding = binding = task.binding if instance is None or task.takes_self else task.bound_binding
        signature = binding.signature
        self._bound = args if len(args) == signature.positional and not kwargs else signature.bind(*args, **kwargs)
        self.business_key: str | None = None
        if task.key is None:
            self._data = self._encode(())
        else:
            self._encode(FingerprintError)
            self.business_key, self._data = self._make_key()
        content = binding.content.copy()
        content.update(self._data)
        self.content = content.digest()

    @property
    def values(self) -> dict[str, Any]:
        """Every parameter's value by its name, defaults included."""
        return dict(zip(self._binding.signature.names, self._bound, strict=True))

    @property
    def args_with_self(self) -> tuple[Any, ...]:
        """Positional arguments for other functions of the user: the object of a method comes first."""
        return self.args if self.instance is None or self.task.takes_self else (self.instance, *self.args)

    @property
    def encoded(self) -> dict[str, bytes]:
        """The arguments that count, encoded; those equal to their default are left out."""
        return {name: data for name, data, _ in self.arguments}

    @property
    def shared_content(self) -> bytes:
        """What the call says to other runs."""
        return self.content

    @property
    def label(self) -> str:
        """Task and discriminator for people."""
        return shown_label(self.task.segment, self.content, self.business_key, hidden=self.task.hides_key)

    def content_under(self, label: str) -> bytes:
        """Digest the same call as a task of another name."""
        return content_digest(label_prefix(label), self._data)

    def digests(self) -> dict[str, str]:
        """Give the short digest of each argument."""
        return {name: short_digest(data) for name, data, _ in self.arguments}

    def mutated(self) -> str | None:
        """Name an argument that encodes differently now than before the body ran; there is none if all are `immutable`."""
        encoded = self.encoded
        for name, value in zip(self._binding.signature.names, self._bound, strict=True):
            if name in encoded and type(value) not in _IMMUTABLE:
                try:
                    if encode_argument(self.task.label, name, value) != encoded[name]:
                        return name
                except FingerprintError:
                    return name
        return None

    def _encode(self, passed_over: type[Exception] | tuple[()]) -> bytes:
        """Encode the arguments that count; those whose encoding raises what is passed over do not."""
        arguments: list[tuple[str, bytes, object]] = []
        immutable, framed = True, b""
        if self.instance is not None:
            data = encode_self(self.instance)
            arguments.append((_SELF, data, self.instance))
            framed = b"4:self=%d:%b" % (len(data), data)
        for (name, prefix, default), value in zip(self._binding.parameters, self._bound):  # noqa: B905 -- as many by construction
            if prefix is None:
                continue
            scalar = SCALARS.get(type(value))
            if scalar is not None:
                data = scalar(value)
            else:
                immutable = False
                try:
                    data = encode_argument(self.task.label, name, value)
                except passed_over:
                    continue
            if data != default:
                arguments.append((name, data, value))
                framed += prefix + (_LENGTHS.get(len(data)) or b"%d:" % len(data)) + data
        self.arguments, self.immutable = arguments, immutable
        return framed

    def _make_key(self) -> tuple[str, bytes]:
        key = self.task.key
        try:
            if callable(key):
                made = key(*self.args_with_self, **self.kwargs)
            else:
                made = str(key).format_map({**self.values, **self._variadic(), _SELF: self.instance})
            data = encode(made)
        except Exception as error:
            raise ConfigurationError(
                f"Task {self.task.full_name!r} was not executed: its key= could not be made for this call: "
                f"{type(error).__name__}: {error}"
            ) from error
        if _says_nothing(made, data):
            raise ConfigurationError(
                f"Task {self.task.full_name!r} was not executed: its key= is {made!r} for this call, which names nothing."
            )
        return str(made), b"key:" + data

    def _variadic(self) -> dict[str, Any]:
        return {name: item for value in self.values.values() if isinstance(value, dict) for name, item in value.items()}


class LateCall(Call):
    """A call some of whose arguments were not known when its content was fixed, which stays as it was."""

    __slots__ = ("_values_digest",)

    def __init__(self, early: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task, self.instance, self.args, self.kwargs = early.task, early.instance, args, kwargs
        self.content, self.business_key = early.content, early.business_key
        self._data = early._data  # noqa: SLF001 -- one of this class
        self._binding = early._binding  # noqa: SLF001 -- as above
        self._bound = self._binding.signature.bind(*args, **kwargs)
        self._values_digest = content_digest(self.task.label_prefix, self._encode(FingerprintError))

    @property
    def shared_content(self) -> bytes:
        """What the call says to other runs: its arguments, where no key stands for them."""
        return self.content if self.business_key is not None else self._values_digest


def _says_nothing(key: object, data: bytes) -> bool:
    """Whether a key is the same for all calls: empty, or an object that has a type but no value."""
    return not key if isinstance(key, str) else key is None or data == encode_type(type(key))


_IMMUTABLE = frozenset({str, int, float, bool, bytes, complex, type(None)})
