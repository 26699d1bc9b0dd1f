"""Names that stay the same wherever and however a script is started.

`__main__` is not a name: two scripts would share records, and a resumed script would not find its own. Functions of a
script or a notebook are named after its path, relative to the folder that holds the store.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_SCRIPTS = ("__main__", "__mp_main__")
_anchor: str | None = None
_notebook: str | None = None


def set_notebook_path(path: str | None) -> None:
    """Say which notebook the functions of `__main__` stand in, which has no file for Python."""
    global _notebook  # noqa: PLW0603 -- a process is the kernel of one notebook
    _notebook = path


def set_anchor(folder: str) -> str | None:
    """Set the folder that script paths are relative to, a store's parent; another one than the first is given back."""
    global _anchor  # noqa: PLW0603 -- nearly every process has one store, so one place that scripts are named from
    if _anchor is None:
        _anchor = folder
    return folder if folder != _anchor else None


def home(anchor: str | None) -> str:
    """Give the folder that scripts are named from in a store of this anchor; empty if there is none."""
    return (anchor if anchor is not None else _anchor) or ""


def module_name(function: Callable[..., object]) -> str:
    """Name the module of a function as it can be imported; `__main__` for one of a script."""
    name = getattr(function, "__module__", None) or "?"
    if name not in _SCRIPTS:
        return str(name)
    started = started_module(function)
    return "__main__" if started is None else started.removesuffix(".__main__")


def started_module(function: Callable[..., object]) -> str | None:
    """Name the module that was started with `python -m` and defines a function; None for functions of others."""
    name = getattr(function, "__module__", None)
    spec = getattr(sys.modules.get(name), "__spec__", None) if name in _SCRIPTS else None
    return str(spec.name) if spec is not None and spec.name and spec.name not in _SCRIPTS else None


def stable_module_name(function: Callable[..., object], anchor: str | None = None) -> str:
    """Name the module of a function for records: a script by its path, as seen from `anchor` or the first store."""
    path = script_path(function)
    if path is None or not is_script(function):
        return module_name(function)
    name = _script_name(path, home(anchor))
    return name.encode(errors="backslashreplace").decode()  # the name of a file need not be valid Unicode


def is_script(function: Callable[..., object]) -> bool:
    """Whether a function stands in a script, whose name depends on where one looks from."""
    return module_name(function) == "__main__" and script_path(function) is not None


def script_title(path: str, anchor: str | None) -> str:
    """Name a script itself: its path as seen from `anchor` or the first store."""
    relative = _seen_from(path, home(anchor))
    return relative.replace(os.sep, "/").encode(errors="backslashreplace").decode()


def _seen_from(path: str, anchor: str) -> str:
    try:
        return os.path.relpath(path, anchor) if anchor else path
    except ValueError:  # another drive
        return path


def _script_name(path: str, anchor: str) -> str:
    """Write a path with dots in place of separators where no other path reads the same, else as a path."""
    relative = _seen_from(path, anchor)
    parts = relative.removesuffix(".py").split(os.sep)
    if relative.endswith(".py") and not any(not part or set(part) & set(".@%/") for part in parts):
        return ".".join(parts)
    name = relative.replace(os.sep, "/").replace("%", "%25").replace("@", "%40")
    return name if "/" in name else f"./{name}"


def script_path(function: Callable[..., object]) -> str | None:
    """Give the absolute path of the script that a function of `__main__` stands in, None where there is no file."""
    main = sys.modules.get(getattr(function, "__module__", "") or "")
    path = getattr(main, "__file__", None) or (_notebook if getattr(main, "__name__", "") == "__main__" else None)
    return os.path.abspath(path) if path and path != "<stdin>" else None


def check_run_id(run_id: object) -> str:
    """Refuse what cannot be the id of a run: it is a string of 1 to 255 characters without NUL."""
    if not isinstance(run_id, str):
        raise ConfigurationError(f"A run id is a string, not {type(run_id).__name__}: {run_id!r}.")
    limit = 255
    if not 0 < len(run_id) <= limit:
        raise ConfigurationError(f"A run id has 1 to {limit} characters, not {len(run_id)}.")
    if "\0" in run_id:
        raise ConfigurationError("A run id must not contain NUL.")
    if not is_unicode(run_id):
        raise ConfigurationError(f"A run id has to be valid Unicode: {run_id!r}.")
    return run_id


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: file names and arguments of a program may hold bytes that are not text."""
    return text.encode(errors="replace").decode() == text


def names_script(name: str, function: Callable[..., object]) -> bool:
    """Whether a module name is that of the script which defines a function, as seen from wherever a store lies."""
    if not is_script(function):
        return False
    scripts = name, str(script_path(function)).replace(os.sep, "/")
    there, here = (script.rpartition("/")[2].removesuffix(".py").rpartition(".")[2] for script in scripts)
    return there == here
