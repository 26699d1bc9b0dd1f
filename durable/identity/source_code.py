"""The digest of a function's code changes if and only if what the function does may change.

It is taken from the syntax tree of the source: decorators, docstrings, comments, layout, line numbers and the Python
version leave no trace in it, nor does the function's own name.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import itertools
import linecache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_DIGEST_SIZE = 16
_UNMARKED_FILES = {"<string>", "<stdin>"}  # names that unrelated pieces of code share
_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "lineno"}

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Position = tuple[int, int, int, int]


def code_digest(function: Callable[..., Any]) -> bytes | None:
    """Digest of the source of the function below all decorators, partials and methods; None if there is no source."""
    plain = innermost(function)
    return None if plain is None else function_digest(plain)


def function_digest(function: FunctionType) -> bytes | None:
    """Digest of the source of exactly this function, wrapper or not; None if there is no source to be had."""
    code = function.__code__
    if code.co_filename in _UNMARKED_FILES:
        return None
    linecache.lazycache(code.co_filename, function.__globals__)
    return _digest_of_code(code.co_filename, code)


def tree_digest(tree: ast.Module) -> bytes:
    """Digest of what a piece of code says, whatever it looks like."""
    return _digest("".join(_written(tree.body)))


def innermost(function: Any) -> FunctionType | None:
    """Give the function below all decorators, partials and methods; None if there is none."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        if type(function) is functools.partial:
            function = function.func
            continue
        below = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
        if below is not None:
            function = below
        elif not isinstance(function, FunctionType):
            function = type(function).__call__
    return function if isinstance(function, FunctionType) else None


# Equal code objects of two files may come from different sources, hence the file name.
@functools.lru_cache(maxsize=4096)
def _digest_of_code(filename: str, code: CodeType) -> bytes | None:
    lines, is_lambda = linecache.getlines(filename), code.co_name == "<lambda>"
    try:
        definition = None if is_lambda else _definition_alone(lines, code)
        if definition is None:
            definition = _find_definition(_definitions_by_line("".join(lines), lambdas=is_lambda), code)
        return None if definition is None else _digest_of_definition(definition)
    except RecursionError:  # an expression nested beyond what the interpreter can walk
        return None


def _definition_alone(lines: list[str], code: CodeType) -> _Definition | None:
    """Find a function with a name by parsing its own lines, for a long file takes long; None if that does not succeed.

    They go up to the first line beyond its code that is not indented deeper. Were that within a string or a bracket, what
    is cut off there would be no valid source.
    """
    start, end = code.co_firstlineno - 1, _last_line(code)
    if end > len(lines):
        return None
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    while end < len(lines) and _is_deeper(lines[end], indent):
        end += 1
    tree = _parse(f"{'if 0:' if indent else ''}\n{''.join(lines[start:end])}")
    found = next((node for node in _statements(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    return found if found is not None and _has_signature_of(found, code) else None


def _last_line(code: CodeType) -> int:
    """Give the number of the last line that compiled to something, in the code or in what is defined in it."""
    inner = [_last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return max([code.co_firstlineno, *inner, *(end for _, end, _, _ in code.co_positions() if end is not None)])


def _is_deeper(line: str, indent: str) -> bool:
    rest = line.lstrip()
    return not rest or rest[0] == "#" or (line.startswith(indent) and line[len(indent)].isspace())


@functools.lru_cache(maxsize=8)
def _definitions_by_line(source: str, *, lambdas: bool) -> dict[int, list[_Definition]]:
    """List the functions of a source by their first line: the lambdas, or those that have names."""
    tree = _parse(source)
    found: dict[int, list[_Definition]] = {}
    for node in ast.walk(tree) if lambdas else _statements(tree):
        if isinstance(node, ast.Lambda if lambdas else ast.FunctionDef | ast.AsyncFunctionDef):
            found.setdefault(_first_line(node), []).append(node)
    return found


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Give all statements: where functions with names are, in a quarter of the time that a walk takes."""
    pending = [tree]
    while pending:
        node = pending.pop()
        for blocks in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, blocks, ())
            pending += below
            yield from below


def _first_line(node: _Definition) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _find_definition(definitions: dict[int, list[_Definition]], code: CodeType) -> _Definition | None:
    candidates = [node for node in definitions.get(code.co_firstlineno, []) if _has_signature_of(node, code)]
    if len(candidates) > 1:
        extent = _extent_of_code(code)
        candidates = [n for n in candidates if extent and _extent_of_body(n) == extent] or [
            n for n in candidates if _compiles_to(n, code)
        ]
    elif not candidates and code.co_firstlineno == 1:
        # What puts another body into a function may compile that alone, so that its lines count from 1: autoreload does.
        everywhere = itertools.chain.from_iterable(definitions.values())
        candidates = [node for node in everywhere if _has_signature_of(node, code) and _is_text_of(node, code)]
    digests = {_digest_of_definition(node) for node in candidates}
    return candidates[0] if len(digests) == 1 else None


def _has_signature_of(node: _Definition, code: CodeType) -> bool:
    # A file that was edited after it was loaded must not lend its text to the old code.
    name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    count = code.co_argcount + code.co_kwonlyargcount
    return name == code.co_name and [_unmangled(a.arg) for a in arguments] == [
        _unmangled(name) for name in code.co_varnames[:count]
    ]


def _unmangled(name: str) -> str:
    # Within a class, `__name` is compiled to `_Class__name`.
    head, separator, tail = name.partition("__")
    return tail if separator and (not head or head.startswith("_")) else name


def _extent_of_code(code: CodeType) -> _Position | None:
    known = [
        (line, column, end_line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column is not None
    ]
    return _hull([position for position in known if position[2:] != position[:2]])


def _extent_of_body(node: _Definition) -> _Position | None:
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    return _hull([(n.lineno, n.col_offset, n.end_lineno or 0, n.end_col_offset or 0) for n in body])


def _hull(positions: list[_Position]) -> _Position | None:
    if not positions:
        return None
    start, end = min(p[:2] for p in positions), max(p[2:] for p in positions)
    return (*start, *end)


def _compiles_to(node: _Definition, code: CodeType) -> bool:
    # Some releases keep no columns for a body that is a constant; options of the interpreter take away all columns.
    if not isinstance(node, ast.Lambda):
        return False
    module = compile(ast.Expression(body=node), code.co_filename, "eval")
    return any(isinstance(constant, CodeType) and _same_code(constant, code) for constant in module.co_consts)


def _is_text_of(node: _Definition, code: CodeType) -> bool:
    """Whether a function with a name, taken out of its module, compiles to this code."""
    if isinstance(node, ast.Lambda):
        return False
    bare = copy.copy(node)
    bare.decorator_list = []
    module = compile(ast.Module([bare], []), code.co_filename, "exec")
    return any(isinstance(constant, CodeType) and _same_code(constant, code) for constant in module.co_consts)


def _same_code(one: CodeType, other: CodeType) -> bool:
    if (one.co_code, one.co_names) != (other.co_code, other.co_names) or len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same_code(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else _literal(a) == _literal(b)
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _digest_of_definition(node: _Definition) -> bytes:
    parts: list[str] = [type(node).__name__]
    _write(node.args, parts)
    if isinstance(node, ast.Lambda):
        _write(node.body, parts)
    else:
        parts.extend(_written(_without_docstring(node.body)))
        _write(node.returns, parts)
        _write(getattr(node, "type_params", None) or None, parts)
    return _digest("".join(parts))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE).digest()


def _written(value: Any) -> list[str]:
    parts: list[str] = []
    _write(value, parts)
    return parts


def _write(value: Any, parts: list[str]) -> None:
    if isinstance(value, ast.JoinedStr):
        value = ast.JoinedStr(values=list(_merged_literals(value.values)))
    if isinstance(value, ast.AST):
        parts.append(f"{type(value).__name__}(")
        for field, child in _fields(value):
            parts.append(f"{field}=")
            _write(child, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for child in value:
            _write(child, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(_literal(value))


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for field in node._fields:
        child = getattr(node, field, None)
        if field in _IGNORED_FIELDS or child is None or child == []:
            continue
        if field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            child = _without_docstring(child)
        yield field, child


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest or [ast.Pass()]
    return body


def _merged_literals(values: list[ast.expr]) -> Iterator[ast.expr]:
    # Releases of Python differ in how they split the literal parts of an f-string.
    pending = ""
    for value in values:
        if isinstance(value, ast.Constant):
            pending += str(value.value)
            continue
        if pending:
            yield ast.Constant(value=pending)
        pending = ""
        yield value
    if pending:
        yield ast.Constant(value=pending)


def _literal(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int {value:x}"  # decimal digits of an int are limited in number
    return f"{type(value).__name__} {value!a}"
