"""A program is executed in a run of its own, and its process ends as it would under plain Python.

Only what is in doubt, or would spend too much, ends otherwise: with a code of its own, and with the way out.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.errors import BudgetExceededError, ConfigurationError, DurableError, RunBlockedError
from durable.runs import sessions
from durable.runs.runs import run_life
from durable.scripts.calls import Invocation, ProgramCall
from durable.scripts.child_processes import warn_of_spawned_processes
from durable.scripts.exit_codes import BLOCKED, FAILED, INTERRUPTED, OVER_BUDGET, USAGE
from durable.scripts.programs import find_module, find_script
from durable.scripts.targets import ProjectSettings, Targets, unknown_target
from durable.steps.effects import drive
from durable.telling import notices
from durable.telling.notices import COMMAND, asked_by
from durable.telling.tracebacks import strip_our_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType

    from durable.scripts.programs import Program
    from durable.telling.notices import Asker

_launched = False


def is_launched() -> bool:
    """Whether this process executes a program already, or did."""
    return _launched


def launch(invocation: Invocation, asker: Asker = COMMAND) -> Any:
    """Execute a program in the run that its invocation asks for; gives what `sys.exit` is to be called with."""
    global _launched  # noqa: PLW0603 -- a process has one program
    _launched = True
    with asked_by(asker):
        return _launch(invocation)


def _launch(invocation: Invocation) -> Any:
    try:
        program = find_module(invocation.program) if invocation.is_module else find_script(invocation.program)
        settings = ProjectSettings.load()
        targets = Targets.sort(invocation.tasks, settings, program)
        presets = tuple(dict.fromkeys((*settings.patches, *invocation.patches)))
        code = prepare(program, targets, presets)
    except ConfigurationError as error:
        return _refuse(error)
    except Exception as error:  # of the program's source, or of the package that it belongs to
        return _show(error)
    sys.argv = [program.argv0, *invocation.arguments]
    main = program.take_main()
    function = partial(exec, code, vars(main))
    if sessions.is_disabled():
        return _end(partial(_execute_plainly, function), _say_nothing)
    try:
        call = ProgramCall(invocation, program, targets, presets, rerun=settings.rerun)
    except DurableError as error:
        return _refuse(error)
    return _end(partial(_execute, call, function), call.tell_ended)


def prepare(program: Program, targets: Targets, presets: Sequence[str]) -> CodeType:
    """Make tasks of what was asked for and compile the program; raises before anything of it is executed."""
    code = _marked(program, targets.own) if targets.own else program.code()
    install(targets.foreign, presets)
    if targets.own or targets.foreign or presets:
        warn_of_spawned_processes([*targets.own, *targets.foreign, *presets])
    return code


def install(targets: Mapping[str, Mapping[str, Any]], presets: Sequence[str]) -> None:
    """Make tasks of functions in other modules, those that are imported later included."""
    if targets or presets:
        from durable import patches  # noqa: PLC0415 -- most programs need none

        patches.install(targets, presets)


def _marked(program: Program, own: Mapping[str, dict[str, Any]]) -> CodeType:
    from durable.scripts.own_tasks import check, mark, names_of  # noqa: PLC0415 -- brings what decorators need

    tree = program.tree()
    names = names_of(tree)
    for name, options in own.items():
        if name not in names.callables and name not in names.others:
            raise unknown_target(name, program, names.callables, names.imported)
        check(names, name, options)
    return compile(mark(tree, own), program.path, "exec", dont_inherit=True)


def _execute(call: ProgramCall, function: Callable[[], object]) -> SystemExit | None:
    """Execute a program in its run; gives the exit that it asked for at a place where it had done what it began."""
    ended: list[SystemExit] = []

    def body() -> None:
        try:
            function()
        except SystemExit as exit_:
            if exit_.code not in (None, 0) or call.was_interrupted(exit_):
                raise
            ended.append(exit_)

    drive(run_life(call, body))
    return ended[0] if ended else None


def _end(execute: Callable[[], SystemExit | None], tell_ended: Callable[[str], None]) -> Any:
    """Execute a program and give what its process is to exit with."""
    try:
        ended = execute()
    except SystemExit as exit_:
        tell_ended("failed" if exit_.code not in (None, 0) else "stopped in a step")
        return exit_.code
    except RunBlockedError as error:
        return _refuse(error, BLOCKED)
    except BudgetExceededError as error:
        return _refuse(error, OVER_BUDGET)
    except KeyboardInterrupt as error:
        _show(error)
        tell_ended("interrupted")
        return INTERRUPTED
    except BaseException as error:
        strip_our_frames(error)
        if isinstance(error, DurableError) and error.__traceback__ is None:
            return _refuse(error, FAILED)
        _show(error)
        tell_ended("failed")
        return FAILED
    return ended.code if ended is not None else None


def _execute_plainly(function: Callable[[], object]) -> None:
    function()


def _say_nothing(_: str) -> None: ...


def _refuse(error: DurableError, code: int | None = None) -> int:
    notices.tell(str(error))
    return code if code is not None else USAGE if isinstance(error, ConfigurationError) else FAILED


def _show(error: BaseException) -> int:
    """Show an exception as Python does at the end of a program, or as the program has it shown."""
    strip_our_frames(error)
    shown = sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    try:
        sys.excepthook(*shown)
    except Exception as failure:
        sys.stderr.write("Error in sys.excepthook:\n")
        failure.__context__ = None if failure.__context__ is error else failure.__context__
        strip_our_frames(failure)
        sys.__excepthook__(type(failure), failure, failure.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(*shown)
    return FAILED
