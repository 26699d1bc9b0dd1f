"""A program is executed as plain Python would: as `__main__`, with its own arguments, path and file name.

What `__main__` was before stays alive, and what a program leaves behind (threads, exit handlers, classes that were
pickled) finds the program's module under that name until the process ends.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.errors import ConfigurationError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType

_former_main: list[ModuleType] = []  # a module that is let go loses its variables


class Program(NamedTuple):
    """A script, or a module that was named by -m; `path` is the absolute path of its file, `argv0` its `sys.argv[0]`."""

    path: str
    argv0: str
    loader: Any
    spec: ModuleSpec | None = None

    @property
    def module(self) -> str | None:
        """The name that -m was given, None for a script."""
        return self.spec.name.removesuffix(".__main__") if self.spec is not None else None

    @property
    def stem(self) -> str:
        """A short name for people."""
        return self.module or os.path.splitext(os.path.basename(self.path))[0]

    def tree(self) -> ast.Module:
        """Parse the source; raises `SyntaxError`."""
        tree: ast.Module = ast.parse(self.loader.get_data(self.path), self.path)
        return tree

    def code(self) -> CodeType:
        """Compile the source, or take what was compiled before; raises `SyntaxError`."""
        if self.spec is None:
            return compile(self.loader.get_data(self.path), self.path, "exec", dont_inherit=True)
        compiled: CodeType = self.loader.get_code(self.spec.name)
        return compiled

    def take_main(self) -> ModuleType:
        """Make the module `__main__` that the program is executed in."""
        _former_main.append(sys.modules["__main__"])
        main = ModuleType("__main__")
        main.__loader__, main.__spec__ = self.loader, self.spec
        main.__package__ = self.spec.parent if self.spec is not None else None
        vars(main).update(
            __annotations__={},
            __builtins__=builtins,
            __file__=self.path,
            __cached__=self.spec.cached if self.spec is not None else None,
        )
        sys.modules["__main__"] = main
        return main


def find_script(path: str) -> Program:
    """Find a script by its path and put its folder on `sys.path`; raises `ConfigurationError`."""
    if not os.path.isfile(path):
        what = "is a folder: name the script in it" if os.path.isdir(path) else "does not exist"
        raise ConfigurationError(f"{path} {what}{_nearest(path)}. Nothing was executed.")
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    absolute = os.path.abspath(path)
    return Program(absolute, path, SourceFileLoader("__main__", absolute))


def find_module(name: str) -> Program:
    """Find the module, or the `__main__` of the package, that -m names; imports the packages around it."""
    _set_first_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"There is no module {name!r} for -m: {error}. Nothing was executed.") from error
    if spec is None or spec.origin is None or not hasattr(spec.loader, "get_data"):
        raise ConfigurationError(
            f"There is no module {name!r} for -m, or it is a package without __main__.py. Nothing was executed."
        )
    return Program(spec.origin, spec.origin, spec.loader, spec)


def _set_first_path(folder: str) -> None:
    """Put the program's folder where Python puts it; the first entry is that of the `durable` command."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _nearest(path: str) -> str:
    script, _, function = path.rpartition(":")
    if os.path.isfile(script):
        module = os.path.relpath(script).removesuffix(".py").replace(os.sep, ".")
        return f" (for the workflow of a script write {module}:{function})"
    folder, name = os.path.split(path)
    try:
        meant = suggestion(name, os.listdir(folder or "."), "{}")
    except OSError:
        return ""
    return f" (did you mean {os.path.join(folder, meant)!r}?)" if meant else ""
