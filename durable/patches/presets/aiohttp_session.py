"""Every request of `aiohttp` goes through `ClientSession._request`, once, whether it is awaited or entered."""

from __future__ import annotations

import asyncio
import inspect
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.credentials import redirected_url
from durable.patches.http_actions import (
    Request,
    content_of,
    failure,
    is_short,
    is_whole,
    refused,
    resolved_items,
    task_names,
)
from durable.patches.presets import Patch, Preset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_LIBRARY = "aiohttp"


def _describe(
    request: Callable[..., Coroutine[Any, Any, Any]], session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action | None:
    method, address, *_ = *args, *(kwargs[name] for name in ("method", "str_or_url") if name in kwargs)
    given = {name: value for name, value in kwargs.items() if name not in ("method", "str_or_url")}
    try:
        url = session._build_url(address)
        url = url.extend_query(given["params"]) if given.get("params") else url
        headers = session._prepare_headers(given.get("headers"))
    except (TypeError, ValueError):  # as the call will say
        return None
    if "Upgrade" in headers:  # a web socket is no request with an answer
        return None

    def put_header(name: str, value: str | None) -> None:
        if value is None:
            given["headers"] = kwargs.get("headers")
        else:
            given["headers"] = [*_pairs(kwargs.get("headers")), (name, value)]

    return Request(
        library=_LIBRARY,
        method=method,
        url=str(url),
        headers=headers,
        body=_body(given.get("json"), given.get("data")),
        put_header=put_header,
    ).action(
        perform=lambda: _pieces(lambda: request(method, address, **given), method, str(url)),
        replay=lambda head, items: _rebuilt(head, items, method, url, headers, session),
        complete=lambda error: _complete(error, method, url, headers),
        failure=failure,
        resolved=resolved_items,
        is_async=True,
        is_stream=True,
        is_whole=is_whole,
    )


def _pairs(headers: Any) -> list[tuple[str, str]]:
    return list(headers.items() if hasattr(headers, "items") else headers or ())


def _body(json: Any, data: Any) -> object:
    """What is sent, without the boundary of a form."""
    if json is not None:
        return {"json": json}
    if fields := getattr(data, "_fields", None):
        return [(dict(options), dict(headers), content_of(value)) for options, headers, value in fields]
    if isinstance(data, dict):
        return {"form": {name: _field(value) for name, value in data.items()}}
    if isinstance(data, list | tuple):
        return {"form": [(name, _field(value)) for name, value in data]}
    return content_of(data)


def _field(value: Any) -> object:
    return value if isinstance(value, str | int | float) else content_of(value)


async def _pieces(request: Callable[[], Coroutine[Any, Any, Any]], method: str, asked: str) -> AsyncIterator[Any]:
    """Give what is stored of a response: its body at once if it is short, else as it comes."""
    try:
        response = await request()
    except Exception as error:
        _judge(error)
        raise
    try:
        history = [_head(each, asked) | {"content": b""} for each in response.history]
        head = _head(response, asked) | {"history": history}
        if is_short(method, response.status, response.headers):
            yield head | {"content": await response.read()}
            return
        yield head
        async for piece in response.content.iter_any():
            yield piece
    finally:
        response.release()


def _judge(error: Exception) -> None:
    """Note on an exception what is known of the effect of the request."""
    import aiohttp

    if _hops(error) != 0:
        return
    if isinstance(error, aiohttp.ClientConnectorError):
        proves_nothing_happened(error)
    elif isinstance(error, aiohttp.ClientResponseError):
        refused(error, error.status)


def _complete(error: BaseException, method: str, url: Any, headers: Any) -> None:
    import aiohttp

    if isinstance(error, aiohttp.ClientResponseError) and getattr(error, "request_info", None) is None:
        error.request_info = aiohttp.RequestInfo(url, method, headers, url)


def _hops(error: Exception) -> int:
    """Count the redirects that were followed before, which nothing but the frame of the request knows; -1 if unknown."""
    import aiohttp

    trace, file = error.__traceback__, os.path.join(os.path.dirname(aiohttp.__file__), "client.py")
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name == "_request" and code.co_filename == file:
            hops: int = trace.tb_frame.f_locals.get("redirects", -1)
            return hops
        trace = trace.tb_next
    return -1


def _head(response: Any, asked: str) -> dict[str, Any]:
    return {
        "status": response.status,
        "reason": response.reason,
        "headers": [(str(name), str(value)) for name, value in response.headers.items()],
        "url": redirected_url(str(response.url), asked),
        "method": response.method,
    }


def _rebuilt(
    head: dict[str, Any], items: AsyncIterator[bytes], method: str, url: Any, headers: Any, session: Any
) -> Any:
    import yarl

    from durable.patches.presets import aiohttp_streams

    if head.get("url") is not None:
        url = yarl.URL(head["url"])
    base = session._response_class
    is_read = is_whole(head)
    cls = base if is_read else aiohttp_streams.reading(base)
    response = _empty(cls, head.get("method", method), url, headers, session)
    response.content = aiohttp_streams.content(response._loop, None if is_read else items, head.get("content"))
    response._items = None if is_read else items
    _fill(response, head)
    earlier = (_rebuilt(each, items, method, url, headers, session) for each in head.get("history", ()))
    response._history = tuple(earlier)
    if response.cookies:
        session.cookie_jar.update_cookies(response.cookies, url)
    return response


def _empty(cls: Any, method: str, url: Any, headers: Any, session: Any) -> Any:
    import aiohttp
    from aiohttp.helpers import TimerNoop

    fields: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": TimerNoop(),
        "request_info": aiohttp.RequestInfo(url, method, headers, url),
        "traces": [],
        "loop": asyncio.get_running_loop(),
        "session": session,
        "stream_writer": SimpleNamespace(output_size=0),  # since 3.13
    }
    known = inspect.signature(cls.__init__).parameters
    return cls(method.upper(), url, **{name: value for name, value in fields.items() if name in known})


def _fill(response: Any, head: dict[str, Any]) -> None:
    import aiohttp
    from multidict import CIMultiDict, CIMultiDictProxy

    response.status, response.reason, response.version = head["status"], head["reason"], aiohttp.HttpVersion11
    response._headers = CIMultiDictProxy(CIMultiDict(head["headers"]))
    response._raw_headers = tuple((name.encode(), value.encode()) for name, value in head["headers"])
    cookies = response.headers.getall("Set-Cookie", ())
    if hasattr(type(response), "_raw_cookie_headers"):  # since 3.12
        response._raw_cookie_headers = tuple(cookies)
    else:
        for cookie in cookies:
            response.cookies.load(cookie)


PRESET = Preset(
    name=_LIBRARY,
    patches=(Patch(target="aiohttp:ClientSession._request", describe=_describe),),
    tasks=task_names(_LIBRARY),
    methods=("aiohttp:ClientResponse.raise_for_status",),
)
