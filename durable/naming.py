"""Names that stay the same wherever and however a script is started.

`__main__` is not a name: two scripts would share records, and a resumed script would not find its own. Functions of a
script are named after its path, relative to the folder that holds the store.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_SCRIPTS = ("__main__", "__mp_main__")
_anchor = ""


def set_anchor(folder: str) -> None:
    """Set the folder that script paths are relative to; the store's parent."""
    global _anchor  # noqa: PLW0603 -- one process, one place that scripts are named from
    _anchor = folder


def module_name(function: Callable[..., object]) -> str:
    """Name the module of a function as it can be imported; `__main__` for one of a script."""
    name = getattr(function, "__module__", None) or "?"
    if name not in _SCRIPTS:
        return str(name)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None and spec.name and spec.name not in _SCRIPTS:
        return str(spec.name.removesuffix(".__main__"))
    return "__main__"


def stable_module_name(function: Callable[..., object]) -> str:
    """Name the module of a function for records: a script by its path with dots in place of separators."""
    name = module_name(function)
    path = script_path(function)
    if name != "__main__" or path is None:
        return name
    relative = os.path.relpath(path, _anchor) if _anchor else path
    name = relative.removesuffix(".py").replace(os.sep, ".").lstrip(".") or "__main__"
    return name.encode(errors="backslashreplace").decode()  # the name of a file need not be valid Unicode


def script_path(function: Callable[..., object]) -> str | None:
    """Give the absolute path of the script that a function of `__main__` stands in, None in a shell or notebook."""
    main = sys.modules.get(getattr(function, "__module__", "") or "")
    path = getattr(main, "__file__", None)
    return os.path.abspath(path) if path else None


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
