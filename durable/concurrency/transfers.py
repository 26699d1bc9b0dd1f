"""What a body gave or raised in another process comes back as bytes, made and read as a record's are.

So an exception is what it would be in a replay, a result that cannot be sent is no failure of a body that succeeded, and
neither takes along the pool and the bodies in it, as one that cannot be unpickled does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from durable.costs.costs import ELSEWHERE
from durable.errors import CorruptRecordError
from durable.values.exceptions import decode_exception, encode_exception
from durable.values.serializers import Serializer, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.costs.costs import Amounts

_SERIALIZER = Serializer()
_STEP = "in another process"  # what they are sealed for


class Ended(NamedTuple):
    """How a body ended: its result or exception, or why the result could not be sent; and what it spent."""

    value: bytes | None
    error: bytes | None
    unsent: str
    spent: list[Amounts]


class UnsentResult:
    """Stands for a result that stayed in another process; it cannot be stored either."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be stored, and say why."""
        raise Unserializable("", "", f"it could not be sent from the process that has it: {self._reason}")


class _RemoteTraceback(Exception):  # noqa: N818 -- no failure of its own: where the one that it is the cause of happened
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return f"\n{self._text}"


def ended(call: Callable[[], Any]) -> Ended:
    """Execute a body, and give how it ended."""
    spent: list[Amounts] = []
    token = ELSEWHERE.set(spent)
    try:
        value = call()
    except BaseException as error:
        return Ended(None, encode_exception(error, _SERIALIZER, run="", step=_STEP), "", spent)
    finally:
        ELSEWHERE.reset(token)
    try:
        return Ended(_SERIALIZER.encode(value, run="", step=_STEP), None, "", spent)
    except Unserializable as reason:
        return Ended(None, None, str(reason), spent)


def outcome(how: Ended) -> Any:
    """Give what a body gave elsewhere, or raise what it raised, and count what it spent."""
    if how.spent:
        from durable.costs.spending import take_over  # noqa: PLC0415 -- imports the engine, which a worker does not need

        take_over(how.spent)
    if how.error is not None:
        raise _raised(how.error)
    if how.value is None:
        return UnsentResult(how.unsent)
    try:
        return _SERIALIZER.decode(how.value, run="", step=_STEP)
    except CorruptRecordError as error:
        return UnsentResult(str(error.__cause__ or error))


def _raised(data: bytes) -> BaseException:
    error = last = decode_exception(data, _SERIALIZER, run="", step=_STEP)
    while (before := last.__cause__ or last.__context__) is not None:
        last = before
    last.__cause__ = _RemoteTraceback(getattr(error, "__durable_traceback__", ""))
    return error
