"""A client that retries by itself inside a task that is tried again is noticed: their attempts multiply.

What the client was told is read off the frames that its error came through, so nothing is imported and nothing costs
anything before a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.runs.execution import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from durable.declarations.definitions import TaskDefinition

_OFF = {
    "anthropic": "max_retries=0",
    "openai": "max_retries=0",
    "requests": "HTTPAdapter(max_retries=0)",
    "stripe": "max_network_retries=0",
    "urllib3": "retries=False",
}
_DEEPEST = 10  # errors of one chain that are looked at


def notice_client_retries(task: TaskDefinition, error: BaseException) -> None:
    """Warn once per task if the client that failed in an attempt had tried several times itself."""
    if task.full_name.partition(".")[0] in _OFF:  # of a preset, which has told the client not to
        return
    found: dict[str, int] = {}
    for name, retries in _retries(error):
        if retries > found.get(name, 0):
            found[name] = retries
    if not found:
        return
    client = next(iter(found))  # the outermost: requests stands on urllib3
    warn_once(
        "client retries",
        task.label,
        f"Task {task.full_name!r} is tried again after a failure, and the {client} client that failed in it retries up to "
        f"{found[client]} times by itself in each attempt: the attempts multiply. Leave it to one of them: "
        f"{_OFF[client]} for the client, or no attempts= and retry= for the task.",
    )


def _retries(error: BaseException) -> Iterator[tuple[str, int]]:
    """Give clients that an error came through, the outermost first, and how often each retries."""
    each: BaseException | None = error
    for _ in range(_DEEPEST):
        if each is None:
            return
        adapter = getattr(getattr(each, "response", None), "connection", None)
        yield "requests", _count(getattr(adapter, "max_retries", None))
        step = each.__traceback__
        while step is not None:
            package = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
            if package in _OFF:
                yield from ((package, _count(told)) for told in _told(step.tb_frame))
            step = step.tb_next
        each = each.__cause__ or each.__context__


def _told(frame: FrameType) -> Iterator[Any]:
    """Give what a function of a client knows about retries."""
    known = frame.f_locals
    for name in ("max_retries", "max_network_retries", "retries"):
        yield known.get(name)
    client = known.get("self")
    yield getattr(client, "max_retries", None)
    yield getattr(getattr(client, "_options", None), "max_network_retries", None)


def _count(told: Any) -> int:
    """Read a number of retries, or that of a `urllib3.Retry`, which counts down and notes what it has been used for."""
    total = getattr(told, "total", told)
    return total + len(getattr(told, "history", ())) if isinstance(total, int) else 0
