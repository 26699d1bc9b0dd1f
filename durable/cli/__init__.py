"""The `durable` command."""

from durable.cli.application import main

__all__ = ["main"]
