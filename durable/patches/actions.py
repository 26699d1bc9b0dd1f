"""What a preset says about one call of a patched function: what identifies it, how it is performed, recorded and replayed.

Nothing in `inputs` and nothing that `record` gives holds a credential: the store keeps both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta


def _as_it_is(value: Any) -> Any:
    return value


def _is_no_whole(_: Any) -> bool:
    return False


def _nothing_lacks(_: BaseException) -> None: ...


def _no_failure(_: Any) -> bool | None:
    return None


class NothingHappenedType(type):
    """Lets `isinstance` ask the exception itself."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Whether the exception was passed to `proves_nothing_happened`."""
        return getattr(instance, _PROOF, False)


_PROOF = "__durable_nothing_happened__"


class NothingHappened(BaseException, metaclass=NothingHappenedType):
    """Any exception of which a preset knows that it was raised before the effect could happen (in `no_effect_on`)."""


def proves_nothing_happened(error: BaseException) -> None:
    """Note on an exception that the effect of the call did not happen: the step may be executed again."""
    setattr(error, _PROOF, True)


@dataclass(frozen=True, kw_only=True)
class Action:
    """One call of a patched function, as a step.

    `task` names the step's task and is one of the preset's `tasks`. `inputs` identify the call: two with equal inputs are
    the same call. `shown` replaces inputs where people see them.

    `perform` does what the function would have done and gives its result; it runs in the step's body, where
    `durable.idempotency_key()` can be asked for. `record` turns the result into what is stored, `replay` turns that into a
    result like the first one, which takes its place at the first call too if `is_rebuilt`. `perform` is a coroutine function
    if `is_async`. `resolved` turns the value of `durable resolve --happened` into what is stored, and leaves that as it is.

    With `is_stream`, `perform` is a generator function (async if `is_async`) whose items are recorded one by one; the first
    is the head, and `replay(head, items)` makes the result from it and an iterator of the rest, at the first call too. Where
    `is_whole(head)`, nothing comes after it and the step has ended; where `is_over(pieces)`, nothing comes after what a
    consumer had read that closed it.

    `idempotent` and `retry` are those of `@task`; a stream has no `retry`.

    With `is_kept` the result is on disk before the caller has it, as that of what is not idempotent always is.

    `receipt` is an idempotency key that the caller chose: a call in doubt is repeated only under the one that it had.
    `account` is the hash of the credentials that are sent, if they are known; it is never stored.
    `failure` tells of something recorded whether it stands for a failure: None if not, True if nothing happened, False if
    nobody knows. A failure that ended the run is tried again, or in doubt.
    `complete` gives an exception back what is not stored of it, as the request that it speaks of.
    """

    task: str
    inputs: Mapping[str, object]
    perform: Callable[[], Any]
    shown: Mapping[str, object] = field(default_factory=dict)
    record: Callable[[Any], Any] = _as_it_is
    replay: Callable[..., Any] = _as_it_is
    idempotent: bool | timedelta = True
    retry: Any = None
    receipt: str | None = None
    account: int = 0
    failure: Callable[[Any], bool | None] = _no_failure
    resolved: Callable[[Any], Any] = _as_it_is
    complete: Callable[[BaseException], None] = _nothing_lacks
    is_rebuilt: bool = False
    is_kept: bool = False
    is_async: bool = False
    is_stream: bool = False
    is_whole: Callable[[Any], bool] = _is_no_whole
    is_over: Callable[[Sequence[Any]], bool] = _is_no_whole
