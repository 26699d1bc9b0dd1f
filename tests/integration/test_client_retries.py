"""Clients that retry by themselves, in tasks that are tried again as well, against a server that fails."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
import requests
import stripe
import tenacity
import urllib3
from urllib3.util.retry import Retry

import durable
from durable import task, workflow
from tests.paid_services import DROPPED, ERROR, PaidServices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count()
ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[PaidServices]:
    durable.configure("memory:")
    with PaidServices(tmp_path / "ledger") as api:
        yield api
    durable.configure(None)


def of_requests(api: PaidServices, retries: int) -> Any:
    again = Retry(retries, status_forcelist=[429, 500], allowed_methods=None, raise_on_status=False)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=again))
        session.post(f"{api.url}/v1/payments", json={}).raise_for_status()


def of_urllib3(api: PaidServices, retries: int) -> Any:
    again = Retry(retries, status_forcelist=[429, 500], allowed_methods=None)
    with urllib3.PoolManager() as pool:
        pool.request("POST", f"{api.url}/v1/payments", json={}, retries=again)


def of_openai(api: PaidServices, retries: int) -> Any:
    with openai.OpenAI(api_key="k", base_url=f"{api.url}/v1", max_retries=retries) as client:
        client.chat.completions.create(**ASKED)


def of_anthropic(api: PaidServices, retries: int) -> Any:
    with anthropic.Anthropic(api_key="k", base_url=api.url, max_retries=retries) as client:
        client.messages.create(**ASKED)


def of_stripe(api: PaidServices, retries: int) -> Any:
    client = stripe.StripeClient("sk_test", base_addresses={"api": api.url}, max_network_retries=retries)
    client.v1.payment_intents.create({"amount": 5, "currency": "eur"})


CLIENTS = [of_requests, of_urllib3, of_openai, of_anthropic, of_stripe]


def noticed(call: Callable[[], Any], attempts: int) -> list[str]:
    """Call something that fails in a task, and give the warnings."""
    retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(attempts)) if attempts > 1 else None
    work = task(retry=retry, name=f"call-{next(_numbers)}")(call)

    @workflow(run_id=work.definition.name)
    def flow() -> None:
        work()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(Exception, match=r"."):
            flow()
    return [str(warning.message) for warning in caught if warning.category is durable.DurableWarning]


@pytest.mark.parametrize("failure", [ERROR, DROPPED])
@pytest.mark.parametrize("client", CLIENTS)
def test_attempts_that_multiply_are_noticed_once(api: PaidServices, client: Any, failure: str) -> None:
    """One warning names the client that retries by itself in a task that is tried again, and how to stop it."""
    api.planned = [failure] * 100
    [text] = noticed(lambda: client(api, 1), attempts=2)
    assert f"the {client.__name__.removeprefix('of_')} client" in text
    assert "up to 1 times" in text
    assert "retries=0" in text or "retries=False" in text


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("attempts", "retries"), [(1, 1), (2, 0)])
def test_where_only_one_retries_nothing_is_said(api: PaidServices, client: Any, attempts: int, retries: int) -> None:
    """A client that does not retry, or a task that is not tried again, is as it should be."""
    api.planned = [ERROR] * 100
    assert noticed(lambda: client(api, retries), attempts=attempts) == []
