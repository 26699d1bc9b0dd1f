"""Receivers of effects that keep their own ledger: a web server and a mail server, which can kill their client."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller

from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Received:
    """One request as the server got it."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]


@dataclass
class Ledger:
    """What was received, in its order; `kill_at` is the number of the event at which the client is killed (0: never).

    A request is two events: before it has its effect, and after it, before the answer.
    """

    client: Path | None = None
    entries: list[Any] = field(default_factory=list)
    kill_at: int = 0
    events: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def take(self, entry: Any) -> int:
        """Let the effect happen; gives its number."""
        self._event()
        with self._guard:
            self.entries.append(entry)
            number = len(self.entries)
        self._event()
        return number

    def _event(self) -> None:
        with self._guard:
            self.events += 1
            is_time = self.events == self.kill_at
        if is_time and self.client is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self.client.read_text()), signal.SIGKILL)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, ledger: Ledger, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ledger = ledger

    def handle_error(self, *_: object) -> None:
        """Clients die here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = self._read()
        received = Received(self.command, self.path, body, dict(self.headers))
        number = self.server.ledger.take(received)
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if "drop" in query and number <= int(query["drop"]):
            self.close_connection = True
        elif "to" in query:
            self._send(int(query.get("status", 302)), b"", {"Location": query["to"], "Set-Cookie": "hop=1; Path=/"})
        elif "pieces" in query:
            self._send_pieces(number, int(query["pieces"]), is_same="same" in query)
        else:
            said = {"number": number, "method": self.command, "path": self.path, "body": body.decode("latin-1")}
            said = {"number": number} if "quiet" in query else said
            content, headers = (
                json.dumps(said).encode(),
                {"Content-Type": "application/json", "Set-Cookie": "seen=1; Path=/"},
            )
            if "gzip" in query:
                content, headers = gzip.compress(content), headers | {"Content-Encoding": "gzip"}
            statuses = query.get("status", "200").split(",")
            self._send(int(statuses[min(number, len(statuses)) - 1]), content, headers)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 -- so named by http.server

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_pieces(self, number: int, count: int, *, is_same: bool) -> None:
        """Send lines of 20 bytes, in pieces of another size each time."""
        size, said = max(7 + 6 * number, count // 4), 0 if is_same else number
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        text = b"".join(f"data: {said} {each}".ljust(19).encode() + b"\n" for each in range(count))
        for start in range(0, len(text), size):
            piece = text[start : start + size]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def web_server(ledger: Ledger, port: int = 0) -> Iterator[str]:
    """Serve, and give the address."""
    server = _Server(ledger, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Mailbox:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def handle_RCPT(self, _: object, __: object, envelope: Any, address: str, ___: object) -> str:  # noqa: N802 -- what aiosmtpd calls it
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: object, __: object, envelope: Any) -> str:  # noqa: N802 -- so named by aiosmtpd
        self._ledger.take((envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content))
        return "250 OK"


@contextlib.contextmanager
def held_port() -> Iterator[socket.socket]:
    """Hold a port that nobody listens on, and that nobody else gets meanwhile; a server of ours may take it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held


class _MailServer(Controller):
    """Listens on a port that is held for it."""

    def __init__(self, ledger: Ledger, held: socket.socket) -> None:
        self._held = held
        super().__init__(_Mailbox(ledger), hostname="127.0.0.1", port=held.getsockname()[1], ready_timeout=LIMIT)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._held)


@contextlib.contextmanager
def mail_server(ledger: Ledger) -> Iterator[int]:
    """Take mails, and give the port."""
    with held_port() as held:
        controller = _MailServer(ledger, held)
        controller.start()
        try:
            yield controller.port
        finally:
            controller.stop()
