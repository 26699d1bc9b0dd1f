"""Every request of the `anthropic` SDK goes through `request` of its base client; a message costs money and changes nothing."""

from __future__ import annotations

from durable.patches.presets import Patch, Preset
from durable.patches.sdk_requests import SDK

_PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/v1/complete")
_ANTHROPIC = SDK("anthropic", {path: path[len("/v1/") :].replace("/", ".") for path in _PATHS})

PRESET = Preset(
    name="anthropic",
    patches=(
        Patch(target="anthropic._base_client:SyncAPIClient.request", describe=_ANTHROPIC.describe),
        Patch(target="anthropic._base_client:AsyncAPIClient.request", describe=_ANTHROPIC.describe_async),
    ),
    tasks=_ANTHROPIC.tasks,
)
