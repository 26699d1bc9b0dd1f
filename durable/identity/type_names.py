"""A type or function has one name in every process and release, whichever module happens to hold it."""

from __future__ import annotations

import sys
from typing import Any, Final

MAIN, LOADED_MAIN = "__main__", "__mp_main__"  # the latter where a script is loaded and not started, as in child processes
_MODULES: Final = {LOADED_MAIN: MAIN, "pathlib._local": "pathlib"}  # other names of the same module


def module_of(kind: type) -> str:
    """The module of a class by the name that every process knows it by."""
    return _MODULES.get(kind.__module__, kind.__module__)


def name_of(kind: type) -> str:
    """Module and qualified name."""
    return f"{module_of(kind)}.{kind.__qualname__}"


def is_main_found() -> bool:
    """Whether what a loaded script recorded is found in this process; if not, it is from now on."""
    if sys.modules.get(LOADED_MAIN) is sys.modules[MAIN]:
        return True
    sys.modules[LOADED_MAIN] = sys.modules[MAIN]
    return False


def short_name_of(kind: type) -> str:
    """Top-level package and qualified name, `"package:Class"`: it outlives a library's moves between modules."""
    return f"{str(kind.__module__).partition('.')[0]}:{kind.__qualname__}"


def slots_of(kind: type) -> tuple[str, ...]:
    """Names of the slots that a class itself has."""
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def importable_name(value: Any) -> str | None:
    """The name under which any process finds this very object; None for locals and for what the main script defines."""
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or _MODULES.get(module, module) == MAIN:
        return None
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return f"{module}.{qualname}" if found is value else None
