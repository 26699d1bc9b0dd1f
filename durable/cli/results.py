"""How a command ends: a workflow's result as JSON on stdout, words for people on stderr, and an exit code."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

from durable.errors import BudgetExceededError, DurableError, RunBlockedError
from durable.scripts.exit_codes import BLOCKED, FAILED, INTERRUPTED, OK, OVER_BUDGET, USAGE
from durable.telling.notices import COMMAND, asked_by, shell_command
from durable.telling.tracebacks import strip_our_frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class UsageError(Exception):
    """The command cannot be meant as it stands."""


_CODES = {UsageError: USAGE, RunBlockedError: BLOCKED, BudgetExceededError: OVER_BUDGET}


class WorkflowFailed(Exception):  # noqa: N818 -- carries the user's exception to where it is shown
    """The workflow of a run raised `error`."""

    def __init__(self, run_id: str, error: BaseException) -> None:
        super().__init__(run_id, error)
        self.run_id = run_id
        self.error = error


def print_result(execute: Callable[[], Any], run_id: Callable[[], str]) -> None:
    """Execute a workflow, sync or async, and print its result; raises `WorkflowFailed` for exceptions of the user."""
    try:
        result = execute()
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    except (DurableError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise WorkflowFailed(run_id(), error) from error
    try:
        shown = json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError):
        shown = repr(result)
    sys.stdout.write(shown + "\n")


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def exit_code(command: Callable[[], object], complain: Callable[[str], None]) -> int:
    """Execute a command and say what went wrong; gives the exit code."""
    try:
        with asked_by(COMMAND):
            command()
    except (UsageError, DurableError) as error:
        complain(str(error))
        return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)
    except KeyboardInterrupt:
        complain("interrupted; what is recorded stays, the same command goes on.")
        return INTERRUPTED
    except WorkflowFailed as failed:
        strip_our_frames(failed.error)
        sys.stderr.write("".join(traceback.format_exception(failed.error)))
        again = shell_command("resume", failed.run_id)
        complain(f"run {failed.run_id} failed: {type(failed.error).__name__}. Resume it with: {again}")
        return FAILED
    return OK
