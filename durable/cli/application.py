"""The `durable` command: options common to all commands, and what there is to choose from."""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from durable.cli import deciding, inspecting, removing, resuming, spending
from durable.cli.absent_stores import AbsentStore, is_absent
from durable.cli.output import complain
from durable.cli.results import exit_code
from durable.runs import sessions

application = typer.Typer(
    name="durable",
    help="Look at, resume and decide runs of durable workflows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (inspecting, resuming, deciding, removing, spending):
    commands.register(application)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"durable {installed_version('durable')}\n")
        raise typer.Exit


@application.callback()
def options(
    context: typer.Context,
    db: Annotated[
        str | None, typer.Option(metavar="STORE", help="Path or URL of the store, in place of DURABLE_DB.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    del version
    if db is not None:
        sessions.configure(db)
    if context.invoked_subcommand != "doctor" and is_absent(sessions.location()):
        sessions.configure(AbsentStore(sessions.location()))


@application.command(name="run", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def _run() -> None:
    """Execute a script, a module or a workflow in a run; see: durable run --help."""  # `entry` takes it before it gets here


def main() -> None:
    """Execute the command line and exit with its code."""
    sys.exit(exit_code(partial(application, prog_name="durable"), complain))
