"""Functions of other people become tasks: named ones by target, whole libraries by preset; their callers stay as they are."""

from durable.patches.actions import Action
from durable.patches.http_actions import honours_idempotency_key, receiver_of
from durable.patches.installing import install, patch
from durable.patches.presets import Patch, Preset

__all__ = ["Action", "Patch", "Preset", "honours_idempotency_key", "install", "patch", "receiver_of"]
