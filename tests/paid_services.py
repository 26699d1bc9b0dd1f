"""The paid API of the examples, which tests of real SDKs see as those of OpenAI, Anthropic and Stripe as well."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = Path(__file__).parents[1] / "examples" / "paid_api.py"
_SPEC = importlib.util.spec_from_file_location("paid_api", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
paid_api: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["paid_api"] = paid_api
_SPEC.loader.exec_module(paid_api)

REFUSED, ERROR, DROPPED = paid_api.REFUSED, paid_api.ERROR, paid_api.DROPPED
WORDS = ("once", "upon", "a", "time")


class PaidServices(paid_api.PaidAPI):  # type: ignore[misc]  # of a file that is no module of a package
    """What a test starts; `planned` are failures of the next requests, before any at random."""

    def __init__(self, ledger: Path, **options: Any) -> None:
        super().__init__(ledger, **options)
        self.planned: list[str] = []
        self.looked_up: list[str] = []

    def next_failure(self) -> str:
        return self.planned.pop(0) if self.planned else str(super().next_failure())

    def honours_key(self, path: str) -> bool:
        return path.startswith(("/v1/payment", "/v1/refunds"))

    def answer(self, path: str, number: int, asked: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/payment_intents":
            return {"id": f"pi_{number}", "object": "payment_intent", "amount": int(asked["amount"]), "currency": "eur"}
        if path == "/v1/refunds":
            return {"id": f"re_{number}", "object": "refund", "amount": 1}
        if path == "/v1/chat/completions":
            message = {"role": "assistant", "content": " ".join(WORDS)}
            choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
            return {"choices": choices, **_completion(number, "chat.completion"), "usage": _USAGE}
        if path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
            return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
        if path == "/v1/messages":
            return {
                **_message(number),
                "content": [{"type": "text", "text": " ".join(WORDS)}],
                "stop_reason": "end_turn",
            }
        if path == "/v1/files":
            return {"id": f"file-{number}", "object": "file", "bytes": 1, "created_at": 1, "filename": "x"}
        if path.endswith("batches"):
            return {"id": f"batch-{number}", "object": "batch", "status": "in_progress"}
        return dict(super().answer(path, number, asked))

    def lines(self, path: str, answer: dict[str, Any]) -> Iterator[str]:
        number = int(answer["id"].rpartition("-")[2])
        if path == "/v1/messages":
            yield from _events(number)
            return
        for word in WORDS:
            choices = [{"index": 0, "delta": {"role": "assistant", "content": f"{word} "}, "finish_reason": None}]
            yield _data({**_completion(number, "chat.completion.chunk"), "choices": choices})
        yield "data: [DONE]\n"

    def look_up(self, path: str) -> dict[str, Any]:
        self.looked_up.append(path)
        if path.startswith("/v1/payment_intents/"):
            return {"id": path.rpartition("/")[2], "object": "payment_intent", "amount": 5, "status": "succeeded"}
        if path == "/v1/models":
            model = {"id": "m", "object": "model", "created": 1, "owned_by": "us", "type": "model", "display_name": "m"}
            return {"object": "list", "data": [model], "has_more": False, "first_id": "m", "last_id": "m"}
        return dict(super().look_up(path))


_USAGE = {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def _completion(number: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1, "model": "m"}


def _message(number: int) -> dict[str, Any]:
    usage = {"input_tokens": 2, "output_tokens": 4}
    return {"id": f"msg-{number}", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}


def _data(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n"


def _events(number: int) -> Iterator[str]:
    message = {**_message(number), "stop_reason": None, "stop_sequence": None}
    yield from _event({"type": "message_start", "message": message})
    yield from _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for word in WORDS:
        delta = {"type": "text_delta", "text": f"{word} "}
        yield from _event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield from _event({"type": "content_block_stop", "index": 0})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield from _event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 4}})
    yield from _event({"type": "message_stop"})


def _event(data: dict[str, Any]) -> Iterator[str]:
    yield f"event: {data['type']}"
    yield _data(data)
