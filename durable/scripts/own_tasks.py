"""Functions that a program defines become tasks where they are defined; every line keeps its number.

The definition gets one decorator more, at the place of its first line, so tracebacks, `inspect.getsource` and the digest of
the code are those of the file. What the program got by `from x import y` is wrapped right after that statement.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from durable.declarations.decorators import task
from durable.declarations.definitions import TaskDefinition, task_options
from durable.declarations.wrappers import Task
from durable.errors import ConfigurationError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HERE = f"__import__({__name__!r}, None, None, ('as_task',)).as_task"
_PROPERTIES = {"property", "cached_property", "setter", "getter", "deleter"}
N = TypeVar("N", bound=ast.AST)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Options = dict[str, Any]
_chosen: dict[str, _Options] = {}


@dataclass
class Names:
    """What a program binds at its top level and in its classes, by qualified name."""

    functions: dict[str, list[_Function]] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def callables(self) -> list[str]:
        return [*self.functions, *self.imported]

    @property
    def undecorated(self) -> set[str]:
        """Those that no `@task` makes tasks."""
        tasks = (name for name, nodes in self.functions.items() if any(map(_is_decorated, nodes)))
        return set(self.callables).difference(tasks)


def names_of(tree: ast.Module) -> Names:
    """Collect the names that a program binds outside its functions."""
    names = Names()
    for prefix, node in _statements(tree, ""):
        if isinstance(node, _Function):
            names.functions.setdefault(prefix + node.name, []).append(node)
        elif isinstance(node, ast.ClassDef):
            names.others[prefix + node.name] = "is a class: name one of its methods"
        elif isinstance(node, ast.ImportFrom) and not prefix:
            module = "." * node.level + (node.module or "")
            names.imported.update({alias.asname or alias.name: f"{module}:{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not prefix:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.others.update(
                {each.id: "is no function that a def makes" for each in targets if isinstance(each, ast.Name)}
            )
    return names


def _statements(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    """Go through the statements that are executed with the program itself, those of its classes included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield prefix, child
        if isinstance(child, ast.ClassDef):
            yield from _statements(child, f"{prefix}{child.name}.")
        elif not isinstance(child, _Function | ast.expr):
            yield from _statements(child, prefix)


def check(names: Names, name: str, options: _Options) -> None:
    """Refuse, before anything is executed, a name that is no function and options that do not fit the function."""
    if name in names.others and name not in names.callables:
        raise ConfigurationError(f"Target {name!r} {names.others[name]}. Nothing was executed.")
    for node in names.functions.get(name, ()):
        if any(_last_name(decorator) in _PROPERTIES for decorator in node.decorator_list):
            raise ConfigurationError(f"{name} is a property, and only functions and methods can be tasks.")
        try:
            TaskDefinition(function=_stub(node), **task_options(dict(options)))
        except DefinitionError as error:
            raise DefinitionError(f"Target {name!r} and its options in [tool.durable.tasks]: {error}") from error


def _is_decorated(node: _Function) -> bool:
    names = (_last_name(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list)
    return "task" in names


def _last_name(decorator: ast.expr) -> str:
    return decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")


def _stub(node: _Function) -> Callable[..., Any]:
    """Make a function without a body that has the parameters of a definition."""
    stub = copy.deepcopy(node)
    yields = any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(ast.Module(stub.body, [])))
    stub.body = [ast.Expr(ast.Yield())] if yields else [ast.Pass()]
    stub.decorator_list, stub.returns = [], None
    arguments = stub.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [ast.Constant(None) if default is not None else None for default in arguments.kw_defaults]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    made: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(ast.Module([stub], [])), "<stub>", "exec"), made)  # noqa: S102 -- an empty body
    function: Callable[..., Any] = made[node.name]
    return function


def mark(tree: ast.Module, tasks: Mapping[str, _Options]) -> ast.Module:
    """Make tasks of what the program calls by these names; the tree can be compiled then."""
    _chosen.update(tasks)
    _Marker(set(tasks)).visit(tree)
    return ast.fix_missing_locations(tree)


class _Marker(ast.NodeTransformer):
    """Decorates the definitions of some names; goes into classes, not into functions."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self._prefix = ""

    def _decorate(self, node: _Function) -> _Function:
        name = self._prefix + node.name
        if name in self._names:
            first = node.decorator_list[0] if node.decorator_list else node
            node.decorator_list.insert(0, _at(first, _call_of(name)))
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _decorate  # noqa: N815 -- what ast calls them

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        before, self._prefix = self._prefix, f"{self._prefix}{node.name}."
        self.generic_visit(node)
        self._prefix = before
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        bound = [alias.asname or alias.name for alias in node.names]
        wanted = [] if self._prefix else [name for name in bound if name in self._names]
        return [node, *(_at(node, _rebound(name)) for name in wanted)]


def _call_of(name: str) -> ast.expr:
    return ast.parse(f"{_HERE}({name!r})", mode="eval").body


def _rebound(name: str) -> ast.stmt:
    return ast.parse(f"{name} = {_HERE}({name!r})({name})").body[0]


def _at(place: ast.stmt | ast.expr, node: N) -> N:
    """Say that a node stands where another one begins."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.stmt | ast.expr):
            ast.copy_location(inner, place)
            inner.end_lineno, inner.end_col_offset = place.lineno, place.col_offset
    return node


def as_task(name: str) -> Callable[[Any], Any]:
    """Give the decorator that makes what a program binds to a name a task, with the options that were chosen for it."""
    options = _chosen[name]

    def make(function: Any) -> Any:
        if isinstance(function, Task):
            return function.with_options(**options) if options else function
        try:
            return task(**options)(function)
        except DefinitionError as error:
            raise DefinitionError(f"{name} cannot be a task: {error}") from error

    return make
