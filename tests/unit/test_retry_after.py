from __future__ import annotations

import email.message
import io
import urllib.error
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import requests
import stripe
import tenacity

import durable
from durable.steps.retry_after import retry_after

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = format_datetime(datetime(2026, 11, 21, 12, 0, 42, tzinfo=UTC), usegmt=True)
EARLIER = format_datetime(datetime(2026, 11, 21, 11, 59, tzinfo=UTC), usegmt=True)


def of_requests(headers: dict[str, str]) -> Exception:
    response = requests.Response()
    response.status_code = 429
    response.headers.update(headers)
    return requests.HTTPError("429", response=response)


def of_httpx(headers: dict[str, str]) -> Exception:
    request = httpx.Request("POST", "http://x/")
    return httpx.HTTPStatusError("429", request=request, response=httpx.Response(429, headers=headers, request=request))


def of_openai(headers: dict[str, str]) -> Exception:
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://x/"))
    return openai.RateLimitError("429", response=response, body=None)


def of_anthropic(headers: dict[str, str]) -> Exception:
    response: Any = httpx.Response(429, headers=headers, request=httpx.Request("POST", "http://x/"))
    return anthropic.RateLimitError("429", response=response, body=None)


def of_stripe(headers: dict[str, str]) -> Exception:
    return stripe.RateLimitError("429", http_status=429, headers={key.lower(): text for key, text in headers.items()})


def of_urllib(headers: dict[str, str]) -> Exception:
    message = email.message.Message()
    for name, text in headers.items():
        message[name] = text
    return urllib.error.HTTPError("http://x/", 429, "slow down", message, io.BytesIO())


MAKERS = [of_requests, of_httpx, of_openai, of_anthropic, of_stripe, of_urllib]


def state_of(outcome: BaseException | object) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    if isinstance(outcome, BaseException):
        state.set_exception((type(outcome), outcome, outcome.__traceback__))
    else:
        state.set_result(outcome)
    return state


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("0.5", 0.5), (LATER, 42), (EARLIER, 0), ("-3", 0)])
def test_retry_after_is_read(make: Any, text: str, seconds: float) -> None:
    """Errors of each client tell the seconds that the receiver asked for, as a number or as an HTTP date."""
    assert retry_after(make({"Retry-After": text}), NOW.timestamp()) == seconds


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": ""}, {"Retry-After": "nan"}])
def test_without_a_readable_header_the_fallback_holds(make: Any, headers: dict[str, str]) -> None:
    """Where the receiver asks for nothing that can be read, the fallback decides: seconds, or another wait."""
    assert durable.wait_retry_after(fallback=3)(state_of(make(headers))) == 3
    assert durable.wait_retry_after(fallback=tenacity.wait_fixed(4))(state_of(make(headers))) == 4
    assert 0 <= durable.wait_retry_after()(state_of(make(headers))) <= 0.5


def test_the_maximum_holds_for_what_the_receiver_asks() -> None:
    """No receiver makes a run wait longer than `max`."""
    assert durable.wait_retry_after(max=5)(state_of(of_stripe({"Retry-After": "86400"}))) == 5
    assert durable.wait_retry_after(max=5)(state_of(of_stripe({"Retry-After": "inf"}))) == 5


def test_an_error_raised_from_another_one_is_followed() -> None:
    """An error of the user's own that was raised from a client's error asks for what that one asks."""
    with pytest.raises(ValueError, match="payment") as raised:
        try:
            raise of_httpx({"Retry-After": "9"})
        except httpx.HTTPStatusError as error:
            raise ValueError("payment") from error
    assert retry_after(raised.value, 0) == 9


def test_a_response_that_is_refused_is_read() -> None:
    """A response that `retry_if_result` refuses asks like an error."""
    assert durable.wait_retry_after()(state_of(httpx.Response(503, headers={"Retry-After": "8"}))) == 8


def test_waits_can_be_added() -> None:
    """It is a tenacity wait like others, and can be combined with them."""
    wait = durable.wait_retry_after() + tenacity.wait_fixed(1)
    assert wait(state_of(of_requests({"Retry-After": "8"}))) == 9


@pytest.mark.parametrize("options", [{"fallback": -1}, {"fallback": "1"}, {"max": float("inf")}, {"max": True}])
def test_what_is_no_duration_is_refused(options: dict[str, Any]) -> None:
    """A fallback or a maximum that is no number of seconds is a typed error that names it."""
    with pytest.raises(durable.ConfigurationError, match=next(iter(options))):
        durable.wait_retry_after(**options)
