"""Every request of `urllib.request` goes through `OpenerDirector.open`; the redirects that it follows are part of it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor
from urllib.request import Request as OpenedRequest

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.credentials import redirected_url
from durable.patches.http_actions import (
    Request,
    content_of,
    failure,
    is_short,
    is_whole,
    resolved_items,
    task_names,
)
from durable.patches.presets import Patch, Preset
from durable.patches.readers import http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from http.client import HTTPResponse

_LIBRARY = "urllib"
_PIECE = 65536


def _describe(
    open_url: Callable[..., Any], opener: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Action | None:
    request, given = _request_of(*args, **kwargs)
    if request is None or request.type not in ("http", "https"):
        return None

    def put_header(name: str, value: str | None) -> None:
        if value is None:
            request.remove_header(name.capitalize())
        else:
            request.add_header(name, value)

    return Request(
        library=_LIBRARY,
        method=request.get_method(),
        url=request.full_url,
        headers=dict(request.header_items()),
        body=content_of(request.data),
        put_header=put_header,
    ).action(
        perform=lambda: _pieces(lambda: open_url(request, **given), request),
        replay=lambda head, items: _rebuilt(head, items, request, opener),
        failure=failure,
        resolved=resolved_items,
        is_stream=True,
        is_whole=is_whole,
    )


def _request_of(fullurl: Any, data: Any = None, *rest: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
    """Give the request as an object, and the other arguments of the call."""
    if rest:
        given["timeout"] = rest[0]
    if not isinstance(fullurl, str):
        request = fullurl if isinstance(fullurl, OpenedRequest) else None
        if request is not None and data is not None:
            request.data = data
        return request, given
    try:
        return OpenedRequest(fullurl, data), given  # noqa: S310 -- what is opened was asked for by the user
    except ValueError:  # as the call will say
        return None, given


def _pieces(open_url: Callable[[], Any], request: OpenedRequest) -> Iterator[Any]:
    """Give what is stored of a response: its body at once if it is short, else as it comes."""
    raised = False
    try:
        response: Any = open_url()
    except HTTPError as error:  # it is the response too
        response, raised = error, True
    except URLError as error:
        was_redirected = hasattr(request, "redirect_dict")
        if isinstance(error.reason, ConnectionRefusedError | socket.gaierror) and not was_redirected:
            proves_nothing_happened(error)
        raise
    with response:
        head = {
            "status": response.code,
            "reason": response.reason,
            "headers": [(name, str(value)) for name, value in response.headers.items()],
            "url": redirected_url(response.url, request.full_url),
            "raised": raised,
            "redirected": hasattr(request, "redirect_dict"),
        }
        if is_short(request.get_method(), head["status"], response.headers):
            yield head | {"content": response.read()}
            return
        yield head
        read = getattr(response, "read1", response.read)
        while piece := read(_PIECE):
            yield piece


def _rebuilt(head: dict[str, Any], items: Iterable[bytes], request: OpenedRequest, opener: Any) -> HTTPResponse:
    content = head.get("content")
    response: Any = http_response(head, items if content is None else (content,), request.get_method())
    response.url = head.get("url") or request.full_url
    response.msg = response.reason
    for handler in opener.handlers:
        if isinstance(handler, HTTPCookieProcessor):
            handler.cookiejar.extract_cookies(response, request)
    if head.get("raised"):
        raise HTTPError(response.url, response.status, response.reason, response.headers, response)
    made: HTTPResponse = response
    return made


PRESET = Preset(
    name="urllib.request",
    patches=(Patch(target="urllib.request:OpenerDirector.open", describe=_describe),),
    tasks=task_names(_LIBRARY),
)
