"""Every request of the `stripe` SDK goes through `request_raw` of its requestor, which gives a body, a status and headers.

Stripe knows an idempotency key for a day: within it what was interrupted is sent again under its key, later it is in doubt.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action
from durable.patches.credentials import shown_fields
from durable.patches.http_actions import refused
from durable.patches.presets import Patch, Preset
from durable.patches.sdk_requests import repeatedly
from durable.patches.uploads import Uploads, with_contents
from durable.runs.inside import idempotency_key
from durable.steps.details import Excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WINDOW = timedelta(hours=24)
_METHODS = ("get", "post", "delete")
_COUNTED = ("stripe_account", "stripe_context", "stripe_version")
_NOT_KEPT = frozenset({"set-cookie"})


def _describe(function: Callable[..., Any], requestor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _Call(function, requestor, *args, **kwargs)
    return call.action(perform=call.perform)


def _describe_async(function: Callable[..., Any], requestor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _Call(function, requestor, *args, **kwargs)
    return call.action(perform=call.perform_async, is_async=True)


class _Call:
    def __init__(
        self,
        function: Callable[..., Any],
        requestor: Any,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        is_streaming: bool = False,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._function = function
        self._requestor = requestor
        self._method = method
        self._url = url
        self._params = params
        self._uploads = Uploads(params)
        self._is_streaming = is_streaming
        self._given: dict[str, Any] = dict(options or {})
        self._more = more

    def action(self, **more: Any) -> Action | None:
        """Make the step of it; files that are read bit by bit are none, and are read again."""
        if self._is_streaming:
            return None
        told = {**vars(self._requestor._options), **self._given}
        task = self._method if self._method in _METHODS else "request"
        inputs: dict[str, object] = {"method": self._method, "url": self._url, "params": with_contents(self._params)}
        inputs |= {name: str(told[name]) for name in _COUNTED if told.get(name) is not None}
        return Action(
            task=f"stripe.{task}",
            inputs={name: value for name, value in inputs.items() if value is not None},
            record=_recorded,
            replay=_replayed,
            resolved=_resolved,
            idempotent=_WINDOW if self._method == "post" else True,
            shown={"params": Excerpt(f"<{shown_fields(self._params)}>")},
            receipt=self._given.get("idempotency_key"),
            retry=repeatedly(told.get("max_network_retries") or 0) if self._uploads.can_be_repeated else None,
            is_rebuilt=True,
            is_kept=self._method != "get",
            **more,
        )

    def _sent(self) -> dict[str, Any]:
        self._uploads.set_back()
        options = {**self._given, "max_network_retries": 0}  # the step itself tries again
        if self._method != "get" and not options.get("idempotency_key"):
            options["idempotency_key"] = idempotency_key()
        return {"is_streaming": False, "options": options, **self._more}

    def perform(self) -> Any:
        """Send it."""
        return self._checked(self._function(self._method, self._url, self._params, **self._sent()))

    async def perform_async(self) -> Any:
        """Send it."""
        return self._checked(await self._function(self._method, self._url, self._params, **self._sent()))

    def _checked(self, answer: tuple[Any, int, Any]) -> tuple[Any, int, Any]:
        """Raise what the SDK raises for an answer that is a failure, here in the step."""
        try:
            self._requestor._interpret_response(*answer, self._more["api_mode"])
        except Exception as error:
            if isinstance(status := getattr(error, "http_status", None), int):
                refused(error, status)
            raise
        return answer


def _recorded(answer: tuple[Any, int, Any]) -> dict[str, Any]:
    body, status, headers = answer
    kept = {str(name): str(value) for name, value in headers.items() if name.lower() not in _NOT_KEPT}
    return {"body": body, "status": status, "headers": kept}


def _replayed(recorded: dict[str, Any]) -> tuple[Any, int, dict[str, str]]:
    return recorded["body"], recorded["status"], recorded["headers"]


def _resolved(value: Any) -> Any:
    """Make a recorded answer of what somebody says was the answer: the object as JSON."""
    if isinstance(value, dict) and {"body", "status", "headers"} <= value.keys():
        return value
    return {"body": json.dumps(value), "status": 200, "headers": {}}


PRESET = Preset(
    name="stripe",
    patches=(
        Patch(target="stripe._api_requestor:_APIRequestor.request_raw", describe=_describe),
        Patch(target="stripe._api_requestor:_APIRequestor.request_raw_async", describe=_describe_async),
    ),
    tasks=tuple(f"stripe.{name}" for name in (*_METHODS, "request")),
)
