"""Every request of `requests` goes through `Session.send`, once, whatever redirects it follows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.credentials import redirected_url
from durable.patches.http_actions import (
    Request,
    content_of,
    failure,
    header_setter,
    refused,
    resolved,
    resolved_items,
    task_names,
)
from durable.patches.presets import Patch, Preset
from durable.patches.readers import http_response

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

_LIBRARY = "requests"
_PIECE = 65536


def _describe(send: Callable[..., Any], session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action | None:
    request: Any = args[0] if args else kwargs.get("request")
    if not hasattr(request, "prepare_headers"):  # `send` refuses it
        return None
    is_stream = bool(kwargs.get("stream", session.stream))
    sent = Request(
        library=_LIBRARY,
        method=str(request.method),
        url=request.url,
        headers=request.headers,
        body=content_of(request.body),
        put_header=header_setter(request.headers),
        is_stream=is_stream,
    )

    def perform() -> Any:
        try:
            return send(*args, **kwargs)
        except Exception as error:
            if _was_not_sent(error, request, session):
                proves_nothing_happened(error)
            elif (answer := getattr(error, "response", None)) is not None and answer.request is request:  # by a hook
                refused(error, answer.status_code)
            raise

    def complete(error: BaseException) -> None:
        if getattr(error, "request", error) is error:
            error.request = request  # type: ignore[attr-defined]  # as requests does it

    if not is_stream:
        return sent.action(
            perform=perform,
            record=lambda response: _recorded(response, request.url),
            replay=lambda recorded: _replayed(recorded, request, session),
            complete=complete,
            failure=failure,
            resolved=resolved,
        )
    return sent.action(
        perform=lambda: _pieces(perform(), request.url),
        replay=lambda head, items: _opened(head, items, request, session),
        complete=complete,
        failure=failure,
        resolved=resolved_items,
        is_stream=True,
    )


def _was_not_sent(error: Exception, request: Any, session: Any) -> bool:
    """Whether no byte of the request left: the connection to the first host was refused, or its name is unknown."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    is_first = request is getattr(error, "request", None)  # and no one that it was redirected to
    if not is_first or not error.args:
        return False
    retries = session.get_adapter(url=request.url).max_retries
    reason = error.args[0].reason if isinstance(error.args[0], MaxRetryError) else None
    refused = isinstance(reason, NewConnectionError | ConnectTimeoutError)
    return refused and not getattr(retries, "total", 1)


def _head(response: Any, asked: str) -> dict[str, Any]:
    raw = getattr(response.raw, "headers", None)
    headers = raw.items() if raw is not None else response.headers.items()
    return {
        "status": response.status_code,
        "reason": response.reason,
        "headers": [(str(name), str(value)) for name, value in headers],
        "url": redirected_url(response.url, asked),
        "elapsed": response.elapsed.total_seconds(),
    }


def _history(response: Any, asked: str) -> dict[str, Any]:
    return {"history": [_head(each, asked) | {"content": each.content} for each in response.history]}


def _recorded(response: Any, asked: str) -> dict[str, Any]:
    """Give what is stored of a response that was read."""
    read = {"content": response.content, "encoding": response.encoding}
    return _head(response, asked) | read | _history(response, asked)


def _pieces(response: Any, asked: str) -> Iterator[Any]:
    """Give what is stored of a response that is read bit by bit, as it came, undecoded."""
    with response:
        yield _head(response, asked) | _history(response, asked)
        raw = response.raw
        if raw.chunked or not hasattr(raw, "read1"):
            yield from raw.stream(_PIECE, decode_content=False)
        else:
            while piece := raw.read1(_PIECE, decode_content=False):
                yield piece


def _replayed(recorded: dict[str, Any], request: Any, session: Any) -> Any:
    response = _with_history(recorded, (), request, session)
    response._content, response._content_consumed = recorded["content"], True
    if "encoding" in recorded:
        response.encoding = recorded["encoding"]
    return response


def _opened(head: dict[str, Any], items: Iterable[bytes], request: Any, session: Any) -> Any:
    content = head.get("content")
    return _with_history(head, items if content is None else (content,), request, session)


def _with_history(head: dict[str, Any], items: Iterable[bytes], request: Any, session: Any) -> Any:
    history: list[Any] = []
    for each in head.get("history", ()):
        earlier = _rebuilt(each, (), request, session)
        earlier._content, earlier._content_consumed = each["content"], True
        earlier.history = list(history)
        history.append(earlier)
    response = _rebuilt(head, items, request, session)
    response.history = history
    return response


def _rebuilt(head: dict[str, Any], items: Iterable[bytes], request: Any, session: Any) -> Any:
    from requests.adapters import HTTPAdapter
    from requests.cookies import extract_cookies_to_jar

    if head.get("url") is not None:
        request = request.copy()
        request.url = head["url"]
    raw = _raw(head, items, request)
    response: Any = HTTPAdapter().build_response(request, raw)
    response.elapsed = timedelta(seconds=head.get("elapsed", 0))
    extract_cookies_to_jar(session.cookies, request, raw)
    return response


def _raw(head: dict[str, Any], items: Iterable[bytes], request: Any) -> Any:
    from urllib3._collections import HTTPHeaderDict  # where urllib3 1 has it, too
    from urllib3.response import HTTPResponse

    class Raw(HTTPResponse):
        """One that gives its pieces as they come, where the server sent it in pieces."""

        def stream(self, amt: int | None = _PIECE, decode_content: bool | None = None) -> Generator[bytes, None, None]:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                yield from super().stream(amt, decode_content)
                return
            read = getattr(self, "read1", self.read)  # since urllib3 2.1
            while piece := read(amt, decode_content=decode_content):
                yield piece

    original = http_response(head, items, request.method)
    made: Any = Raw(
        original,
        HTTPHeaderDict(head["headers"]),
        head["status"],
        reason=head["reason"],
        version=11,
        preload_content=False,
        decode_content=False,
        original_response=original,
        request_method=request.method,
    )
    made.chunked = False
    return made


PRESET = Preset(
    name=_LIBRARY,
    patches=(Patch(target="requests:Session.send", describe=_describe),),
    tasks=task_names(_LIBRARY),
    methods=("requests:Response.raise_for_status",),
)
