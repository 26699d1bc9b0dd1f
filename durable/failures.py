"""Which steps a failure goes back to: those are tried again, all other failures are replayed.

An exception that a step raised carries the step's number. From the exception that ended a body the search follows its
groups and `__cause__`, else `__context__`, and stops on each path at the first one that carries a number.
"""

from __future__ import annotations

_MARK = "__durable_step__"


def mark(error: BaseException, run_id: str, seq: int) -> None:
    """Note on an exception that this step raised it; the outermost step counts."""
    try:
        setattr(error, _MARK, (run_id, seq))
    except (AttributeError, TypeError):
        return


def culprits(error: BaseException, run_id: str) -> set[int]:
    """Give the numbers of the steps of this run whose failure led to the exception."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        marked = getattr(current, _MARK, None)
        if marked is not None and marked[0] == run_id:
            found.add(marked[1])
            continue
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        waiting.append(current.__cause__ if current.__cause__ is not None else current.__context__)
    return found
