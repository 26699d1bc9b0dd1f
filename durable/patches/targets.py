"""A target names a function as "module:function" or "module:Class.method"; what cannot be meant is refused unimported."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from typing import TYPE_CHECKING, Any, NamedTuple

from durable.errors import ConfigurationError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Target(NamedTuple):
    """Where a function is found."""

    module: str
    path: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Target:
        """Read a target; raises `ConfigurationError` for one that names nothing."""
        module, _, path = text.partition(":") if isinstance(text, str) else ("", "", "")
        names = tuple(path.split("."))
        if not all(name.isidentifier() for name in (*module.split("."), *names)):
            raise ConfigurationError(
                f"Target {text!r} names no function: write module:function or module:Class.method."
            )
        return Target(module, names)

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.path)}"

    def check(self) -> None:
        """Refuse a target that is not there, as far as that can be told without importing its module."""
        if self.module in sys.modules:
            self.find(sys.modules[self.module])
            return
        spec = self._spec()
        names = _names_in(spec)
        if names is not None and self.path[0] not in names:
            raise self._missing(f"module {self.module!r}", self.path[0], names)

    def find(self, module: ModuleType) -> tuple[Any, str, Any]:
        """Give the object that holds the function, its name there and the function; raises `ConfigurationError`."""
        holder: Any = module
        name, found = "", holder
        for depth, name in enumerate(self.path):
            try:
                found = inspect.getattr_static(holder, name)
            except AttributeError:
                where = f"module {self.module!r}" if depth == 0 else f"{'.'.join(self.path[:depth])} of {self.module!r}"
                raise self._missing(where, name, dir(holder)) from None
            if depth < len(self.path) - 1:
                holder = found
        plain = getattr(found, "__func__", found)
        if not callable(plain) or inspect.isclass(plain):
            kind = "a class: name one of its methods" if inspect.isclass(plain) else f"no function: {found!r}"
            raise ConfigurationError(f"Target {self} cannot become a task: it is {kind}.")
        return holder, name, found

    def _spec(self) -> ModuleSpec:
        path: Any = None
        spec: Any = None
        parts = self.module.split(".")
        for depth, part in enumerate(parts):
            name = ".".join(parts[: depth + 1])
            spec = PathFinder.find_spec(name, path)
            if spec is None and path is None:
                spec = BuiltinImporter.find_spec(part) or FrozenImporter.find_spec(part)
            if spec is None:
                known = [*sys.stdlib_module_names, *sys.modules] if path is None else _modules_in(path)
                where = "Python's path" if path is None else f"package {'.'.join(parts[:depth])!r}"
                raise self._missing(where, part, known)
            path = spec.submodule_search_locations or []
        found: ModuleSpec = spec
        return found

    def _missing(self, where: str, name: str, known: Iterable[str]) -> ConfigurationError:
        public = [each for each in known if not each.startswith("_")]
        return ConfigurationError(f"Target {self} is not there: {where} has no {name!r}.{suggestion(name, public)}")


def _modules_in(path: Iterable[str]) -> list[str]:
    import pkgutil  # noqa: PLC0415 -- needed for a mistake only

    return [module.name for module in pkgutil.iter_modules(list(path))]


def _names_in(spec: ModuleSpec) -> set[str] | None:
    """Names that a module's source binds at its top; None where it cannot be told."""
    try:
        source = spec.loader.get_source(spec.name)  # type: ignore[union-attr]  # loaders without it are caught below
        nodes = list(ast.walk(ast.parse(source)))
    except (AttributeError, ImportError, TypeError, SyntaxError, ValueError):
        return None
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.alias():
                found.add(node.asname or node.name.partition(".")[0])
            case ast.Call(func=ast.Name(id="globals" | "vars" | "setattr")):
                return None
    return None if found & {"*", "__getattr__"} else found
