"""A request of the SDKs of OpenAI and Anthropic, which share their ground, is one step; what is stored is the answer alone.

The SDK reads its own types off the stored answer, at the first call as at a replay, so every form of its result is the
same: parsed, raw, streamed, a page. Its own retries become attempts of the step, which are counted over crashes.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.byte_streams import async_body, sync_body
from durable.patches.credentials import counted_url
from durable.patches.http_actions import SAFE, SERVER_ERROR, content_of, refused, resolved, resolved_items
from durable.patches.uploads import Uploads, with_contents
from durable.runs.inside import idempotency_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

_RAW = "X-Stainless-Raw-Response"
_METHODS = ("get", "post", "put", "patch", "delete")
_NOT_KEPT = frozenset({"content-encoding", "content-length", "transfer-encoding", "set-cookie"})
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})
_TRANSIENT = frozenset({408, 409, 429})
_END = re.compile(rb"[\r\n]data: ?\[DONE\](\n\n|\r\n\r\n|\r\r)")
_LONGEST_END = 20  # bytes


@dataclass(frozen=True)
class SDK:
    """A package, and the requests that only cost money, by path: in doubt they are made again, others that write are not."""

    library: str
    answers: Mapping[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that its requests are."""
        names = (*self.answers.values(), *_METHODS, "request")
        return tuple(dict.fromkeys(f"{self.library}.{name}" for name in names))

    def describe(
        self, function: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Action:
        """Describe a call of `SyncAPIClient.request`."""
        return _Call(self, function, client, *args, **kwargs).action(is_async=False)

    def describe_async(
        self, function: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Action:
        """Describe a call of `AsyncAPIClient.request`."""
        return _Call(self, function, client, *args, **kwargs).action(is_async=True)


class _Call:
    def __init__(
        self,
        sdk: SDK,
        function: Callable[..., Any],
        client: Any,
        cast_to: Any,
        options: Any,
        *,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> None:
        self._function = function
        self._client = client
        self._cast_to = client._maybe_override_cast_to(cast_to, options)  # noqa: SLF001 -- what the SDK does first
        self._options = options
        self._uploads = Uploads(options.files, getattr(options, "content", None))
        self._stream = stream
        self._stream_cls = stream_cls
        base = sys.modules[f"{sdk.library}._base_client"]
        self._http: Any = getattr(base, "httpx2", None) or base.httpx  # of older releases
        self._method = options.method.upper()
        path = options.url.partition("?")[0].rstrip("/")
        self._name = sdk.answers.get(path) if self._method == "POST" else None
        method = self._method.lower()
        self._task = f"{sdk.library}.{self._name or (method if method in _METHODS else 'request')}"

    def action(self, *, is_async: bool) -> Action:
        """Make the step of it."""
        options, retries = self._options, self._options.get_max_retries(self._client.max_retries)
        idempotent = self._method in SAFE or self._name is not None
        kinds = {(False, False): self._perform, (True, False): self._perform_async}
        kinds |= {(False, True): self._pieces, (True, True): self._pieces_async}
        return Action(
            task=self._task,
            inputs=self._inputs(),
            perform=kinds[is_async, self._is_stream],
            replay=self._opened if self._is_stream else self._replayed,
            resolved=resolved_items if self._is_stream else resolved,
            complete=self._complete,
            idempotent=idempotent,
            receipt=options.idempotency_key,
            retry=repeatedly(retries) if self._uploads.can_be_repeated and not self._is_stream else None,
            is_over=_is_over,
            is_rebuilt=True,
            is_kept=self._method not in SAFE,
            is_async=is_async,
            is_stream=self._is_stream,
        )

    @property
    def _raw(self) -> str | None:
        headers = self._options.headers
        return headers.get(_RAW) if isinstance(headers, Mapping) else None

    @property
    def _is_stream(self) -> bool:
        return self._stream or self._raw == "stream"

    def _inputs(self) -> dict[str, object]:
        options = self._options
        body = options.json_data
        inputs: dict[str, object] = {"method": self._method, "path": counted_url(options.url)}
        inputs |= {"receiver": counted_url(str(self._client.base_url))}
        inputs |= {"model": body["model"]} if isinstance(body, Mapping) and "model" in body else {}
        counted = {"params": options.params or None, "body": body, "extra": options.extra_json}
        counted |= {"content": content_of(getattr(options, "content", None)), "files": with_contents(options.files)}
        return inputs | {name: value for name, value in counted.items() if value is not None}

    def _sent(self) -> Any:
        """Give the options as they are sent: the step itself tries again, except for what is streamed."""
        self._uploads.set_back()
        changes: dict[str, Any] = {}
        if self._options.idempotency_key is None and self._method != "GET":
            changes["idempotency_key"] = idempotency_key()
        if not self._is_stream or self._name is None:
            changes["max_retries"] = 0
        return self._options.model_copy(update=changes)

    def _perform(self) -> dict[str, Any]:
        with _judging():
            response = _response(self._function(self._http.Response, self._sent(), stream=False))
        return _head(response) | {"content": response.read()}

    async def _perform_async(self) -> dict[str, Any]:
        with _judging():
            response = _response(await self._function(self._http.Response, self._sent(), stream=False))
        return _head(response) | {"content": await response.aread()}

    def _pieces(self) -> Iterator[Any]:
        with _judging():
            response = _response(self._function(self._http.Response, self._sent(), stream=True))
        try:
            yield _head(response)
            end = _End()
            for piece in response.iter_bytes():
                yield piece
                if end.is_in(piece):
                    return
        finally:
            response.close()

    async def _pieces_async(self) -> AsyncIterator[Any]:
        with _judging():
            response = _response(await self._function(self._http.Response, self._sent(), stream=True))
        try:
            yield _head(response)
            end = _End()
            async for piece in response.aiter_bytes():
                yield piece
                if end.is_in(piece):
                    return
        finally:
            await response.aclose()

    def _replayed(self, recorded: dict[str, Any]) -> Any:
        return self._processed(self._response(recorded, content=recorded["content"]))

    def _opened(self, head: dict[str, Any], items: Any) -> Any:
        if "content" in head:  # somebody said what was answered
            return self._replayed(head)
        body = (async_body if hasattr(items, "__anext__") else sync_body)(self._http, is_paid=True)
        return self._processed(self._response(head, stream=body(items)))

    def _response(self, head: dict[str, Any], **body: Any) -> Any:
        kept = [(name, value) for name, value in head["headers"] if name.lower() not in _NOT_KEPT]
        return self._http.Response(head["status"], headers=kept, request=self._request(), **body)

    def _request(self) -> Any:
        url = counted_url(f"{str(self._client.base_url).rstrip('/')}/{self._options.url.lstrip('/')}")
        headers = {_RAW: self._raw} if self._raw else {}
        return self._http.Request(self._options.method.upper(), url, headers=headers)

    def _complete(self, error: BaseException) -> None:
        if any(kind.__name__ == "APIError" for kind in type(error).__mro__) and getattr(error, "request", None) is None:
            error.request = self._request()  # type: ignore[attr-defined]  # as the SDK does it

    def _processed(self, response: Any) -> Any:
        result = self._client._process_response(  # noqa: SLF001 -- what the SDK does with a response
            cast_to=self._cast_to,
            options=self._options,
            response=response,
            stream=self._stream,
            stream_cls=self._stream_cls,
        )
        return _finished(result) if iscoroutine(result) else result


class _End:
    """Finds the last event of a stream in its pieces, after which the SDK waits for the server for a moment only."""

    def __init__(self) -> None:
        self._tail = b"\n"

    def is_in(self, piece: bytes) -> bool:
        """Whether this piece completes it."""
        text = self._tail + piece
        self._tail = text[-_LONGEST_END:]
        return _END.search(text) is not None


def _is_over(pieces: Sequence[bytes]) -> bool:
    return _End().is_in(b"".join(pieces))


def _finished(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing: the whole response is at hand, or is read later."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("The SDK waits for something when it reads a response that is at hand.")


def _response(result: Any) -> Any:
    return getattr(result, "http_response", result)  # wrapped where the caller asked for the raw response


def _head(response: Any) -> dict[str, Any]:
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_KEPT]
    return {"status": response.status_code, "headers": headers}


@contextlib.contextmanager
def _judging() -> Iterator[None]:
    """Note on an exception what is known of the effect of the request."""
    try:
        yield
    except Exception as error:
        if isinstance(status := getattr(error, "status_code", None), int):
            response = getattr(error, "response", None)
            refused(error, status, hops=[each.status_code for each in getattr(response, "history", ())])
        elif type(error.__cause__).__name__ in _NOT_SENT:
            proves_nothing_happened(error)
        raise


@cache
def repeatedly(retries: int) -> Any:
    """Make the retry policy of a request that its client would have repeated so often; None for never."""
    if not retries:
        return None
    import tenacity  # noqa: PLC0415 -- slow to import, needed for retries only

    from durable.steps.retry_after import wait_retry_after  # noqa: PLC0415 -- as above

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=wait_retry_after(),
        retry=tenacity.retry_if_exception(_is_transient),
    )


def _is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed: the receiver is busy or broken, or did not answer."""
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if isinstance(status, int):
        return status in _TRANSIENT or status >= SERVER_ERROR
    return any(kind.__name__ == "APIConnectionError" for kind in type(error).__mro__)
