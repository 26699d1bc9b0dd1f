"""How long to wait before another attempt: as long as the receiver asks for in `Retry-After`, never longer than allowed.

Errors are known by their headers alone, so no client library is imported: those of requests, httpx, openai and anthropic
carry a response, those of stripe, aiohttp and urllib the headers themselves.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import tenacity

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST_PAUSE = 0.5  # seconds; doubled with each attempt, and jittered
_LONGEST_PAUSE = 30.0
_DEEPEST = 10  # errors of one chain that are looked at


def wait_retry_after(
    fallback: float | Callable[[Any], float] | None = None,
    max: float = 300.0,  # noqa: A002 -- as tenacity's waits call it
) -> tenacity.wait.wait_base:
    """Make a tenacity wait that honours `Retry-After`, in seconds or as an HTTP date, of what an attempt ended with.

    It reads errors, and the errors that those were raised from, of requests, httpx, openai, anthropic, stripe, aiohttp and
    urllib, also responses that `tenacity.retry_if_result` refuses. `fallback`: seconds, or another tenacity wait, where
    the receiver asks for nothing; by default up to half a second, doubled with each attempt up to 30 s, with jitter.
    `max`: seconds that are waited at most, whatever the receiver asks for; the fallback is not limited by it.

    Raises `ConfigurationError` for a fallback or maximum that is no duration.
    """
    if fallback is None:
        fallback = tenacity.wait_random_exponential(_FIRST_PAUSE, _LONGEST_PAUSE)
    elif not callable(fallback):
        fallback = tenacity.wait_fixed(_duration("fallback", fallback))
    return _WaitRetryAfter(fallback, _duration("max", max))


def _duration(option: str, seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        more = " or a tenacity wait" if option == "fallback" else ""
        raise ConfigurationError(
            f"wait_retry_after({option}={seconds!r}): {option} is a number of seconds{more}, finite and not negative."
        )
    return float(seconds)


class _WaitRetryAfter(tenacity.wait.wait_base):
    def __init__(self, fallback: Callable[[Any], float], longest: float) -> None:
        self._fallback = fallback
        self._longest = longest

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        if outcome is not None:
            asked = retry_after(outcome.exception() if outcome.failed else outcome.result(), time.time())
            if asked is not None:
                return min(asked, self._longest)
        return self._fallback(retry_state)


def retry_after(outcome: object, now: float) -> float | None:
    """Give the seconds that an error or response asks to wait from `now` on (since 1970); None if it asks for nothing."""
    for each in _chain(outcome):
        for holder in (getattr(each, "response", None), each):
            if (asked := _read(getattr(holder, "headers", None), now)) is not None:
                return asked
    return None


def _chain(outcome: object) -> Iterator[object]:
    """Follow an error to those that it was raised from."""
    for _ in range(_DEEPEST):
        yield outcome
        if not isinstance(outcome, BaseException):
            return
        outcome = outcome.__cause__ or (None if outcome.__suppress_context__ else outcome.__context__)


def _read(headers: Any, now: float) -> float | None:
    get = getattr(headers, "get", None)
    if not callable(get):
        return None
    with suppress(Exception):  # headers of any make, and text of any kind in them
        for name in ("Retry-After", "retry-after"):  # of stripe they are a plain dict
            if (text := get(name)) is not None:
                return _seconds(str(text).strip(), now)
    return None


def _seconds(text: str, now: float) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        seconds = parsedate_to_datetime(text).timestamp() - now
    return None if math.isnan(seconds) else max(0.0, seconds)
