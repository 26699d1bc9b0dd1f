"""What a cell reads and assigns."""

from __future__ import annotations

import ast

import pytest

from durable.notebooks.variables import code_digest, definitions, find_variables

CELLS = {
    "x = a + 1": ("a", "x", ""),
    "x = 1; y = x": ("", "x y", ""),
    "total += 1": ("total", "total", ""),
    "for i in items:\n    out = i * k": ("items k", "i out", ""),
    "xs = [i * k for i in items if i]": ("items k", "xs", ""),
    "xs = {i: (last := i) for i in items}": ("items", "last xs", ""),
    "def f(x, y=d):\n    z = x + k\n    return z": ("d k", "", "f"),
    "def f():\n    return later\nlater = 1": ("", "later", "f"),
    "def f():\n    global g\n    g = 1": ("", "g", "f"),
    "k = lambda x: x + off": ("off", "k", ""),
    "class A(Base):\n    n = size\n    def m(self): return self.n": ("Base size", "", "A"),
    "import os.path as p, sys\nfrom m import *": ("", "", "p sys"),
    "try:\n    import fast\nexcept ImportError as error:\n    fast = str(error)": ("ImportError str", "fast", "fast"),
    "with open(p) as f:\n    text = f.read()": ("open p", "f text", ""),
    "df['a'] = 1; df.b = c": ("df c", "", ""),
    "a, *b = pair; (c := 1)": ("pair", "a b c", ""),
    "x = 1; del x": ("", "", ""),
    "x: int = y": ("int y", "x", ""),
    "rows = await fetch(url)\nasync for r in rows: last = r": ("fetch url", "rows r last", ""),
    "match cmd:\n    case {'a': v, **rest}: w = v": ("cmd", "v rest w", ""),
    "print(f'{name!r:>{width}}')": ("print name width", "", ""),
}


@pytest.mark.parametrize(("code", "expected"), CELLS.items())
def test_variables(code: str, expected: tuple[str, str, str]) -> None:
    """The variables that a cell reads before it assigns them, those that it assigns, and those that it defines."""
    found = find_variables(ast.parse(code))
    assert (set(found.read), set(found.assigned), set(found.defined)) == tuple(set(names.split()) for names in expected)


def test_layout_does_not_count() -> None:
    """Comments, blank lines, quotes and parentheses leave no trace in the digest of a cell; a value does."""
    digests = [
        code_digest(ast.parse(code)) for code in ("x = f('a')", '# why\n\nx = f( "a" )', "x = (f('a'))", "x = f('b')")
    ]
    assert [digest == digests[0] for digest in digests] == [True, True, True, False]


def test_definitions() -> None:
    """Imports, functions and classes are found below conditions, in their order, and not within functions."""
    tree = ast.parse("import a\nif x:\n    import b\nelse:\n    def f():\n        import c\nclass D: pass")
    assert [ast.unparse(each).partition("\n")[0] for each in definitions(tree)] == [
        "import a",
        "import b",
        "def f():",
        "class D:",
    ]
