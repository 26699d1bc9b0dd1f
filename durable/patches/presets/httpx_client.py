"""Every request of `httpx` goes through `Client.send` or `AsyncClient.send`, once, with its redirects and authentication."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.byte_streams import async_body, sync_body
from durable.patches.credentials import redirected_url
from durable.patches.http_actions import (
    Request,
    failure,
    header_setter,
    is_whole,
    refused,
    resolved,
    resolved_items,
    task_names,
)
from durable.patches.presets import Patch, Preset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

_LIBRARY = "httpx"


def _describe(send: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
    request = args[0] if args else kwargs["request"]

    def perform() -> Any:
        with _judging(request):
            return send(*args, **kwargs)

    if kwargs.get("stream"):
        return _streamed(request, request.read(), client, perform=lambda: _pieces(perform(), request))
    return _whole(request, request.read(), client, perform=perform)


async def _describe_async(
    send: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action:
    request = args[0] if args else kwargs["request"]

    async def perform() -> Any:
        with _judging(request):
            return await send(*args, **kwargs)

    if kwargs.get("stream"):
        pieces = partial(_pieces_async, perform, request)
        return _streamed(request, await request.aread(), client, perform=pieces, is_async=True)
    return _whole(request, await request.aread(), client, perform=perform, is_async=True)


def _whole(request: Any, body: bytes, client: Any, **more: Any) -> Action:
    """Make the step of a request whose response is read at once."""
    return _request(request, body).action(
        record=lambda response: _recorded(response, request),
        complete=partial(_complete, request),
        replay=lambda recorded: _replayed(recorded, request, client),
        failure=failure,
        resolved=resolved,
        **more,
    )


def _streamed(request: Any, body: bytes, client: Any, **more: Any) -> Action:
    """Make the step of a request whose response is read piece by piece."""
    return _request(request, body, is_stream=True).action(
        replay=lambda head, items: _opened(head, items, request, client),
        complete=partial(_complete, request),
        failure=failure,
        resolved=resolved_items,
        is_stream=True,
        **more,
    )


def _request(request: Any, body: bytes, *, is_stream: bool = False) -> Request:
    return Request(
        library=_LIBRARY,
        method=request.method,
        url=str(request.url),
        headers=request.headers,
        body=body,
        put_header=header_setter(request.headers),
        is_stream=is_stream,
    )


@contextlib.contextmanager
def _judging(request: Any) -> Iterator[None]:
    """Note on an exception what is known of the effect of the request."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
        if getattr(error, "_request", None) is request:  # and not one that it was redirected to
            proves_nothing_happened(error)
        raise
    except httpx.HTTPStatusError as error:
        if error.request is request:
            refused(error, error.response.status_code)
        raise


def _complete(request: Any, error: BaseException) -> None:
    import httpx

    if isinstance(error, httpx.RequestError) and getattr(error, "_request", None) is None:
        error.request = request


def _head(response: Any, request: Any) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "version": response.http_version,
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw],
        "url": redirected_url(str(response.url), str(request.url)),
        "elapsed": response.elapsed.total_seconds() if hasattr(response, "_elapsed") else 0.0,
        "history": [_head(each, request) | {"content": getattr(each, "_content", b"")} for each in response.history],
    }


def _recorded(response: Any, request: Any) -> dict[str, Any]:
    return _head(response, request) | {"content": response.content}


def _pieces(response: Any, request: Any) -> Iterator[Any]:
    """Give what is stored of a response that is read bit by bit, as it came, undecoded."""
    try:
        yield _head(response, request)
        yield from response.iter_raw()
    finally:
        response.close()


async def _pieces_async(perform: Callable[[], Any], request: Any) -> AsyncIterator[Any]:
    response = await perform()
    try:
        yield _head(response, request)
        async for piece in response.aiter_raw():
            yield piece
    finally:
        await response.aclose()


def _opened(head: dict[str, Any], items: Any, request: Any, client: Any) -> Any:
    import httpx

    if is_whole(head):
        return _replayed(head, request, client)
    library: Any = httpx
    body = (async_body if hasattr(items, "__anext__") else sync_body)(library)
    return _rebuilt(head, request, client, body(items))


def _replayed(recorded: dict[str, Any], request: Any, client: Any) -> Any:
    return _read(_rebuilt(recorded, request, client), recorded)


def _read(response: Any, recorded: dict[str, Any]) -> Any:
    response._content = recorded["content"]
    response.is_closed = response.is_stream_consumed = True
    return response


def _rebuilt(head: dict[str, Any], request: Any, client: Any, stream: Any = None) -> httpx.Response:
    import httpx

    if head.get("url") is not None:
        request = httpx.Request(request.method, head["url"])
    response = httpx.Response(
        head["status"],
        headers=head["headers"],
        request=request,
        stream=stream if stream is not None else httpx.ByteStream(b""),
        extensions={
            "http_version": head.get("version", "HTTP/1.1").encode(),
            "reason_phrase": head["reason"].encode("latin-1", "replace"),
        },
        default_encoding=client._default_encoding,
    )
    response.elapsed = timedelta(seconds=head.get("elapsed", 0))
    response.history = [_read(_rebuilt(each, request, client), each) for each in head.get("history", ())]
    client.cookies.extract_cookies(response)
    if response.has_redirect_location:
        response.next_request = client._build_redirect_request(request, response)
    return response


PRESET = Preset(
    name=_LIBRARY,
    patches=(
        Patch(target="httpx:Client.send", describe=_describe),
        Patch(target="httpx:AsyncClient.send", describe=_describe_async),
    ),
    tasks=task_names(_LIBRARY),
    methods=("httpx:Response.raise_for_status",),
)
