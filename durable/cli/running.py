"""`durable run`: what stands before the program belongs to the command, and everything after it to the program."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.cli.results import UsageError, exit_code, print_result
from durable.errors import ConfigurationError, NotFoundError
from durable.scripts.exit_codes import USAGE
from durable.suggestions import suggestion
from durable.telling.notices import tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from durable.scripts.calls import Invocation

HELP = """\
Usage: durable run [OPTIONS] SCRIPT [ARGUMENT]...
       durable run [OPTIONS] -m MODULE [ARGUMENT]...
       durable run [OPTIONS] MODULE:WORKFLOW [--arg NAME=VALUE]...
                                             [--json OBJECT]

Execute a program as Python would, in a run: what its tasks have finished is
not executed again when the same command is given again. What stands after the
program belongs to the program.

Options:
  --task TARGET   Make a function a task: mod:func, mod:Class.method, or a
                  function of the script by its name.
  --patch PRESET  Make the calls of a library tasks: requests, httpx, aiohttp,
                  urllib.request, smtplib, subprocess, openai, anthropic, stripe.
  --id ID         Name the run; default: the same program with the same
                  arguments is the same run.
  --fresh         Begin a new run.
  --budget USD    US dollars that the run may spend in all; no further step
                  begins then.
  --arg, --json   Inputs of a workflow, converted by its type hints.
  -h, --help      Show this and exit.
"""
_WORKFLOW = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*"
_VALUED = {"--id": "run_id", "--task": "tasks", "--patch": "patches", "--budget": "budget"}  # option: field of Options
_SEVERAL = {"--task", "--patch"}


@dataclass
class Options:
    """What stands before the program."""

    run_id: str | None = None
    budget: Decimal | None = None
    fresh: bool | None = None
    tasks: list[str] = field(default_factory=list)
    patches: list[str] = field(default_factory=list)
    is_module: bool = False
    wants_help: bool = False


def split(words: Sequence[str]) -> tuple[str | None, list[str]] | None:
    """Give the store and what follows `run`; None for any other command."""
    db, rest = None, list(words)
    while rest and (rest[0] == "--db" or rest[0].startswith("--db=")):
        option, equals, value = rest.pop(0).partition("=")
        if not equals and not rest:
            return None
        db = value if equals else rest.pop(0)
        del option
    return (db, rest[1:]) if rest[:1] == ["run"] else None


def run(db: str | None, words: list[str]) -> Any:
    """Execute what follows `durable run`; gives what `sys.exit` is to be called with."""
    try:
        options, rest = parse(words)
    except UsageError as error:
        tell(str(error))
        return USAGE
    if options.wants_help:
        sys.stdout.write(HELP)
        return 0
    if db is not None:
        from durable.runs import sessions  # noqa: PLC0415 -- each branch imports what it needs

        sessions.configure(db)
    target, *arguments = rest
    from durable.scripts.calls import Invocation  # noqa: PLC0415 -- as above

    invocation = Invocation(
        target,
        tuple(arguments),
        is_module=options.is_module,
        tasks=tuple(options.tasks),
        patches=tuple(options.patches),
        run_id=options.run_id,
        fresh=options.fresh,
        budget=options.budget,
    )
    if not options.is_module and _names_workflow(target):
        return exit_code(partial(_run_workflow, invocation), tell)
    from durable.scripts.launching import launch  # noqa: PLC0415 -- as above

    return launch(invocation)


def _names_workflow(target: str) -> bool:
    is_file = os.path.exists(target) or target.partition(":")[0].endswith(".py")
    return not is_file and re.fullmatch(_WORKFLOW, target) is not None


def parse(words: list[str]) -> tuple[Options, list[str]]:
    """Read the options up to the program; gives them and the program with its arguments."""
    options, rest = Options(), list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        name, equals, value = rest.pop(0).partition("=")
        if name in _VALUED:
            _take(options, name, value if equals else _next(name, rest))
        elif equals:
            raise UsageError(
                f"durable run has no option {name!r} that takes a value{_closest(name)}. See: durable run --help"
            )
        elif name == "--fresh":
            options.fresh = True
        elif name in ("-h", "--help"):
            options.wants_help = True
            return options, rest
        elif name == "-m":
            options.is_module = True
            break
        elif name == "--":
            break
        else:
            raise UsageError(f"durable run has no option {name!r}{_closest(name)}. See: durable run --help")
    if not rest:
        raise UsageError("durable run needs a script, -m module or module:workflow. See: durable run --help")
    return options, rest


def _take(options: Options, name: str, value: str) -> None:
    if not value:
        raise UsageError(f"durable run {name} needs a value.")
    if name in _SEVERAL:
        getattr(options, _VALUED[name]).append(value)
    elif getattr(options, _VALUED[name]) is not None:
        raise UsageError(f"durable run {name} is given twice.")
    else:
        setattr(options, _VALUED[name], _budget(value) if name == "--budget" else value)


def _budget(text: str) -> Decimal:
    from durable.costs.costs import written_budget  # noqa: PLC0415 -- as above

    try:
        return written_budget(text)
    except ConfigurationError as error:
        raise UsageError(f"durable run --budget {text}: {error}") from None


def _next(name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"durable run {name} needs a value.")
    return rest.pop(0)


def _closest(name: str) -> str:
    return suggestion(name, [*_VALUED, "--fresh", "--help"], " (did you mean {}?)")


def _run_workflow(invocation: Invocation) -> None:
    from durable.scripts.workflows import WorkflowCall  # noqa: PLC0415 -- scripts need none of it

    try:
        call = WorkflowCall(invocation, *_inputs(invocation.arguments))
    except (ConfigurationError, NotFoundError) as error:
        raise UsageError(str(error)) from error
    print_result(call, lambda: call.run_id)


def _inputs(words: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Read `--arg name=value` and `--json '{...}'`."""
    given: dict[str, str] = {}
    as_json: str | None = None
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in ("--arg", "--json"):
            raise UsageError(f"A workflow takes its inputs as --arg name=value or --json '{{...}}', not as {option!r}.")
        value = value if equals else _next(option, rest)
        if option == "--json":
            if as_json is not None:
                raise UsageError("--json is given twice.")
            as_json = value
            continue
        name, assigned, text = value.partition("=")
        if not assigned or not name:
            raise UsageError(f"--arg {value!r} is not of the form name=value.")
        if name in given:
            raise UsageError(f"--arg {name} is given twice.")
        given[name] = text
    return given, as_json
