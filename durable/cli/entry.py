"""Where the `durable` command begins: `run` costs a script as little as possible, so it imports none of the other commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Execute the command line and exit with its code."""
    from durable.cli.running import split  # noqa: PLC0415 -- each command imports what it needs

    asked = split(sys.argv[1:])
    if asked is not None:
        from durable.cli.running import run  # noqa: PLC0415 -- as above

        sys.exit(run(*asked))
    from durable.cli.application import main as other_commands  # noqa: PLC0415 -- as above

    other_commands()
