"""Code of a cell, executed as IPython would: in the notebook's namespace, showing the value of its last expression."""

from __future__ import annotations

import ast
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from durable.runs.execution import FRAME, leave

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType

    from IPython.core.interactiveshell import InteractiveShell


class CellCode:
    """A cell without its magic: `tree` is what IPython would execute."""

    def __init__(self, shell: InteractiveShell, text: str) -> None:
        self._shell = shell
        source = shell.transform_cell(text)
        self._file = shell.compile.cache(source, shell.execution_count, raw_code=text)
        parsed = shell.compile.ast_parse(source, filename=self._file)
        self.tree: ast.Module = shell.transform_ast(parsed)
        self.is_async = _awaits(self.tree)

    def execute(self) -> None:
        """Execute the cell; tasks that it calls are steps of the notebook's run."""
        with _as_a_cell():
            for code in self._parts():
                eval(code, self._shell.user_global_ns, self._shell.user_ns)  # noqa: S307 -- the user's cell

    async def execute_async(self) -> None:
        """Do what `execute` does, for a cell that awaits."""
        with _as_a_cell():
            for code in self._parts():
                result = eval(code, self._shell.user_global_ns, self._shell.user_ns)  # noqa: S307 -- see above
                if code.co_flags & inspect.CO_COROUTINE:
                    await result

    def define(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """Execute some statements of the cell, each for itself; gives those that failed."""
        failed = []
        for statement in statements:
            try:
                code = self._compile(ast.Module([statement], []), "exec")
                eval(code, self._shell.user_global_ns, self._shell.user_ns)  # noqa: S307 -- see above
            except Exception:
                failed.append(statement)
        return failed

    def _parts(self) -> Iterator[CodeType]:
        body = self.tree.body
        shown = body[-1:] if body and isinstance(body[-1], ast.Expr) else []
        first = body[: len(body) - len(shown)]
        if first:
            yield self._compile(ast.Module(first, []), "exec")
        if shown:
            yield self._compile(ast.Interactive(shown), "single")

    def _compile(self, tree: ast.Module | ast.Interactive, mode: str) -> CodeType:
        with self._shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if self.is_async else 0):
            compiler: Any = self._shell.compile  # its annotations do not know of trees
            code: CodeType = compiler(tree, self._file, mode)
        return code


def awaits(shell: InteractiveShell, text: str) -> bool:
    """Whether a cell awaits something; one that is no Python does not."""
    try:
        return _awaits(ast.parse(shell.transform_cell(text)))
    except SyntaxError:
        return False


@contextlib.contextmanager
def _as_a_cell() -> Iterator[None]:
    """Let calls of tasks be those of the notebook, although the cell is a step."""
    token = FRAME.set(None)
    try:
        yield
    finally:
        leave(token)


def _awaits(tree: ast.Module) -> bool:
    """Whether code outside functions awaits something."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) or (
            isinstance(node, ast.comprehension) and node.is_async
        ):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False
