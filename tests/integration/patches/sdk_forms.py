"""The forms in which the SDKs of OpenAI, Anthropic and Stripe are used, each against a local server.

What each gives is compared as text, which holds the types that the SDK made.
"""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import stripe

from durable.errors import DurableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.paid_services import PaidServices

KEY = "sk-CANARY-of-a-client"
HEADERS = {"X-Canary": "CANARY-of-a-header"}
SAID: Any = [{"role": "user", "content": "hi"}]
ASKED: Any = {"model": "m", "max_tokens": 5, "messages": SAID}
PYTHON = sys.executable


def of_openai(api: PaidServices, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=f"{api.url}/v1", default_headers=HEADERS, **options)


def of_openai_async(api: PaidServices) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{api.url}/v1", default_headers=HEADERS)


def of_anthropic(api: PaidServices, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=KEY, base_url=api.url, default_headers=HEADERS, **options)


def of_anthropic_async(api: PaidServices) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=api.url, default_headers=HEADERS)


def of_stripe(api: PaidServices, **options: Any) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_CANARY", base_addresses={"api": api.url}, **options)


def openai_answers(api: PaidServices) -> Iterator[Any]:
    client = of_openai(api)
    yield client.chat.completions.create(**ASKED)
    yield client.embeddings.create(model="m", input="x", encoding_format="float")
    raw = client.chat.completions.with_raw_response.create(**ASKED)
    yield type(raw).__name__, raw.status_code, raw.parse()
    with client.chat.completions.with_streaming_response.create(**ASKED) as opened:
        yield type(opened).__name__, opened.parse()
    yield list(client.models.list())
    yield client.files.create(file=io.BytesIO(b"{}"), purpose="batch")
    yield client.chat.completions.create(**ASKED, extra_headers={"X-More": "CANARY"})


def openai_legacy_client(api: PaidServices) -> Iterator[Any]:
    with httpx.Client() as http:
        yield of_openai(api, http_client=http).chat.completions.create(**ASKED)


def openai_streams(api: PaidServices) -> Iterator[Any]:
    client = of_openai(api)
    yield list(client.chat.completions.create(**ASKED, stream=True))
    with client.chat.completions.create(**ASKED, stream=True) as chunks:
        yield from chunks
    with client.chat.completions.stream(model="m", messages=SAID) as events:
        yield [repr(event) for event in events]
        yield events.get_final_completion().choices[0].message.content


def anthropic_answers(api: PaidServices) -> Iterator[Any]:
    client = of_anthropic(api)
    yield client.messages.create(**ASKED)
    raw = client.messages.with_raw_response.create(**ASKED)
    yield type(raw).__name__, raw.parse()
    yield list(client.models.list())


def anthropic_streams(api: PaidServices) -> Iterator[Any]:
    client = of_anthropic(api)
    yield list(client.messages.create(**ASKED, stream=True))
    with client.messages.stream(**ASKED) as events:
        yield list(events.text_stream)
        yield events.get_final_message()
    with client.messages.stream(**ASKED) as events:
        yield next(iter(events.text_stream))


def stripe_answers(api: PaidServices) -> Iterator[Any]:
    client = of_stripe(api)
    paid = client.v1.payment_intents.create({"amount": 5, "currency": "eur"})
    response: Any = paid.last_response
    yield type(paid), str(paid), response.code
    yield str(client.v1.payment_intents.retrieve("pi_7"))
    yield str(client.v1.refunds.create({"payment_intent": "pi_7"}, {"idempotency_key": "mine"}))


def stripe_resources(api: PaidServices) -> Iterator[Any]:
    stripe.api_key, stripe.api_base = "sk_test_CANARY", api.url
    yield str(stripe.PaymentIntent.create(amount=5, currency="eur"))


def programs(api: PaidServices) -> Iterator[Any]:
    command = [PYTHON, "-c", "import sys; print(sys.stdin.read()); sys.exit(3)", "--password=CANARY"]
    yield subprocess.run(command, input="hello", capture_output=True, text=True, check=False)
    yield subprocess.check_output([PYTHON, "-c", "print(7)"])
    yield subprocess.call([PYTHON, "-c", "raise SystemExit(4)"])
    yield subprocess.check_call([PYTHON, "-c", ""])
    yield subprocess.run(f"{PYTHON} -c 'print(8)'", shell=True, stdout=subprocess.PIPE, check=True).stdout


async def openai_async(api: PaidServices) -> AsyncIterator[Any]:
    async with of_openai_async(api) as client:
        yield await client.chat.completions.create(**ASKED)
        yield [chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]
        async with client.chat.completions.stream(model="m", messages=SAID) as events:
            yield [repr(event) async for event in events]
        raw = await client.chat.completions.with_raw_response.create(**ASKED)
        yield type(raw).__name__, raw.parse()
        async with client.chat.completions.with_streaming_response.create(**ASKED) as opened:
            yield type(opened).__name__, await opened.parse()
        yield [model async for model in client.models.list()]


async def anthropic_async(api: PaidServices) -> AsyncIterator[Any]:
    async with of_anthropic_async(api) as client:
        yield await client.messages.create(**ASKED)
        yield [event async for event in await client.messages.create(**ASKED, stream=True)]
        async with client.messages.stream(**ASKED) as events:
            yield [text async for text in events.text_stream]
            yield await events.get_final_message()


def _http() -> Any:
    kind: Any = stripe.HTTPXClient
    return kind()


async def stripe_async(api: PaidServices) -> AsyncIterator[Any]:
    client = stripe.StripeClient("sk_test_CANARY", base_addresses={"api": api.url}, http_client=_http())
    yield str(await client.v1.payment_intents.create_async({"amount": 5, "currency": "eur"}))


def failures(api: PaidServices) -> Iterator[Any]:
    """What is refused is raised again as it was; only its response is not kept."""
    calls: tuple[Callable[[], Any], ...] = (
        lambda: of_openai(api, max_retries=0).chat.completions.create(**ASKED),
        lambda: of_openai(api, max_retries=0).chat.completions.create(**ASKED, stream=True),
        lambda: of_anthropic(api, max_retries=0).messages.create(**ASKED),
        lambda: of_stripe(api, max_network_retries=0).v1.payment_intents.create({"amount": 5, "currency": "eur"}),
    )
    for number, call in enumerate(calls):
        if not number:
            api.planned = ["refused"] * len(calls)
        try:
            call()
        except DurableError:
            raise
        except Exception as error:
            sent = error.request if isinstance(error, openai.APIError | anthropic.APIError) else None
            yield type(error), str(error), sent and (sent.method, str(sent.url))


SYNC = [
    *(openai_answers, openai_legacy_client, openai_streams, anthropic_answers, anthropic_streams),
    *(stripe_answers, stripe_resources, programs, failures),
]
ASYNC = [openai_async, anthropic_async, stripe_async]
