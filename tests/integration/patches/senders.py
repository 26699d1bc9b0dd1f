"""Functions that send one request each, by every library that has a preset, and give the JSON of its answer."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import aiohttp
import httpx
import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    Send = Callable[..., Any]


def by_requests(method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
    response = requests.request(method, url, json=data, headers=headers, timeout=60)
    response.raise_for_status()
    return response.json()


def by_httpx(method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
    response = httpx.request(method, url, json=data, headers=headers, follow_redirects=True, verify=False)
    return response.raise_for_status().json()


def by_async_httpx(method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
    async def send() -> Any:
        async with httpx.AsyncClient(verify=False) as client:
            response = await client.request(method, url, json=data, headers=headers, follow_redirects=True)
            return response.raise_for_status().json()

    return asyncio.run(send())


def by_aiohttp(method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
    async def send() -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=data, headers=headers) as response,
        ):
            response.raise_for_status()
            return await response.json()

    return asyncio.run(send())


def by_urllib(method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
    body = json.dumps(data).encode() if data is not None else None
    with urlopen(Request(url, body, headers or {}, method=method)) as response:
        return json.load(response)


SENDS = [by_requests, by_httpx, by_async_httpx, by_aiohttp, by_urllib]
ERRORS = (requests.RequestException, httpx.HTTPError, aiohttp.ClientError, urllib.error.URLError, OSError)
each_library = pytest.mark.parametrize("send", SENDS, ids=lambda send: send.__name__)
