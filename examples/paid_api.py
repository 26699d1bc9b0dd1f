"""A small paid API on this machine: it charges by request, honours Idempotency-Key and fails at random.

    POST /v1/payments   {"order": "42", "cents": 500}
    POST /v1/answers    {"prompt": "...", "stream": true}: one word a line, and nobody knows the key

Some requests are refused before anything is charged (429 with Retry-After), some are answered with a 500 or by a closed
connection after they were charged. Each charge is a line of JSON in the ledger, on disk before anybody hears of it.

Command, for a server of its own (examples 11 and 12 start theirs):

    python examples/paid_api.py LEDGER
"""

import contextlib
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

REFUSED, ERROR, DROPPED = "refused", "error", "dropped"


class PaidAPI(ThreadingHTTPServer):
    """`failures` is the share of requests that fail, `retry_after` what a refused one is told."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, ledger: str | os.PathLike[str], *, failures: float = 0.0, retry_after: str = "0", seed: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ledger = ledger
        self.failures = failures
        self.retry_after = retry_after
        self.requests = 0
        self.quiet = threading.Condition()
        self._in_flight = 0
        self._random = random.Random(seed)
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}  # key -> what was asked with it, what was answered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def charges(self) -> list[dict[str, Any]]:
        """All charges so far, once no request is under way."""
        with self.quiet:
            self.quiet.wait_for(lambda: not self._in_flight)
        with contextlib.suppress(FileNotFoundError), open(self.ledger, encoding="utf-8") as ledger:
            return [json.loads(line) for line in ledger]
        return []

    @contextlib.contextmanager
    def handling(self) -> Iterator[str]:
        """Count a request, and say how it is to fail."""
        with self.quiet:
            self.requests += 1
            self._in_flight += 1
            failure = self.next_failure()
        try:
            yield failure
        finally:
            with self.quiet:
                self._in_flight -= 1
                self.quiet.notify_all()

    def next_failure(self) -> str:
        """Say how the next request fails, empty if it does not."""
        return self._random.choice((REFUSED, ERROR, DROPPED)) if self._random.random() < self.failures else ""

    def charge(self, path: str, key: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Charge and answer, or answer again what was answered under this key; None for a key of another request."""
        text = json.dumps([path, asked], sort_keys=True)
        with self.quiet:
            if key and key in self._known and self.honours_key(path):
                known, answer = self._known[key]
                return answer if known == text else None
            with open(self.ledger, "a+", encoding="utf-8") as ledger:
                ledger.seek(0)
                number = sum(1 for _ in ledger) + 1
                ledger.write(json.dumps({"number": number, "path": path, "key": key, **asked}) + "\n")
                ledger.flush()
                os.fsync(ledger.fileno())
            answer = self.answer(path, number, asked)
            self._known[key] = text, answer
            return answer

    def honours_key(self, path: str) -> bool:
        """Whether a repeated request of this kind is known by its key."""
        return path == "/v1/payments"

    def answer(self, path: str, number: int, asked: dict[str, Any]) -> dict[str, Any]:
        """What a request is answered with."""
        if path == "/v1/payments":
            return {"id": f"pay-{number}", **asked}
        return {"id": f"answer-{number}", "text": f"{asked['prompt']} is a fine question"}

    def lines(self, path: str, answer: dict[str, Any]) -> Iterator[str]:
        """The same as a stream."""
        yield from answer["text"].split()

    def look_up(self, path: str) -> dict[str, Any]:
        """What a GET is answered with, which costs nothing."""
        return {"charges": self.charges()}


class _Handler(BaseHTTPRequestHandler):
    server: PaidAPI

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", -1))
        body = self.rfile.read(max(length, 0))
        if len(body) != length:  # who asked was killed in the middle of it
            self.close_connection = True
            return
        asked = self.asked(body)
        with self.server.handling() as failure:
            if failure == REFUSED:
                self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": self.server.retry_after})
                return
            path = self.path.partition("?")[0]
            answer = self.server.charge(path, self.headers.get("Idempotency-Key", ""), asked)
            if answer is None:
                self.send(400, {"error": {"message": "this key stands for another request"}})
            elif failure == ERROR:
                self.send(500, {"error": {"message": "something broke after the charge"}})
            elif failure == DROPPED:
                self.close_connection = True
            elif asked.get("stream"):
                self.stream(self.server.lines(path, answer))
            else:
                self.send(200, answer)

    def do_GET(self) -> None:
        self.send(200, self.server.look_up(self.path.partition("?")[0]))

    def asked(self, body: bytes) -> dict[str, Any]:
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(body.decode()))
        return dict(json.loads(body or b"{}")) if kind.startswith("application/json") else {"bytes": len(body)}

    def send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        with contextlib.suppress(ConnectionError):  # who asked may have been killed
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def stream(self, lines: Iterator[str]) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for line in lines:
                self.wfile.write(f"{line}\n".encode())
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with PaidAPI(sys.argv[1], failures=0.3) as api:
        print(api.url, flush=True)
        threading.Event().wait()
