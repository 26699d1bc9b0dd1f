"""Every request of the `openai` SDK goes through `request` of its base client; an answer costs money and changes nothing."""

from __future__ import annotations

from durable.patches.presets import Patch, Preset
from durable.patches.sdk_requests import SDK

_PATHS = (
    *("/chat/completions", "/completions", "/responses", "/responses/input_tokens", "/embeddings", "/moderations"),
    *("/images/generations", "/images/edits", "/images/variations"),
    *("/audio/speech", "/audio/transcriptions", "/audio/translations"),
)
_OPENAI = SDK("openai", {path: path[1:].replace("/", ".") for path in _PATHS})

PRESET = Preset(
    name="openai",
    patches=(
        Patch(target="openai._base_client:SyncAPIClient.request", describe=_OPENAI.describe),
        Patch(target="openai._base_client:AsyncAPIClient.request", describe=_OPENAI.describe_async),
    ),
    tasks=_OPENAI.tasks,
)
