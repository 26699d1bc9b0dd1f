"""What a cell reads and what it assigns, found in its syntax tree; and what its code says, whatever it looks like.

Names count in the order in which they are evaluated: one that is assigned before it is read is none that the cell needs.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durable.identity.source_code import tree_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(slots=True)
class Variables:
    """Names of a cell: `read` before it assigns them, `assigned` to values, and `defined` by imports, functions, classes."""

    read: list[str] = field(default_factory=list)
    assigned: list[str] = field(default_factory=list)
    defined: list[str] = field(default_factory=list)


def find_variables(tree: ast.Module) -> Variables:
    """Find the variables of a cell's code."""
    finder = _Finder()
    finder.visit_all(tree.body)
    known = {*finder.assigned, *finder.defined}
    read = dict.fromkeys((*finder.read, *(name for name in finder.read_later if name not in known)))
    assigned = [name for name in finder.assigned if name not in finder.deleted]
    return Variables(list(read), assigned, list(finder.defined))


def definitions(tree: ast.Module) -> list[ast.stmt]:
    """Give the statements of a cell that import something or define a function or a class, but for those within such."""
    found: list[ast.stmt] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                found.append(child)
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                waiting.append(child)
    return sorted(found, key=lambda statement: statement.lineno)


def code_digest(tree: ast.Module) -> str:
    """Digest what a cell says; comments, layout and line numbers leave no trace in it."""
    return tree_digest(tree).hex()


class _Finder(ast.NodeVisitor):
    """Walks a cell in the order of evaluation; dicts, since they keep the order in which names were found."""

    def __init__(self) -> None:
        self.read: dict[str, None] = {}
        self.read_later: dict[str, None] = {}  # in functions, whose bodies run when they are called
        self.assigned: dict[str, None] = {}
        self.defined: dict[str, None] = {}
        self.deleted: set[str] = set()
        self._local: list[set[str]] = []
        self._in_function = 0

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self._assign(node.id)
        elif not self._local:
            self.deleted.add(node.id)

    def _read(self, name: str) -> None:
        if any(name in local for local in self._local):
            return
        if self._in_function:
            self.read_later[name] = None
        elif name not in self.assigned and name not in self.defined:
            self.read[name] = None

    def _assign(self, name: str) -> None:
        if self._local and name in self._local[-1]:
            return
        self.assigned[name] = None
        self.deleted.discard(name)

    def _define(self, name: str) -> None:
        if not self._local and name != "*":
            self.defined[name] = None

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit_all((node.value, *node.targets))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit_all((node.annotation, node.value))
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.visit_all((node.value, node.target))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        if not self._in_function:
            self.assigned[node.target.id] = None  # of a comprehension, too, it is the cell's

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit_all((node.iter, node.target, *node.body, *node.orelse))

    visit_AsyncFor = visit_For

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name is not None:
            self._assign(node.name)
        self.visit_all(node.body)
        if node.name is not None and not self._local:
            self.deleted.add(node.name)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name is not None:
            self._assign(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._assign(node.rest)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self._define(alias.asname or alias.name.partition(".")[0])

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._outside_of_body(node)
        self._define(node.name)
        self._function(node, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit_all((*node.args.defaults, *node.args.kw_defaults))
        self._function(node, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all((*node.decorator_list, *node.bases, *node.keywords))
        self._define(node.name)
        self._within(_names_bound_in(node.body), node.body)

    def _comprehension(self, node: _Comprehension) -> None:
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.visit(node.generators[0].iter)
        bound = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        later = [part for g in node.generators for part in (g.target, *g.ifs)]
        self._within(bound, [*(g.iter for g in node.generators[1:]), *later, *parts])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _outside_of_body(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        everything = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        annotations = [argument.annotation for argument in everything if argument is not None]
        self.visit_all((*node.decorator_list, *arguments.defaults, *arguments.kw_defaults, *annotations, node.returns))

    def _function(self, node: _Function, body: Sequence[ast.AST]) -> None:
        arguments = {n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)}
        self._in_function += 1
        self._within(arguments | _names_bound_in(body), body)
        self._in_function -= 1

    def _within(self, local: set[str], nodes: Iterable[ast.AST]) -> None:
        self._local.append(local)
        self.visit_all(nodes)
        self._local.pop()


def _names_bound_in(body: Iterable[ast.AST]) -> set[str]:
    """Give the names that statements bind, those of inner functions included: what is local must not count as read."""
    bound: set[str] = set()
    given_up: set[str] = set()
    for node in (each for statement in body for each in ast.walk(statement)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)) | ast.arg(arg=name):
                bound.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                bound.update(alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Global(names=names):
                given_up.update(names)
    return bound - given_up
