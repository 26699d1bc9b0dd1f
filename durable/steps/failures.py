"""Which steps a failure goes back to: those are tried again, all other failures are replayed.

An exception that a step raised carries the step's number. From the exception that ended a body the search follows its
groups and `__cause__`, else `__context__`, and stops on each path at the first one that carries a number. One that a
sensitive step raised is known as such, whatever it is wrapped in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK = "__durable_step__"
_HIDDEN = "__durable_hidden__"
_NOT_BEGUN = "__durable_not_begun__"
_GIVEN = "__durable_given__"


def mark(error: BaseException, run_id: str, seq: int) -> None:
    """Note on an exception that this step raised it; the outermost step counts."""
    _note(error, _MARK, (run_id, seq))


def note_not_begun(error: BaseException) -> None:
    """Note on an exception that it took the place of the body, which did not begin."""
    _note(error, _NOT_BEGUN, True)


def has_not_begun(error: BaseException) -> bool:
    """Whether an exception was raised in the place of the body."""
    return getattr(error, _NOT_BEGUN, False)


def note_given(error: BaseException, result: Callable[[], Any]) -> None:
    """Note on the cancellation of a body that it had come to its end, and what gives its result."""
    _note(error, _GIVEN, result)


def given(error: BaseException) -> Callable[[], Any] | None:
    """Give what `note_given` noted."""
    found: Callable[[], Any] | None = getattr(error, _GIVEN, None)
    return found


def hide(error: BaseException) -> None:
    """Note on an exception that its text must not be stored."""
    _note(error, _HIDDEN, True)


def is_hidden(error: BaseException) -> bool:
    """Whether the text of an exception, or of one that led to it, must not be stored."""
    return any(getattr(linked, _HIDDEN, False) for linked in _linked(error))


def says_any(error: BaseException, texts: list[str]) -> bool:
    """Whether one of the texts stands in an exception, in its attributes, or in one that led to it."""
    if not texts:
        return False
    for linked in _linked(error):
        said = f"{linked} {linked!r} {vars(linked)!r}"
        if any(text in said for text in texts):
            return True
    return False


def culprits(error: BaseException, run_id: str) -> set[int]:
    """Give the numbers of the steps of this run whose failure led to the exception."""
    return {marked[1] for linked in _linked(error, run_id) if (marked := _marked(linked, run_id)) is not None}


def is_interruption(error: BaseException, run_id: str) -> bool:
    """Whether an exception goes back to one that left a step of this run and is no error: Ctrl-C, or an exit."""
    linked = _linked(error, run_id)
    return any(_marked(each, run_id) is not None for each in linked if not isinstance(each, Exception))


def _note(error: BaseException, name: str, value: object) -> None:
    try:
        setattr(error, name, value)
    except (AttributeError, TypeError):
        return


def _marked(error: BaseException, run_id: str | None) -> tuple[str, int] | None:
    marked: tuple[str, int] | None = getattr(error, _MARK, None)
    return marked if marked is not None and marked[0] == run_id else None


def _linked(error: BaseException, run_id: str | None = None) -> Iterator[BaseException]:
    """List an exception and those behind it, on each path up to the first one that a step of this run raised."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if _marked(current, run_id) is not None:
            continue
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        waiting.append(current.__cause__ if current.__cause__ is not None else current.__context__)
