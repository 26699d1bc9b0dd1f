"""A codec returns bytes only for a value that those bytes give back as it was; otherwise it returns None.

JSON takes what it holds without loss, C pickle the rest, dill the code that pickle cannot take.
"""

from __future__ import annotations

import io
import json
import pickle
import types
from functools import cache, partial
from json.scanner import make_scanner
from operator import attrgetter
from threading import local
from typing import TYPE_CHECKING, Any

from durable.identity.type_names import short_name_of
from durable.values.rebuilt_exceptions import parts_of, reduction, type_name

if TYPE_CHECKING:
    from collections.abc import Callable


class Unserializable(Exception):  # noqa: N818 -- internal: callers see NotSerializableError, which knows the step
    """`path` leads from the value to the part of type `culprit` that cannot be stored; `reason` says why."""

    def __init__(self, path: str, culprit: str, reason: str) -> None:
        super().__init__(path, culprit, reason)
        self.path = path
        self.culprit = culprit
        self.reason = reason

    def __str__(self) -> str:
        return f"result{self.path}: {self.culprit}: {self.reason}"


_JSON_ATOMS = frozenset({str, float, bool, types.NoneType})
_JSON_KEYS = frozenset({str})
_JSON_MAX_INT = 10**300  # beyond some thousand digits Python refuses to read an int
_JSON_MAX_ITEMS = 1000  # what nobody reads in a database is faster in pickle
_JSON_MAX_CONTAINERS = 200  # bounds the depth, too: reading JSON recurses, unpickling does not
_JSON_CONSTANTS = {None: b"null", True: b"true", False: b"false"}


def _make_json_encoder() -> Callable[[object], str]:
    public = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return public.encode
    # `encode` makes this anew in each call, which costs more than the encoding
    chunks = make(None, public.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


_to_json = _make_json_encoder()
_from_json = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed takes the scanner for its argument


def _encode_json(value: Any) -> bytes | None:
    kind = type(value)
    if kind is bool or value is None:
        return _JSON_CONSTANTS[value]
    if kind is int and -_JSON_MAX_INT < value < _JSON_MAX_INT:
        return b"%d" % value
    if kind not in _JSON_ATOMS and not _is_json(value):
        return None
    try:
        return _to_json(value).encode()
    except (ValueError, RecursionError):  # not a number, a lone surrogate; or the stack is nearly used up
        return None


def _is_json(value: Any) -> bool:
    containers = [value]
    seen: set[int] = set()
    items = 0
    for container in containers:  # grows while it is walked
        kind = type(container)
        if kind is dict and _JSON_KEYS.issuperset(map(type, container)):
            parts = container.values()
        elif kind is list:
            parts = container
        else:
            return False
        items += len(parts)
        # JSON would make two lists of one list that stands in two places
        if items > _JSON_MAX_ITEMS or len(containers) > _JSON_MAX_CONTAINERS or id(container) in seen:
            return False
        seen.add(id(container))
        for part in parts:
            kind = type(part)
            if kind in _JSON_ATOMS or (kind is int and -_JSON_MAX_INT < part < _JSON_MAX_INT):
                continue
            containers.append(part)
    return True


def _decode_json(body: bytes | memoryview) -> object:
    return _from_json(str(body, "utf-8"), 0)[0]


_CREDENTIALS = frozenset(
    {
        "aiohttp:ClientRequest",
        "aiohttp:ClientResponse",
        "aiohttp:ClientSession",
        "aiohttp:RequestInfo",
        "http:HTTPMessage",
        "http:HTTPResponse",
        "httpx:BaseClient",
        "httpx:Request",
        "httpx:Response",
        "requests:PreparedRequest",
        "requests:Request",
        "requests:Response",
        "requests:Session",
        "urllib:Request",
    }
)
_CREDENTIALS_REASON = "its request's headers hold credentials: return .json(), .text or .content"

# Types of which one object was read back in this process: pickling tells nothing about whether unpickling works.
# Exceptions never get here, because with them it depends on the arguments.
_proven: set[type] = set()


class _Pickler(pickle.Pickler):
    """C pickle that notes the types of which no object was read back yet, and refuses what holds credentials.

    Classes and functions of `__main__` stay references, as in plain pickle: when the script runs again or the cells of
    a notebook were executed again, the value is of the class that the code there names, so isinstance, `except` and
    `is Color.RED` hold. By value each record would bring a class of its own and none of them would. The price is that
    another program cannot read such a record, which `decode` says.
    """

    unproven: set[type] | None = None
    bare: BaseException | None = None  # this one as pickle has it

    def reducer_override(self, obj: Any) -> Any:  # called for all but atoms and plain containers
        kind = type(obj)
        if kind not in _proven:
            if isinstance(obj, BaseException) and obj is not self.bare:
                return _reduce_exception(obj)
            _refuse_credentials(kind)
            if self.unproven is None:
                self.unproven = set()
            self.unproven.add(kind)
        return NotImplemented


def _refuse_credentials(kind: type) -> None:
    for base in kind.__mro__:
        if short_name_of(base) in _CREDENTIALS:
            raise Unserializable("", type_name(kind), _CREDENTIALS_REASON)


_MAX_NESTED = 3  # exceptions as attributes of exceptions: each level is tried out several times
_nesting = local()


def storable_parts(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, str]]:
    """Arguments and attributes of an exception as far as they can be stored, and what is lost."""
    return parts_of(error, can_store=partial(takes, _encode_pickle), is_plain=partial(takes, _encode_json))


def _reduce_exception(error: BaseException, *, may_survive: bool = True) -> Any:
    depth = getattr(_nesting, "depth", 0)
    if depth == _MAX_NESTED:
        raise Unserializable("", type_name(type(error)), "exceptions are nested too deeply in exceptions")
    _nesting.depth = depth + 1
    try:
        parts = storable_parts(error)
        lost = parts[-1]
        if may_survive and not lost and _survives(error):
            return NotImplemented
        return reduction(error, *parts)
    finally:
        _nesting.depth = depth


def _survives(error: BaseException) -> bool:
    """Whether plain pickle gives the same exception back, although it calls `__init__` with `args`."""
    try:
        body = _encode_pickle(error, bare=error)
        copy: Any = body and pickle.loads(body)
        return (
            type(copy) is type(error)
            and bool(copy.args == error.args)
            and str(copy) == str(error)
            and vars(copy).keys() == vars(error).keys()
        )
    except Exception:
        return False


def _encode_pickle(value: object, bare: BaseException | None = None) -> bytes | None:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, 5)
    if bare is not None:
        pickler.bare = bare
    try:
        pickler.dump(value)
        body = buffer.getvalue()
        if pickler.unproven:
            pickle.loads(body)
            _proven.update(kind for kind in pickler.unproven if not issubclass(kind, BaseException))
    except (Unserializable, RecursionError, MemoryError):
        raise
    except Exception:
        return None
    return body


@cache
def _dill_pickler() -> type[Any]:
    import dill  # noqa: PLC0415 -- slow to import and rarely needed

    class Pickler(dill.Pickler):  # type: ignore[misc]  # dill is untyped
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException):
                return _reduce_exception(obj, may_survive=False)
            _refuse_credentials(type(obj))
            if isinstance(obj, io.IOBase) and type(obj) not in (io.BytesIO, io.StringIO):
                # dill would open the file again, and one for writing anew
                raise pickle.PicklingError(f"cannot store an open file: {obj!r}")
            if isinstance(obj, type | types.FunctionType):
                found = _found_in_main(obj)
                if found is obj:
                    return obj.__qualname__  # a reference, for the reason given at _Pickler
                if isinstance(found, type) and isinstance(obj, type) and obj.__module__ == "__main__":
                    return class_of_main, (obj.__qualname__,)  # the cell that defines it was executed again
            return NotImplemented

    return Pickler


def _found_in_main(obj: Any) -> Any:
    """Give what `__main__` calls by the name of a class or function."""
    try:
        return class_of_main(obj.__qualname__)
    except AttributeError:
        return None


def class_of_main(qualname: str) -> Any:
    """Give what stands in `__main__` under a qualified name; records refer to this function."""
    import __main__  # noqa: PLC0415 -- another program may have taken its place

    return attrgetter(qualname)(__main__)


def _encode_dill(value: object) -> bytes | None:
    buffer = io.BytesIO()
    try:
        _dill_pickler()(buffer, 5).dump(value)
        body = buffer.getvalue()
        _decode_dill(body)
    except (Unserializable, RecursionError, MemoryError):
        raise
    except Exception:
        return None
    return body


def _decode_dill(body: bytes | memoryview) -> object:
    import dill  # noqa: PLC0415 -- slow to import and rarely needed

    return dill.loads(body, ignore=True)


ENCODERS: dict[str, Callable[[object], bytes | None]] = {
    "json": _encode_json,
    "pickle": _encode_pickle,
    "dill": _encode_dill,
}
DECODERS: dict[str, Callable[[bytes | memoryview], object]] = {
    "json": _decode_json,
    "pickle": pickle.loads,
    "dill": _decode_dill,
}


def reason_against(value: object) -> str:
    """Why no codec took this value."""
    try:
        _encode_pickle(value)
        pickle.loads(pickle.dumps(value, 5))
    except Unserializable as error:
        return error.reason
    except (RecursionError, MemoryError) as error:
        return exhausted(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no accepted codec can store it"


def exhausted(error: RecursionError | MemoryError) -> str:
    """What ran out."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else "there is not enough memory for it"


def takes(encode: Callable[[object], bytes | None], value: object) -> bool:
    """Whether that encoder stores the value."""
    try:
        return encode(value) is not None
    except (Unserializable, RecursionError, MemoryError):
        return False
