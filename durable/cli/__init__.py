"""The `durable` command."""

from durable.cli.entry import main

__all__ = ["main"]
