"""Checkpoint stores: the protocol, and how to open one."""

from durable.stores.opening import open_store
from durable.stores.protocol import Store

__all__ = ["Store", "open_store"]
