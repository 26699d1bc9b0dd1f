"""The `durable` command: options common to all commands, and errors turned into a line and an exit code.

Exit codes: 0 success, 1 failed (resumable), 2 usage, 76 blocked in doubt, 77 budget spent.
"""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from durable import sessions
from durable.cli import deciding, inspecting, removing, resuming, spending
from durable.cli.absent_stores import AbsentStore, is_absent
from durable.cli.finding import UsageError
from durable.cli.output import complain
from durable.errors import BudgetExceededError, DurableError, RunBlockedError
from durable.notices import shell_command

FAILED, USAGE, BLOCKED, OVER_BUDGET, INTERRUPTED = 1, 2, 76, 77, 130
_PACKAGE = str(Path(__file__).resolve().parent.parent)

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


def main() -> None:
    """Execute the command line and exit with its code."""
    try:
        application(prog_name="durable")
    except UsageError as error:
        complain(str(error))
        sys.exit(USAGE)
    except RunBlockedError as error:
        complain(str(error))
        sys.exit(BLOCKED)
    except BudgetExceededError as error:
        complain(str(error))
        sys.exit(OVER_BUDGET)
    except DurableError as error:
        complain(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        complain("interrupted; what is recorded stays, the same command goes on.")
        sys.exit(INTERRUPTED)
    except resuming.WorkflowFailed as failed:
        _print_their_traceback(failed.error)
        again = shell_command("resume", failed.run_id)
        complain(f"run {failed.run_id} failed: {type(failed.error).__name__}. Resume it with: {again}")
        sys.exit(FAILED)


def _print_their_traceback(error: BaseException) -> None:
    """Show where the user's code failed, without our frames."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(
        [frame for frame in shown.stack if not frame.filename.startswith(_PACKAGE)]
    )
    sys.stderr.write("".join(shown.format()))
