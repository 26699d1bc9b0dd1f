from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_ROW = re.compile(r"^\| [A-FN] \| .+ \| `(\S+)::(\w+)` \|$")


def _named() -> list[tuple[str, str]]:
    lines = (_TESTS / "README.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("| table | row | test |") + 2 :]
    return [(match[1], match[2]) if (match := _ROW.match(line)) else (line, "") for line in table]


@pytest.mark.parametrize(("path", "name"), _named(), ids=[name for _, name in _named()])
def test_rows_name_tests_that_exist(path: str, name: str) -> None:
    """Every test that a row of the README's table names exists and says what it tests."""
    tree = ast.parse((_TESTS / path).read_text(encoding="utf-8"))
    [found] = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
    ]
    assert ast.get_docstring(found)
