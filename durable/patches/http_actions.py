"""A request is identified by method, address, body and the headers that say what is asked for; credentials do not count.

A method other than GET, HEAD and OPTIONS is executed again only under an idempotency key: the caller's, or that of the
step, which is sent to hosts that honour it.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from durable.errors import ConfigurationError, FingerprintError
from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.credentials import counted_url, scrub, secrets_of, shown_body, shown_url
from durable.runs.inside import idempotency_key
from durable.steps.details import Excerpt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing
_COUNTED = (
    *("accept", "accept-language", "content-type", "content-encoding", "content-range", "range", "prefer", "depth"),
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "soapaction", "x-http-method-override"),
)
_ACCOUNT = ("authorization", "x-api-key")
_BOUNDARY = re.compile(r"boundary=\"?([^\";,]+)\"?", re.IGNORECASE)
_WHOLE = 1024 * 1024  # bytes up to which a body of known length is read at once
_OK, _BAD_REQUEST, SERVER_ERROR = 200, 400, 500
_REDIRECTS = range(300, _BAD_REQUEST)
_SENT_AGAIN = frozenset({307, 308})  # redirects that ask for the same request elsewhere


class KnownReceiver(NamedTuple):
    """A host that honours idempotency keys: in which header, and for how many seconds it remembers them (None: unknown)."""

    header: str = "Idempotency-Key"
    window: float | None = None


_DAY = 24 * 3600.0
_receivers: dict[str, KnownReceiver] = {
    "api.stripe.com": KnownReceiver(window=_DAY),
    "api.adyen.com": KnownReceiver(),
    "api.gocardless.com": KnownReceiver(),
    "api.mollie.com": KnownReceiver(),
    "api.resend.com": KnownReceiver(window=_DAY),
    "api-m.paypal.com": KnownReceiver("PayPal-Request-Id"),
    "api-m.sandbox.paypal.com": KnownReceiver("PayPal-Request-Id"),
    "api.checkout.com": KnownReceiver("Cko-Idempotency-Key"),
}


def honours_idempotency_key(host: str, *, header: str = "Idempotency-Key", window: float | None = None) -> None:
    """Say that a host (`"api.example.com"`, or with a port) executes requests under one key once.

    The presets then send `durable.idempotency_key()` in that header, and requests to it may be repeated. `window` is the
    number of seconds for which the host remembers a key. Raises `ConfigurationError` for what is no host.
    """
    if not isinstance(host, str) or not host or "/" in host:
        raise ConfigurationError(f"honours_idempotency_key({host!r}): name a host, such as 'api.example.com'.")
    _receivers[host.lower()] = KnownReceiver(header, window)


def receiver_of(url: str) -> KnownReceiver | None:
    """Give what is known of the host of an address about idempotency keys."""
    parts = urlsplit(url)
    return _receivers.get(parts.netloc.rpartition("@")[2].lower()) or _receivers.get((parts.hostname or "").lower())


def _receipt_headers() -> list[str]:
    return sorted({"idempotency-key", "x-idempotency-key", *(each.header.lower() for each in _receivers.values())})


def task_names(library: str) -> tuple[str, ...]:
    """List the names of the tasks that the requests of a library are."""
    return tuple(f"{library}.{method}" for method in (*_METHODS, "request"))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a preset reads off a request; `put_header` changes its headers, `None` takes one out again."""

    library: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: object
    put_header: Callable[[str, str | None], None]
    is_stream: bool = False

    def action(self, *, perform: Callable[[], Any], **more: Any) -> Action:
        """Make the step of it; `perform` sends it, `more` are other fields of the action."""
        method = self.method.upper()
        headers = {str(name).lower(): _text(value) for name, value in self.headers.items()}
        receiver = receiver_of(self.url)
        receipt = next((headers[name] for name in _receipt_headers() if name in headers), None)
        header = receiver.header if receiver is not None and receipt is None and method not in SAFE else None
        counted = {name: headers[name] for name in _COUNTED if name in headers}
        return Action(
            task=f"{self.library}.{method.lower() if method.lower() in _METHODS else 'request'}",
            inputs=self._inputs(counted),
            shown={
                "url": Excerpt(repr(shown_url(self.url))),
                "headers": ", ".join(f"{name}: {value}" for name, value in counted.items()),
                "body": Excerpt(shown_body(self.body, counted.get("content-type", ""))),
            },
            perform=self._performing(perform, header, **more),
            idempotent=method in SAFE or ((receipt or header) is not None and _as_long_as_known(receiver)),
            receipt=receipt,
            account=hash(tuple(headers.get(name) for name in _ACCOUNT)),
            **more,
        )

    def _inputs(self, headers: dict[str, str]) -> dict[str, object]:
        """What identifies the request, given the headers that count; boundaries are made anew each time and do not."""
        body, kind = self.body, headers.get("content-type", "")
        if boundary := _BOUNDARY.search(kind):
            headers = headers | {"content-type": kind.partition(";")[0]}
            body = body.replace(boundary[1].encode(), b"boundary") if isinstance(body, bytes) else body
        inputs: dict[str, object] = {"method": self.method.upper(), "url": counted_url(self.url)}
        optional = {"headers": headers, "body": body, "stream": self.is_stream}
        return inputs | {name: value for name, value in optional.items() if value}

    def _performing(self, perform: Callable[[], Any], header: str | None, **more: Any) -> Callable[[], Any]:
        kinds = {(False, False): self._send, (True, False): self._send_async}
        kinds |= {(False, True): self._read, (True, True): self._read_async}
        return partial(kinds[more.get("is_async", False), more.get("is_stream", False)], perform, header)

    @contextlib.contextmanager
    def _sending(self, header: str | None) -> Iterator[None]:
        """Send the key of the step in that header, and let no exception tell a secret."""
        if header is not None:
            self.put_header(header, idempotency_key())
        try:
            yield
        except Exception as error:
            scrub(error, secrets_of(self.url))
            raise
        finally:
            if header is not None:
                self.put_header(header, None)

    def _send(self, perform: Callable[[], Any], header: str | None) -> Any:
        with self._sending(header):
            return perform()

    async def _send_async(self, perform: Callable[[], Any], header: str | None) -> Any:
        with self._sending(header):
            return await perform()

    def _read(self, perform: Callable[[], Any], header: str | None) -> Iterator[Any]:
        with self._sending(header):
            yield from perform()

    async def _read_async(self, perform: Callable[[], Any], header: str | None) -> AsyncIterator[Any]:
        with self._sending(header):
            async with contextlib.aclosing(perform()) as items:
                async for item in items:
                    yield item


def _as_long_as_known(receiver: KnownReceiver | None) -> bool | timedelta:
    """Give how long a request may be repeated under its key."""
    return timedelta(seconds=receiver.window) if receiver is not None and receiver.window is not None else True


def content_of(body: Any) -> object:
    """Read the body of a request, where it can be read twice; of others only the type counts."""
    if isinstance(body, str):
        return body.encode()
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if not can_be_set_back(body):
        return f"<{type(body).__qualname__}>"
    try:
        start, content = body.tell(), body.read()
        body.seek(start)
    except (AttributeError, OSError, ValueError) as error:
        raise FingerprintError(
            f"The body of a request is read to tell what is asked for, and a {type(body).__qualname__} cannot be set back, "
            f"though it says so: {error}. Nothing was sent. Give the request its bytes: body.read()."
        ) from error
    return content if isinstance(content, bytes) else str(content).encode()


def can_be_set_back(body: Any) -> bool:
    """Whether a body says so, which is asked before it is read: what cannot be set back is lost to the request."""
    try:
        body.seek(body.tell())
        return bool(getattr(body, "seekable", lambda: True)())
    except (AttributeError, OSError, ValueError):
        return False


def header_setter(headers: Any) -> Callable[[str, str | None], None]:
    """Give what sets a header of a mapping, or takes it out."""

    def put(name: str, value: str | None) -> None:
        if value is None:
            headers.pop(name, None)
        else:
            headers[name] = value

    return put


def failure(recorded: Any) -> bool | None:
    """Read off a recorded response whether it is a failure: True where the server refused (4xx), so that nothing happened."""
    status = recorded["status"]
    if status < _BAD_REQUEST:
        return None
    hops = [each["status"] for each in recorded.get("history", ())]
    return status < SERVER_ERROR and not recorded.get("redirected") and not _may_have_acted(hops)


def refused(error: BaseException, status: int, hops: Iterable[int] = ()) -> None:
    """Note on an exception that stands for a response what the status says about the effect; `hops` are those before it."""
    if _BAD_REQUEST <= status < SERVER_ERROR and not _may_have_acted(hops):
        proves_nothing_happened(error)


def _may_have_acted(hops: Iterable[int]) -> bool:
    """Whether a server that answered by a redirect may have done what was asked: it names where to read what came of it."""
    return any(status in _REDIRECTS and status not in _SENT_AGAIN for status in hops)


def resolved(value: Any) -> Any:
    """Make a recorded response of what somebody says was the answer: its status and JSON, or the JSON alone."""
    if isinstance(value, dict) and "status" in value and "headers" in value:
        return value
    content = json.dumps(value).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    return {"status": _OK, "reason": "OK", "headers": headers, "content": content}


def resolved_items(value: Any) -> list[Any]:
    """Make the recorded items of what somebody says was the answer."""
    is_recorded = isinstance(value, list) and bool(value) and resolved(value[0]) is value[0]
    return value if is_recorded else [resolved(value)]


def is_whole(head: Any) -> bool:
    """Whether the head of a stream holds its body too."""
    return head.get("content") is not None


def is_short(method: str, status: int, headers: Mapping[str, str]) -> bool:
    """Whether a body is of a known length and small, so that reading it at once neither waits for long nor fills memory."""
    if method.upper() == "HEAD" or status in (204, 304):
        return True
    length = headers.get("Content-Length", "")
    return length.isdigit() and int(length) <= _WHOLE and "event-stream" not in headers.get("Content-Type", "")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
