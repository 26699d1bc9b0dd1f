"""Calls of paid services by their SDKs are steps: one each, replayed as the SDK's own objects, without a credential."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anthropic
import openai
import pytest
import requests
import stripe

import durable
from durable import task, workflow
from durable.patches.http_actions import honours_idempotency_key
from tests.integration.patches.sdk_forms import (
    ASKED,
    ASYNC,
    PYTHON,
    SYNC,
    of_anthropic,
    of_openai,
    of_openai_async,
    of_stripe,
    openai_streams,
)
from tests.paid_services import DROPPED, ERROR, REFUSED, WORDS, PaidServices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def patched_too() -> None:
    """Beside the HTTP clients that they stand on, which are patched as well."""
    durable.patch("openai", "anthropic", "stripe", "subprocess")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[PaidServices]:
    with PaidServices(tmp_path / "ledger") as api:
        yield api


def begun(api: PaidServices) -> int:
    return int(api.requests) + len(api.looked_up)


@pytest.mark.parametrize("form", SYNC, ids=lambda form: form.__name__)
def test_a_resumed_run_gets_the_same(
    form: Callable[[PaidServices], Iterator[Any]], api: PaidServices, tmp_path: Path
) -> None:
    """A run that is called again asks nothing and gets the same objects; the store holds nothing that the client knows."""
    seen, counts = [], []

    @workflow(run_id=form.__name__)
    def run() -> None:
        seen.append([repr(value) for value in form(api)])
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            run()
        counts.append(begun(api))
    assert seen[0] == seen[1]
    assert counts[0] == counts[1]
    assert len({step.key for step in durable.get_run(form.__name__).steps}) >= 1
    assert_no_canary(tmp_path)


@pytest.mark.filterwarnings("ignore:Use 'content=")  # stripe hands httpx its content as it always did
@pytest.mark.parametrize("form", ASYNC, ids=lambda form: form.__name__)
def test_a_resumed_async_run_gets_the_same(
    form: Callable[[PaidServices], AsyncIterator[Any]], api: PaidServices, tmp_path: Path
) -> None:
    """The same in async code."""
    seen, counts = [], []

    @workflow(run_id=form.__name__)
    async def run() -> None:
        seen.append([repr(value) async for value in form(api)])
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            asyncio.run(run())
        counts.append(begun(api))
    assert seen[0] == seen[1]
    assert counts[0] == counts[1]
    assert_no_canary(tmp_path)


def assert_no_canary(folder: Path) -> None:
    durable.configure(None)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "ledger"]
    assert files
    assert [path.name for path in files if b"CANARY" in path.read_bytes()] == []


def test_a_call_is_one_step(api: PaidServices) -> None:
    """Neither the client below an SDK nor its stream makes another step; step keys say what was asked."""

    @workflow(run_id="steps")
    def run() -> None:
        of_openai(api).chat.completions.create(**ASKED)
        list(of_anthropic(api).messages.create(**ASKED, stream=True))
        of_stripe(api).v1.payment_intents.create({"amount": 5, "currency": "eur"})
        subprocess.check_output([PYTHON, "-c", ""])

    run()
    names = [step.key.partition(":")[0] for step in durable.get_run("steps").steps]
    assert names == ["openai.chat.completions", "anthropic.messages", "stripe.post", "subprocess.run"]


def test_a_stream_is_read_as_it_comes(api: PaidServices) -> None:
    """The first word is there before the last one was sent, and a replay gives the words one by one."""
    texts: list[str] = []

    @workflow(run_id="words")
    def run() -> None:
        for value in openai_streams(api):
            texts.append(repr(value))
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            run()
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]
    assert all(word in "".join(texts) for word in WORDS)


def test_code_that_fails_in_a_stream_gets_the_rest_later(api: PaidServices) -> None:
    """Code that fails in the middle of an answer gets the rest of the same answer when its run is called again."""
    fails = [True, False]

    @workflow(run_id="rest")
    def run() -> list[str]:
        with of_anthropic(api).messages.stream(**ASKED) as events:
            texts = [next(iter(events.text_stream))]
            if fails.pop(0):
                raise LookupError
            return texts + list(events.text_stream)

    with pytest.raises(LookupError):
        run()
    assert [text.strip() for text in run()] == list(WORDS)
    assert len(api.charges()) == 1


async def test_async_code_that_fails_in_a_stream_gets_the_rest_later(api: PaidServices) -> None:
    """The same in async code."""
    fails = [True, False]

    @workflow(run_id="rest")
    async def run() -> list[str]:
        async with of_openai_async(api) as client, await client.chat.completions.create(**ASKED, stream=True) as chunks:
            texts = [(await anext(chunks)).choices[0].delta.content or ""]
            if fails.pop(0):
                raise LookupError
            return texts + [chunk.choices[0].delta.content or "" async for chunk in chunks]

    with pytest.raises(LookupError):
        await run()
    assert [text.strip() for text in await run()] == list(WORDS)
    assert len(api.charges()) == 1


def test_an_answer_ends_with_its_last_event(api: PaidServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer whose connection stays open after its last event is whole: the SDK, which stops to wait, is given it again."""
    lines, released = api.lines, threading.Event()

    def late(*args: Any) -> Iterator[str]:
        yield from lines(*args)
        released.wait(20)

    monkeypatch.setattr(api, "lines", late)

    @workflow(run_id="late")
    async def run() -> None:
        async with of_openai_async(api) as client:
            chunks = [chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]
            assert len(chunks) == len(WORDS)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            asyncio.run(run())
    released.set()
    assert (begun(api), [step.status for step in durable.get_run("late").steps]) == (1, ["succeeded"])


def test_an_answer_that_was_closed_at_its_last_event_is_whole(api: PaidServices) -> None:
    """Code that reads on where the SDK had closed the stream gets the end of the answer, and not another one."""
    read: list[Callable[[Any], Any]] = [
        lambda calls: list(calls.create(**ASKED, stream=True)),
        lambda calls: list(calls.with_raw_response.create(**ASKED, stream=True).http_response.iter_lines()),
    ]

    @workflow(run_id="closed")
    def run() -> None:
        read.pop(0)(of_openai(api).chat.completions)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            run()
    assert begun(api) == 1


@pytest.mark.parametrize("client", [of_openai, of_anthropic, of_stripe])
def test_attempts_are_those_of_the_step(client: Any, api: PaidServices) -> None:
    """What the client would have repeated is repeated by the step, under one idempotency key, and nothing multiplies."""
    retries = {"max_network_retries" if client is of_stripe else "max_retries": 3}
    api.planned = [REFUSED, ERROR, DROPPED]

    @workflow(run_id="attempts")
    def run() -> None:
        ask(client(api, **retries))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run()
    [step] = durable.get_run("attempts").steps
    assert (step.attempts, api.requests) == (4, 4)
    keys = [charge["key"] for charge in api.charges()]
    assert len(keys) == (1 if client is of_stripe else 3)
    assert len(set(keys)) == 1
    assert bool(keys[0]) is (client is of_stripe)


def ask(client: Any) -> Any:
    if isinstance(client, stripe.StripeClient):
        return client.v1.payment_intents.create({"amount": 5, "currency": "eur"})
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(**ASKED)
    assert isinstance(client, anthropic.Anthropic)
    return client.messages.create(**ASKED)


def test_attempts_that_multiply_are_noticed(api: PaidServices) -> None:
    """A task that is tried again around a client that is, too, says so."""
    api.planned = [ERROR] * 4

    @task(attempts=2)
    def patiently() -> None:
        ask(of_openai(api, max_retries=1))

    @workflow(run_id="multiplied")
    def run() -> None:
        patiently()

    with pytest.warns(durable.DurableWarning, match="the openai client"), pytest.raises(openai.InternalServerError):
        run()


def test_what_writes_is_not_repeated(api: PaidServices) -> None:
    """A request that creates something and got no answer is not made again by the SDK or the step: it is in doubt."""
    api.planned = [DROPPED]

    @workflow(run_id="file")
    def run() -> Any:
        return of_openai(api).files.create(file=("x", b"{}"), purpose="batch")

    with pytest.raises(openai.APIConnectionError):
        run()
    with pytest.raises(durable.StepInDoubtError):
        run()
    [step] = durable.get_run("file").steps
    assert len(api.charges()) == 1
    answer = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "x"}
    durable.get_run("file").resolve(step.key, durable.happened(answer))
    assert run().id == "file-1"


def test_what_was_refused_is_made_again(api: PaidServices) -> None:
    """A request that creates something and was refused did nothing: the step waits as asked and tries again."""
    api.planned = [REFUSED]

    @workflow(run_id="refused")
    def run() -> Any:
        return of_openai(api).files.create(file=("x", b"{}"), purpose="batch").id

    assert run() == "file-1"
    assert durable.get_run("refused").steps[0].attempts == 2


def test_a_payment_keeps_the_key_that_the_caller_chose(api: PaidServices) -> None:
    """An idempotency key of the caller's is sent; without one, that of the step is."""

    @workflow(run_id="keys")
    def run() -> list[str]:
        client = of_stripe(api)
        client.v1.refunds.create({"payment_intent": "pi_1"}, {"idempotency_key": "mine"})
        client.v1.refunds.create({"payment_intent": "pi_2"})
        return [charge["key"] for charge in api.charges()]

    mine, of_the_step = run()
    assert mine == "mine"
    assert len(of_the_step) == 36


def test_a_host_that_forgets_keys(api: PaidServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to a host that is known to forget keys is sent again under its key for that time, and not afterwards."""
    honours_idempotency_key(api.url.removeprefix("http://"), window=3600)
    api.planned = [ERROR] * 3
    begun = time.time()

    @workflow(run_id="host")
    def run() -> str:
        response = requests.post(f"{api.url}/v1/payments", json={"order": "1"}, timeout=60)
        response.raise_for_status()
        return str(response.json()["id"])

    for late in (0, 3500):
        monkeypatch.setattr("durable.runs.sessions.clock", lambda late=late: begun + late)
        with pytest.raises(requests.HTTPError):
            run()
    monkeypatch.setattr("durable.runs.sessions.clock", lambda: begun + 3700)
    with pytest.raises(durable.StepInDoubtError):
        run()
    assert (api.requests, len(api.charges())) == (2, 1)


@pytest.mark.parametrize("kind", ["run", "check_output", "check_call"])
def test_a_program_that_failed_is_in_doubt(tmp_path: Path, kind: str) -> None:
    """A program that ended with an error raises the same again where that was handled, and is in doubt where it was not;
    what its command says is in no record.
    """
    folder = tmp_path / "store"
    folder.mkdir()
    durable.configure(folder / "durable.db")
    secret = f"--password={uuid4()}"

    @workflow(run_id="programs")
    def run(*, handled: bool) -> Any:
        try:
            options = {"check": True} if kind == "run" else {}
            getattr(subprocess, kind)([PYTHON, "-c", "raise SystemExit(3)", secret], **options)
        except subprocess.CalledProcessError as error:
            if handled:
                return error.returncode, error.cmd[0]
            raise
        return None

    assert run.with_options(run_id="handled")(handled=True) == (3, PYTHON)
    with pytest.raises(subprocess.CalledProcessError):
        run(handled=False)
    assert not [file for file in folder.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]
    with pytest.raises(durable.StepInDoubtError):
        run(handled=False)


def test_a_program_that_is_not_there_was_not_started(api: PaidServices) -> None:
    """A program that could not be started did nothing: the next call tries again."""

    @workflow(run_id="missing")
    def run() -> None:
        subprocess.run(["/no/such/program"], check=True)

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            run()


def test_outside_a_run_nothing_changes(api: PaidServices) -> None:
    """Outside a run the SDKs are what they were."""
    assert ask(of_openai(api)).choices[0].message.content == " ".join(WORDS)
    assert subprocess.run([PYTHON, "-c", ""], check=True).returncode == 0


def test_a_paid_call_in_a_thread_without_the_run_is_warned_of(api: PaidServices) -> None:
    """An answer that is paid for and not recorded is paid for again, so that is said, with the way out."""
    client = of_openai(api)

    @workflow
    def run() -> None:
        thread = threading.Thread(target=client.chat.completions.create, kwargs=ASKED)
        thread.start()
        thread.join()

    with pytest.warns(durable.DurableWarning, match=r"nothing is recorded, so it is made again.*copy_context\(\).run"):
        run()
