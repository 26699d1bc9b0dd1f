"""The forms in which the documentation of each library shows its calls, and all that can be read off their responses."""

from __future__ import annotations

import asyncio
import http.cookiejar
import io
import urllib.error
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPCookieProcessor, Request, build_opener, install_opener, urlopen, urlretrieve

import aiohttp
import httpx
import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SESSION = requests.Session()  # made before any run
CLIENT = httpx.Client(verify=False)
NOWHERE = "http://127.0.0.1:1"


def said_by_requests(response: requests.Response) -> tuple[Any, ...]:
    assert type(response) is requests.Response
    return (
        response.status_code,
        response.reason,
        response.ok,
        response.url,
        dict(response.headers),
        dict(response.cookies),
        response.content,
        response.text,
        response.encoding,
        list(response.iter_content(7)),
        [each.status_code for each in response.history],
        response.elapsed,
        response.request.method,
    )


def requests_plain(web: str) -> Iterator[Any]:
    yield said_by_requests(requests.get(f"{web}/a", params={"b": "c"}, timeout=60))
    response = requests.get(f"{web}/json", timeout=60)
    yield response.json()
    yield said_by_requests(requests.post(f"{web}/form?gzip=1", data={"a": "b"}, timeout=60))
    yield said_by_requests(requests.put(f"{web}/put", json={"a": 1}, timeout=60))
    yield said_by_requests(requests.patch(f"{web}/patch", data=b"bytes", timeout=60))
    yield said_by_requests(requests.delete(f"{web}/delete", timeout=60))
    yield said_by_requests(requests.head(f"{web}/head", timeout=60))
    yield said_by_requests(requests.options(f"{web}/options", timeout=60))
    yield said_by_requests(requests.request("POST", f"{web}/file", files={"f": ("a.txt", b"text")}, timeout=60))
    yield said_by_requests(requests.post(f"{web}/open", data=io.BytesIO(b"file"), timeout=60))
    yield said_by_requests(requests.get(f"{web}/go?to=/end", timeout=60))
    yield said_by_requests(requests.get(f"{web}/go?to=/end", allow_redirects=False, timeout=60))


def requests_sessions(web: str) -> Iterator[Any]:
    yield said_by_requests(SESSION.get(f"{web}/before", timeout=60))
    with requests.Session() as session:
        session.headers["X-Custom"] = "1"
        session.auth = ("user", "password")
        yield said_by_requests(session.get(f"{web}/inside", timeout=60))
        yield dict(session.cookies)
        prepared = session.prepare_request(requests.Request("POST", f"{web}/prepared", json=[1]))
        yield said_by_requests(session.send(prepared, timeout=60))
    adapted = requests.Session()
    adapted.mount("http://", HTTPAdapter(max_retries=2))
    yield said_by_requests(adapted.get(f"{web}/adapted", timeout=60))


def requests_streams(web: str) -> Iterator[Any]:
    with requests.get(f"{web}/s?pieces=40", stream=True, timeout=60) as response:
        yield list(response.iter_lines())
    with requests.get(f"{web}/t?pieces=40", stream=True, timeout=60) as response:
        yield b"".join(response.iter_content(8192))
    with requests.get(f"{web}/u?gzip=1", stream=True, timeout=60) as response:
        yield response.json()
    with requests.get(f"{web}/v?pieces=40", stream=True, timeout=60) as response:
        yield next(response.iter_lines())
    response = requests.get(f"{web}/w", stream=True, timeout=60)
    yield response.raw.read()


def requests_errors(web: str) -> Iterator[Any]:
    try:
        requests.get(f"{web}/none?status=404", timeout=60).raise_for_status()
    except requests.HTTPError as error:
        yield str(error), error.response is not None and error.response.status_code
    try:
        requests.post(f"{NOWHERE}/nobody", timeout=60)
    except requests.ConnectionError as error:
        yield type(error).__name__, error.request and (error.request.method, error.request.url)


def said_by_httpx(response: httpx.Response) -> tuple[Any, ...]:
    assert type(response) is httpx.Response
    return (
        response.status_code,
        response.reason_phrase,
        response.is_success,
        str(response.url),
        dict(response.headers),
        dict(response.cookies),
        response.content,
        response.text,
        response.encoding,
        list(response.iter_bytes(7)),
        [each.status_code for each in response.history],
        response.http_version,
        response.request.method,
        response.elapsed,
        str(response.next_request and response.next_request.url),
    )


def httpx_plain(web: str) -> Iterator[Any]:
    yield said_by_httpx(httpx.get(f"{web}/a", params={"b": "c"}, verify=False))
    yield httpx.get(f"{web}/json", verify=False).json()
    yield said_by_httpx(httpx.post(f"{web}/form?gzip=1", data={"a": "b"}, verify=False))
    yield said_by_httpx(httpx.put(f"{web}/put", json={"a": 1}, verify=False))
    yield said_by_httpx(httpx.patch(f"{web}/patch", content=b"bytes", verify=False))
    yield said_by_httpx(httpx.delete(f"{web}/delete", verify=False))
    yield said_by_httpx(httpx.head(f"{web}/head", verify=False))
    yield said_by_httpx(httpx.options(f"{web}/options", verify=False))
    yield said_by_httpx(httpx.request("POST", f"{web}/file", files={"f": ("a.txt", b"text")}))
    yield said_by_httpx(httpx.get(f"{web}/go?to=/end", follow_redirects=True, verify=False))
    yield said_by_httpx(httpx.get(f"{web}/go?to=/end", verify=False))
    yield said_by_httpx(httpx.post(f"{web}/parts", content=iter([b"a", b"b"]), verify=False))


def httpx_clients(web: str) -> Iterator[Any]:
    yield said_by_httpx(CLIENT.get(f"{web}/before"))
    with httpx.Client(verify=False, base_url=web, headers={"X-Custom": "1"}, auth=("user", "password")) as client:
        yield said_by_httpx(client.get("/inside"))
        yield dict(client.cookies)
        yield said_by_httpx(client.send(client.build_request("POST", "/built", json=[1])))


def httpx_streams(web: str) -> Iterator[Any]:
    with httpx.stream("GET", f"{web}/s?pieces=40") as response:
        yield list(response.iter_lines())
    with httpx.Client(verify=False) as client:
        with client.stream("GET", f"{web}/t?pieces=40") as response:
            yield b"".join(response.iter_raw())
        with client.stream("POST", f"{web}/u?gzip=1", json=[1]) as response:
            response.read()
            yield response.json()
        with client.stream("GET", f"{web}/v?pieces=40") as response:
            yield next(response.iter_lines())


def httpx_errors(web: str) -> Iterator[Any]:
    try:
        httpx.get(f"{web}/none?status=404", verify=False).raise_for_status()
    except httpx.HTTPStatusError as error:
        yield str(error), error.response.status_code
    try:
        httpx.post(f"{NOWHERE}/nobody")
    except httpx.ConnectError as error:
        yield type(error).__name__, error.request.method, str(error.request.url)


async def httpx_async(web: str) -> AsyncIterator[Any]:
    async with httpx.AsyncClient(verify=False, base_url=web, follow_redirects=True) as client:
        yield said_by_httpx(await client.get("/a"))
        yield said_by_httpx(await client.post("/b", json={"a": 1}))
        yield said_by_httpx(await client.get("/go?to=/end"))
        for response in await asyncio.gather(*(client.post("/many", json=number) for number in range(5))):
            yield said_by_httpx(response)
        async with client.stream("GET", "/s?pieces=40") as response:
            yield [line async for line in response.aiter_lines()]
        async with client.stream("GET", "/t?gzip=1") as response:
            await response.aread()
            yield response.json()
        async with client.stream("GET", "/v?pieces=40") as response:
            async for line in response.aiter_lines():
                yield line
                break

        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        yield said_by_httpx(await client.post("/parts", content=parts()))


async def said_by_aiohttp(response: aiohttp.ClientResponse) -> tuple[Any, ...]:
    assert isinstance(response, aiohttp.ClientResponse)
    return (
        response.status,
        response.reason,
        response.ok,
        str(response.url),
        dict(response.headers),
        {name: cookie.value for name, cookie in response.cookies.items()},
        await response.read(),
        await response.text(),
        response.content_type,
        [each.status for each in response.history],
        response.method,
        response.version,
    )


async def aiohttp_plain(web: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{web}/a", params={"b": "c"}) as response:
            yield await said_by_aiohttp(response)
        async with session.get(f"{web}/json") as response:
            yield await response.json()
        response = await session.post(f"{web}/form?gzip=1", data={"a": "b"})
        yield await said_by_aiohttp(response)
        yield [cookie.key for cookie in session.cookie_jar]
        async with session.put(f"{web}/put", json={"a": 1}) as response:
            yield await said_by_aiohttp(response)
        async with session.head(f"{web}/head") as response:
            yield await said_by_aiohttp(response)
        async with session.delete(f"{web}/delete") as response:
            yield await said_by_aiohttp(response)
        form = aiohttp.FormData()
        form.add_field("f", io.BytesIO(b"text"), filename="a.txt")
        async with session.post(f"{web}/file", data=form) as response:
            yield response.status
        async with session.get(f"{web}/go?to=/end") as response:
            yield await said_by_aiohttp(response)
        async with session.request("POST", f"{web}/request", data=b"bytes") as response:
            yield [piece async for piece in response.content.iter_chunked(10)]
    async with aiohttp.request("GET", f"{web}/function") as response:
        yield await said_by_aiohttp(response)


async def aiohttp_sessions(web: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession(web, raise_for_status=True, headers={"X-Custom": "1"}) as session:
        try:
            await session.get("/none?status=404")
        except aiohttp.ClientResponseError as error:
            yield error.status, str(error.request_info.real_url), error.history

        async def pay(number: int) -> Any:
            async with session.post("/pay", json={"number": number}) as response:
                return await response.json()

        yield await asyncio.gather(*map(pay, range(5)))
    async with aiohttp.ClientSession() as session:
        try:
            (await session.get(f"{web}/none?status=404")).raise_for_status()
        except aiohttp.ClientResponseError as error:
            yield error.status, error.message
        try:
            await session.post(f"{NOWHERE}/nobody")
        except aiohttp.ClientConnectorError as error:
            yield type(error).__name__


async def aiohttp_streams(web: str) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession(web) as session:
        async with session.get("/s?pieces=40") as response:
            yield [line async for line in response.content]
        async with session.get("/t?pieces=40") as response:
            yield b"".join([piece async for piece in response.content.iter_any()])
        async with session.get("/u?pieces=40") as response:
            yield await response.text()
        async with session.get("/v?pieces=40") as response:
            yield await response.content.readline()


def said_by_urllib(response: Any) -> tuple[Any, ...]:
    return (
        type(response),
        response.status,
        response.getcode(),
        response.reason,
        response.msg,
        response.geturl(),
        dict(response.headers),
        response.getheader("Content-Type"),
        response.info().get_content_type(),
        response.read(),
    )


def urllib_plain(web: str) -> Iterator[Any]:
    with urlopen(f"{web}/a") as response:
        yield said_by_urllib(response)
    yield said_by_urllib(urlopen(f"{web}/form", urllib.parse.urlencode({"a": "b"}).encode(), timeout=60))
    yield said_by_urllib(urlopen(Request(f"{web}/put", b"bytes", {"X-Custom": "1"}, method="PUT")))
    yield said_by_urllib(urlopen(Request(f"{web}/head", method="HEAD")))
    yield said_by_urllib(urlopen(f"{web}/go?to=/end"))
    with urlopen(f"{web}/s?pieces=40") as response:
        yield list(response)
    with urlopen(f"{web}/t?pieces=40") as response:
        yield response.read(30), response.readline(), response.read()
    with urlopen(f"{web}/v?pieces=40") as response:
        yield response.readline()
    yield Path(urlretrieve(f"{web}/retrieved")[0]).read_bytes()
    yield urlopen("data:text/plain,text").read()


def urllib_openers(web: str) -> Iterator[Any]:
    jar = http.cookiejar.CookieJar()
    opener = build_opener(HTTPCookieProcessor(jar))
    yield said_by_urllib(opener.open(f"{web}/a"))
    yield sorted(cookie.name for cookie in jar)
    install_opener(opener)
    yield said_by_urllib(urlopen(f"{web}/b"))
    install_opener(None)
    try:
        urlopen(f"{web}/none?status=404")
    except urllib.error.HTTPError as error:
        yield error.code, error.reason, str(error), error.read(), dict(error.headers)
    try:
        urlopen(f"{NOWHERE}/nobody", b"x")
    except urllib.error.URLError as error:
        yield str(error)


SYNC: list[Callable[[str], Iterator[Any]]] = [
    requests_plain,
    requests_sessions,
    requests_streams,
    requests_errors,
    httpx_plain,
    httpx_clients,
    httpx_streams,
    httpx_errors,
    urllib_plain,
    urllib_openers,
]
ASYNC: list[Callable[[str], AsyncIterator[Any]]] = [httpx_async, aiohttp_plain, aiohttp_sessions, aiohttp_streams]
