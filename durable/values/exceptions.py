"""An exception is always stored as type, message and traceback text, and `except` catches it again on replay.

The object itself is one part among others: where it cannot be stored or read back, an exception of its class takes its
place, and where the class is gone, `ReplayedError`. The text never shows the values of local variables.
"""

from __future__ import annotations

import json
import traceback
from base64 import b85decode, b85encode
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.errors import CorruptRecordError, ReplayedError
from durable.identity.secrets_of_calls import without_literals
from durable.identity.type_names import module_of
from durable.values.codecs import Unserializable, storable_parts
from durable.values.rebuilt_exceptions import EVERYTHING, message_of, rebuild, recorded_class, restore, type_name

if TYPE_CHECKING:
    from durable.values.serializers import Serializer


_HIDDEN = "(sensitive)"
_MAX_CHAIN = 10  # causes of causes, groups in groups


class StoredError(NamedTuple):
    """What can be shown of a stored exception without decoding any object; `members` are those of a group."""

    type_name: str
    message: str
    traceback: str
    notes: tuple[str, ...] = ()
    members: tuple[StoredError, ...] = ()


def encode_exception(
    exc: BaseException, serializer: Serializer, *, run: str, step: str, sensitive: bool = False
) -> bytes:
    """The sealed exception; of a sensitive one, the type alone."""
    stored = _Stored(serializer, run, step)
    text = json.dumps(stored.hidden(exc) if sensitive else stored.visible(exc), ensure_ascii=False)
    return serializer.seal_text(text, run=run, step=step)


def decode_exception(data: bytes, serializer: Serializer, *, run: str, step: str) -> BaseException:
    """An exception to raise; its recorded traceback is the text in `__durable_traceback__`."""
    return _Stored(serializer, run, step).revived(_read(data, serializer, run, step))


def move_exception(data: bytes, serializer: Serializer, *, run: str, step: str, to: str) -> bytes:
    """The same exception, sealed for the same step of another run; nothing is unpickled."""
    stored = _Stored(serializer, run, step)
    text = json.dumps(stored.moved(_read(data, serializer, run, step), to), ensure_ascii=False)
    return serializer.seal_text(text, run=to, step=step)


def describe(data: bytes, serializer: Serializer, *, run: str, step: str) -> StoredError:
    """What people see of it; nothing is unpickled."""
    return _describe(_read(data, serializer, run, step))


def _read(data: bytes, serializer: Serializer, run: str, step: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(serializer.open_text(data, run=run, step=step))
    return stored


def _describe(stored: dict[str, Any]) -> StoredError:
    return StoredError(
        type_name=_full_name(stored),
        message=stored["message"],
        traceback=stored["traceback"],
        notes=tuple(stored.get("notes", ())),
        members=tuple(_describe(member) for member in stored.get("members", ())),
    )


def _full_name(stored: dict[str, Any]) -> str:
    module, name = stored["class"]
    return name if module == "builtins" else f"{module}.{name}"


class _Stored(NamedTuple):
    """Between an exception and what JSON holds of it."""

    serializer: Serializer
    run: str
    step: str

    def hidden(self, exc: BaseException) -> dict[str, Any]:
        stored = {"class": _class_of(exc), "message": _HIDDEN, "traceback": _HIDDEN, "hidden": True}
        if isinstance(exc, BaseExceptionGroup):
            stored |= {"group": _HIDDEN, "members": [self.hidden(member) for member in exc.exceptions]}
        return stored

    def visible(self, exc: BaseException, depth: int = 0) -> dict[str, Any]:
        stored: dict[str, Any] = {
            "class": _class_of(exc),
            "message": _clean(message_of(exc)),
            "traceback": _traceback_of(exc, chain=depth == 0),
        }
        if notes := [_clean(str(note)) for note in getattr(exc, "__notes__", ())]:
            stored["notes"] = notes
        if isinstance(exc, BaseExceptionGroup):
            stored["group"] = _clean(exc.message)
            stored["attributes"], stored["lost"] = self._attributes(exc)
            stored["members"] = [self.visible(member, depth + 1) for member in exc.exceptions]
        else:
            stored["object"] = self._body(exc)
        if depth < _MAX_CHAIN:
            if exc.__cause__ is not None:
                stored["cause"] = self.visible(exc.__cause__, depth + 1)
            elif exc.__context__ is not None:
                stored["context"] = self.visible(exc.__context__, depth + 1)
                stored["suppressed"] = exc.__suppress_context__
        return stored

    def _attributes(self, exc: BaseException) -> tuple[str | None, dict[str, str]]:
        _, attributes, lost = storable_parts(exc)
        return self._body(attributes), lost

    def _body(self, value: object) -> str | None:
        try:
            return b85encode(self.serializer.encode(value, run=self.run, step=self.step)).decode()
        except Unserializable:
            return None

    def moved(self, stored: dict[str, Any], to: str) -> dict[str, Any]:
        found = dict(stored)
        for part in ("object", "attributes"):
            if found.get(part) is not None:
                unsealed = self.serializer.unseal(b85decode(found[part]), run=self.run, step=self.step)
                found[part] = b85encode(self.serializer.seal(unsealed, run=to, step=self.step)).decode()
        for part in ("cause", "context"):
            if part in found:
                found[part] = self.moved(found[part], to)
        if "members" in found:
            found["members"] = [self.moved(member, to) for member in found["members"]]
        return found

    def revived(self, stored: dict[str, Any]) -> BaseException:
        exc = self._object(stored)
        if exc is None:
            exc = self._stand_in(stored)
        attributes: dict[str, Any] = {"__durable_traceback__": stored["traceback"]}
        if (notes := stored.get("notes")) and not hasattr(exc, "__notes__"):
            attributes["__notes__"] = notes
        if "cause" in stored:
            attributes["__cause__"] = self.revived(stored["cause"])
        elif "context" in stored:
            attributes["__context__"] = self.revived(stored["context"])
            attributes["__suppress_context__"] = stored["suppressed"]
        restore(exc, attributes)
        return exc

    def _object(self, stored: dict[str, Any]) -> BaseException | None:
        exc = self._value(stored.get("object"))
        return exc if isinstance(exc, BaseException) else None

    def _value(self, body: str | None) -> object:
        if body is None:
            return None
        try:
            return self.serializer.decode(b85decode(body), run=self.run, step=self.step)
        except CorruptRecordError:  # its code has changed since: what the text tells still holds
            return None

    def _stand_in(self, stored: dict[str, Any]) -> BaseException:
        cls = _import_class(*stored["class"])
        if "members" in stored:
            return self._group(cls, stored)
        message = stored["message"]
        if cls is None:
            return ReplayedError(_full_name(stored), message)
        reason = "the step is sensitive" if stored.get("hidden") else "the object could not be stored or read back"
        try:
            return rebuild(cls, (message,), {}, {EVERYTHING: reason}, message)
        except Exception:  # a metaclass or a layout that allows no subclass
            return ReplayedError(_full_name(stored), message)

    def _group(self, cls: type[BaseException] | None, stored: dict[str, Any]) -> BaseException:
        args = stored["group"], [self.revived(member) for member in stored["members"]]
        if cls is None or not issubclass(cls, BaseExceptionGroup):
            return BaseExceptionGroup(f"{_full_name(stored)}: {args[0]}", args[1])
        attributes = self._value(stored.get("attributes"))
        try:
            return rebuild(
                cls, args, attributes if isinstance(attributes, dict) else {}, stored.get("lost", {}), stored["message"]
            )
        except Exception:  # such as an ExceptionGroup whose member is not an Exception any more
            return BaseExceptionGroup(*args)


def _class_of(exc: BaseException) -> tuple[str, str]:
    cls = recorded_class(exc)
    return module_of(cls), cls.__qualname__


def _import_class(module: str, name: str) -> type[BaseException] | None:
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:  # importing executes code, which may fail in any way
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _traceback_of(exc: BaseException, *, chain: bool) -> str:
    try:
        return without_literals(_clean("".join(traceback.format_exception(exc, chain=chain))))
    except Exception as failure:
        return f"{type_name(type(exc))}: {_clean(message_of(exc))} (no traceback: {type(failure).__name__})"


def _clean(text: str) -> str:
    # lone surrogates have no UTF-8
    return text.encode("utf-8", "backslashreplace").decode()
