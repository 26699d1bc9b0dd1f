"""No credential of a request reaches the disk: not by its address, headers, cookies, client, form or exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import urllib.error
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithDefaultRealm, Request, build_opener, urlopen

import aiohttp
import httpx
import pytest
import requests

import durable
from durable import workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Secret = Callable[[], str]


class Canaries:
    """Makes secrets and finds them again."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self) -> str:
        self.made.append(f"canary{len(self.made):03}")
        return self.made[-1]

    def found_in(self, folder: Path) -> list[str]:
        durable.configure("memory:")  # closes the store
        held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        return [secret for secret in self.made if secret.encode() in held]


def headers_of(secret: Secret) -> dict[str, str]:
    names = (
        "Authorization",
        "X-Api-Key",
        "Cookie",
        "Proxy-Authorization",
        "X-Auth-Token",
        "Idempotency-Key",
        "X-Anything",
    )
    return {name: f"x={secret()}" for name in names}


def address(web: str, secret: Secret, path: str = "/a") -> str:
    query = f"quiet=1&access_token={secret()}&api_key={secret()}&signature={secret()}&key={secret()}"
    return f"{web.replace('://', f'://{secret()}:{secret()}@')}{path}?{query}"


def use_requests(web: str, nowhere: str, secret: Secret) -> Iterator[Any]:
    with requests.Session() as session:
        session.headers.update(headers_of(secret))
        session.auth, session.params = (secret(), secret()), {"token": secret()}
        session.cookies.set("session", secret())
        session.proxies["https"] = f"http://{secret()}:{secret()}@127.0.0.1:1"
        yield lambda: session.get(address(web, secret), headers=headers_of(secret), cookies={"b": secret()})
        yield lambda: session.post(address(web, secret), stream=True).close()
        yield lambda: session.get(address(web, secret) + "&status=404").raise_for_status()
        yield lambda: session.post(address(nowhere, secret))
        yield lambda: session.post(address(web, secret) + "&drop=99")
        yield lambda: session.get(f"{web}/bot{secret()}:{secret()}:padding/send?status=500&quiet=1").raise_for_status()


def use_httpx(web: str, nowhere: str, secret: Secret) -> Iterator[Any]:
    more: Any = {"headers": headers_of(secret), "cookies": {"a": secret()}, "params": {"token": secret(), "quiet": "1"}}
    with httpx.Client(verify=False, auth=(secret(), secret()), **more) as client:
        yield lambda: client.get(address(web, secret), headers=headers_of(secret))
        yield lambda: client.send(client.build_request("POST", address(web, secret)), stream=True).close()
        yield lambda: client.get(address(web, secret) + "&status=404").raise_for_status()
        yield lambda: client.post(address(nowhere, secret))
        yield lambda: client.post(address(web, secret) + "&drop=99")


def use_aiohttp(web: str, nowhere: str, secret: Secret) -> Iterator[Any]:
    async def send(method: str, url: str, **more: Any) -> None:
        async with aiohttp.ClientSession(headers=headers_of(secret), cookies={"a": secret()}) as session:
            headers = headers_of(secret)
            if "@" in url:
                del headers["Authorization"], session.headers["Authorization"]  # which would be two of them
            response = await session.request(method, url, headers=headers, **more)
            response.raise_for_status()

    yield lambda: asyncio.run(send("GET", address(web, secret), params={"token": secret()}))
    yield lambda: asyncio.run(send("GET", f"{web}/a?quiet=1"))
    yield lambda: asyncio.run(send("GET", address(web, secret) + "&status=404"))
    yield lambda: asyncio.run(send("GET", address(web, secret) + "&status=404", raise_for_status=True))
    yield lambda: asyncio.run(send("POST", address(nowhere, secret)))
    yield lambda: asyncio.run(send("POST", address(web, secret) + "&drop=99"))


def use_urllib(web: str, nowhere: str, secret: Secret) -> Iterator[Any]:
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, web, secret(), secret())
    opener = build_opener(HTTPBasicAuthHandler(passwords))
    opener.addheaders.append(("X-Auth-Token", secret()))

    def plain(web: str) -> str:
        return f"{web}/a?quiet=1&token={secret()}&key={secret()}"

    yield lambda: opener.open(Request(plain(web), headers=headers_of(secret))).close()
    yield lambda: urlopen(Request(plain(web) + "&status=404", b"x", headers_of(secret)))
    yield lambda: urlopen(plain(nowhere), b"x")
    yield lambda: urlopen(plain(web) + "&drop=99", b"x")


ERRORS = (requests.RequestException, httpx.HTTPError, aiohttp.ClientError, urllib.error.URLError, OSError)


@pytest.mark.parametrize("use", [use_requests, use_httpx, use_aiohttp, use_urllib], ids=lambda use: use.__name__)
@pytest.mark.parametrize("is_raised", [False, True], ids=["handled", "raised"])
def test_no_credential_is_stored(
    use: Callable[[str, str, Secret], Iterator[Any]], is_raised: bool, web: str, port: int, tmp_path: Path
) -> None:
    """Two hundred secrets in all: the store holds none of them, whether errors are handled or end the run."""
    secret, nowhere = Canaries(), f"http://127.0.0.1:{port}"
    folder = tmp_path / "store"
    folder.mkdir()
    durable.configure(folder / "durable.db")

    for number, call in enumerate(use(web, nowhere, secret)):
        with contextlib.suppress(*ERRORS), durable.run(f"run-{number}"):
            try:
                call()
            except ERRORS:
                if is_raised:
                    raise
    assert len(durable.list_runs()) >= 4
    shown = [str(step) for run in durable.list_runs() for step in run.steps]
    assert not [each for each in secret.made if each in "".join(shown)]
    assert len(secret.made) > 20
    assert secret.found_in(folder) == []


def test_the_password_of_a_mail_server_is_not_stored(mail: int, tmp_path: Path) -> None:
    """What a connection was logged in with is no part of a mail."""
    folder = tmp_path / "store"
    folder.mkdir()
    durable.configure(folder / "durable.db")
    secret = Canaries()

    @workflow
    def run() -> Any:
        with smtplib.SMTP("127.0.0.1", mail) as server:
            server.user, server.password = secret(), secret()
            return server.sendmail("a@example.com", "b@example.com", "Subject: Hello\n\ntext")

    assert run() == {}
    assert secret.found_in(folder) == []
