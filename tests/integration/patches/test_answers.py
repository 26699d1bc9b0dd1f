"""An answer that is a failure says more or less of what the server did, and the body of a request is the server's alone."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import aiohttp
import pytest
import requests

import durable
from durable import workflow
from tests.integration.patches.senders import ERRORS, by_aiohttp, by_async_httpx, by_httpx, by_requests, each_library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.patches.senders import Send
    from tests.receivers import Ledger


@each_library
def test_a_post_that_is_refused_after_a_redirect_is_in_doubt(send: Send, web: str, ledger: Ledger) -> None:
    """A 4xx answer of the page that a server named says nothing of what the server did before."""

    @workflow
    def run() -> Any:
        return send("POST", f"{web}/pay?status=303&to=/receipt?status=404", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    with pytest.raises(durable.StepInDoubtError, match="(got an answer|left by an exception) that does not"):
        run()
    assert [each.method for each in ledger.entries] == ["POST", "GET"]


@pytest.mark.parametrize("send", [by_requests, by_httpx, by_async_httpx, by_aiohttp], ids=lambda send: send.__name__)
def test_a_post_that_is_refused_where_it_was_sent_on_is_made_again(send: Send, web: str, ledger: Ledger) -> None:
    """A redirect that asks for the same request elsewhere did nothing, and there it was refused."""

    @workflow
    def run() -> Any:
        return send("POST", f"{web}/pay?status=307&to=/there?status=200,429,200,200", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    assert run()["number"] == 4


@pytest.mark.parametrize("status", [404, 503])
@each_library
def test_a_failure_that_the_code_handled_before_it_succeeded(send: Send, web: str, ledger: Ledger, status: int) -> None:
    """The last request failed, which the code took for an answer: executed once more, the run makes none."""
    for _ in range(2):
        with durable.run("last"):
            send("POST", f"{web}/first", {})
            with contextlib.suppress(*ERRORS):
                send("POST", f"{web}/last?status={status}", {"cents": 5})
    assert len(ledger.entries) == 2


class Once:
    """What can be read once, and tells how far that has got."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read, self.tell = self._file.read, self._file.tell

    def __iter__(self) -> Iterator[bytes]:
        yield from self._file


def test_a_body_that_cannot_be_set_back_is_sent(web: str, ledger: Ledger) -> None:
    """A body that can be read once is not read in order to know the call."""

    @workflow
    def run() -> None:
        requests.post(f"{web}/a", data=Once(b"text"), timeout=60)
        urlopen(Request(f"{web}/b", Once(b"text"), {"Content-Length": "4"})).close()
        with requests.get(f"{web}/c?quiet=1", stream=True, timeout=60) as answer:
            requests.post(f"{web}/d", data=answer.raw, timeout=60)

    run()
    assert [each.body for each in ledger.entries] == [b"text", b"text", b"", b'{"number": 3}']


def test_large_bodies_of_aiohttp(web: str, ledger: Ledger) -> None:
    """A body that is longer than aiohttp holds of one is read, at once or bit by bit, and read again."""
    sizes = []

    async def read() -> None:
        async with aiohttp.ClientSession(web) as session:
            async with session.post("/whole", data=b"1" * 500_000) as response:
                sizes.append(len((await response.json())["body"]))
            async with session.get("/pieces?pieces=60000") as response:
                sizes.append(sum([len(piece) async for piece in response.content.iter_chunked(4096)]))
        raise ValueError

    @workflow(run_id="large")
    async def run() -> None:
        await read()

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            asyncio.run(run())
    assert sizes == [500_000, 1_200_000] * 2
    assert len(ledger.entries) == 2


def test_a_body_that_promises_to_be_set_back_and_is_not(web: str, ledger: Ledger) -> None:
    """A body that was read and is lost is never sent as an empty one."""
    packed: Any = Once(gzip.compress(b"text" * 10_000))
    body = gzip.GzipFile(fileobj=packed)

    @workflow
    def run() -> None:
        urlopen(Request(f"{web}/a", body, {"Content-Length": "40000"})).close()

    with pytest.raises(durable.FingerprintError, match="body of a request .* GzipFile .* Nothing was sent"):
        run()
    assert not ledger.entries
