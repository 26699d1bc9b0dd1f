"""A program that was started is not started again on a guess; neither its arguments nor its environment are stored.

`subprocess.run`, `check_output`, `call` and `check_call` are steps. What `Popen` gives is alive, and is not recorded.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.patches.actions import Action, proves_nothing_happened
from durable.patches.presets import Patch, Preset

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTED = ("input", "cwd", "shell", "executable")
_NOT_STARTED = (FileNotFoundError, PermissionError, NotADirectoryError)


def _describe_run(function: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
    check = bool(kwargs.get("check"))
    unchecked = {**kwargs, "check": False}
    command: Any = args[0] if args else kwargs.get("args")

    def record(completed: Any) -> dict[str, Any]:
        return {"returncode": completed.returncode, "stdout": completed.stdout, "stderr": completed.stderr}

    def replay(recorded: dict[str, Any]) -> Any:
        completed = subprocess.CompletedProcess(command, **recorded)
        if check:
            _check(completed.returncode, command, completed.stdout, completed.stderr)
        return completed

    return Action(
        task="subprocess.run",
        inputs=_inputs(command, kwargs),
        shown={"command": _shown(command)},
        perform=lambda: _started(function, command, args, unchecked),
        record=record,
        replay=replay,
        failure=lambda recorded: _failure(recorded["returncode"]) if check else None,
        resolved=_resolved,
        idempotent=False,
        is_rebuilt=True,
    )


def _describe_call(function: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
    command: Any = args[0] if args else kwargs.get("args")
    return Action(
        task="subprocess.call",
        inputs=_inputs(command, kwargs),
        shown={"command": _shown(command)},
        perform=lambda: _started(function, command, args, kwargs),
        idempotent=False,
    )


def _describe_check_call(_: Callable[..., Any], __: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
    command: Any = args[0] if args else kwargs.get("args")
    called = _describe_call(subprocess.call, None, args, kwargs)

    def replay(returncode: int) -> int:
        _check(returncode, command)
        return returncode

    return replace(called, replay=replay, failure=_failure, is_rebuilt=True)


def _failure(returncode: int) -> bool | None:
    return False if returncode else None


def _check(returncode: int, command: Any, *output: Any) -> None:
    """Raise as `check=True` does, and tell no more of the command than its program: the error may be stored."""
    if returncode:
        raise subprocess.CalledProcessError(returncode, _bare(command), *output)


def _inputs(command: Any, kwargs: dict[str, Any]) -> dict[str, object]:
    counted = {name: kwargs[name] for name in _COUNTED if kwargs.get(name) is not None}
    return {"command": command if isinstance(command, str | bytes) else list(command or ()), **counted}


def _shown(command: Any) -> str:
    """Give the program's name: what comes after it may be secret."""
    words = command.split() if isinstance(command, str | bytes) else list(command or ())
    name = words[0] if words else ""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _bare(command: Any) -> Any:
    """Give the command as it was given, without what comes after the program."""
    return _shown(command) if isinstance(command, str | bytes) else [_shown(command)]


def _started(function: Callable[..., Any], command: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except _NOT_STARTED as error:
        proves_nothing_happened(error)
        raise
    except subprocess.TimeoutExpired as error:
        error.cmd = _bare(command)
        raise


def _resolved(value: Any) -> Any:
    """Make a recorded outcome of what somebody says it was: as `--happened '{"returncode": 0, "stdout": "..."}'`."""
    known = value if isinstance(value, dict) else {"returncode": value or 0}
    return {"returncode": 0, "stdout": None, "stderr": None, **known}


PRESET = Preset(
    name="subprocess",
    patches=(
        Patch(target="subprocess:run", describe=_describe_run),
        Patch(target="subprocess:call", describe=_describe_call),
        Patch(target="subprocess:check_call", describe=_describe_check_call),
    ),
    tasks=("subprocess.run", "subprocess.call"),
)
