"""Functions of other people become tasks: named ones by target, whole libraries by preset; their callers stay as they are."""

from durable.patches.actions import Action
from durable.patches.installing import install, patch
from durable.patches.presets import Patch, Preset

__all__ = ["Action", "Patch", "Preset", "install", "patch"]
