from __future__ import annotations

import functools
import linecache
from typing import Any

import pytest

from durable.identity.source_code import code_digest

_counter = iter(range(1_000_000))


def define(source: str, name: str = "f") -> Any:
    """A function whose source is known by a file name of its own."""
    filename = f"<cell {next(_counter)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"functools": functools}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


ORIGINAL = "def f(x, y=1):\n    return x + y\n"


@pytest.mark.parametrize(
    "source",
    [
        "\n\n# comment\ndef f(x, y=1):\n    # comment\n    return (x +\n            y)\n",
        'def f(x, y=1):\n    """What it does."""\n    return x + y\n',
        "@functools.cache\ndef f(x, y=1):\n    return x + y\n",
        "if True:\n    def f(x, y=1): return x + y\n",
        "class C:\n    @staticmethod\n    def f(x, y=1): return x + y\nf = C.f\n",
        "def g(x, y=1):\n    return x + y\nf = functools.partial(g, 1)\n",
    ],
    ids=["layout", "docstring", "decorator", "indentation", "staticmethod", "partial"],
)
def test_what_does_not_matter(source: str) -> None:
    """Comments, layout, docstrings, decorators and the name leave no trace in the digest."""
    digest = code_digest(define(source))
    assert digest is not None
    assert digest == code_digest(define(ORIGINAL))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, y=1):\n    return x - y\n",
        "def f(x, y=2):\n    return x + y\n",
        "def f(x, z=1):\n    return x + z\n",
        "def f(x, *, y=1):\n    return x + y\n",
        "async def f(x, y=1):\n    return x + y\n",
        "f = lambda x, y=1: x + y\n",
        "def f(x, y=1):\n    return x + y + 0\n",
        "def f(x, y=True):\n    return x + y\n",
        "def f(x, y=1.0):\n    return x + y\n",
    ],
)
def test_what_matters(source: str) -> None:
    """Another body, signature or default value is another digest."""
    assert code_digest(define(source)) != code_digest(define(ORIGINAL))


@pytest.mark.parametrize(
    "body",
    [
        "    x = 1\n# at the margin\n\n    return x\n",
        '    text = """\nat the margin\n"""\n    return text\n',
        '    return """\nat the margin"""\n',
        '    def g():\n        return """\nat the margin"""\n    return g\n',
        '    x = 1\n    """\nA constant that compiles to nothing.\n"""\n    pass\n',
        "    x = [\n1,\n]\n    x = x + \\\n1\n    global z\n",
    ],
)
@pytest.mark.parametrize("before", ["", "if False:\n    pass\nelse:\n  "], ids=["margin", "indented"])
def test_whole_body_matters_whatever_its_indentation(body: str, before: str) -> None:
    """What follows a function leaves no trace in its digest, and nothing that belongs to it is left out."""
    alone, followed = define(f"def f():\n{body}"), define(f"{before}def f():\n{body}\nother = 1\n\ndef f2(): pass\n")
    assert code_digest(alone) is not None
    assert code_digest(followed) == code_digest(alone)
    assert code_digest(define(f"def f():\n{body}    return 2\n")) != code_digest(alone)


def test_nested_decorators_matter() -> None:
    """A decorator within the body is part of what the function does."""
    plain = define("def f():\n    def g(): pass\n    return g\n")
    cached = define("def f():\n    @functools.cache\n    def g(): pass\n    return g\n")
    assert code_digest(plain) != code_digest(cached)


def test_nested_docstrings_do_not_matter() -> None:
    """Docstrings of functions and classes within the body are docstrings too."""
    plain = define("def f():\n    class C:\n        x = 1\n    return C\n")
    told = define("def f():\n    class C:\n        'doc'\n        x = 1\n    return C\n")
    assert code_digest(plain) == code_digest(told)


def test_lambdas_of_one_line_are_told_apart() -> None:
    """Each of several lambdas on a line has the digest of its own source."""
    alone: list[Any] = [lambda: 0]
    alone += [lambda x: x]
    alone += [lambda: lambda: 1]
    together: list[Any] = [lambda: 0, lambda x: x, lambda: lambda: 1, lambda: 1, lambda: True, lambda: "a", lambda: -1]
    assert [code_digest(f) for f in together[:3]] == [code_digest(f) for f in alone]
    assert len({code_digest(f) for f in together}) == len(together)
    assert None not in {code_digest(f) for f in together}


def test_inner_lambda_of_a_lambda() -> None:
    """A lambda that another one returns is not taken for the outer one."""
    outer: Any = lambda: lambda: 2  # noqa: E731 -- the case under test
    assert code_digest(outer) != code_digest(outer())
    assert code_digest(outer()) is not None


def test_private_names_of_a_class() -> None:
    """A method with mangled parameters finds its source."""
    assert code_digest(define("class C:\n    def f(self, __x, _y_): return __x\nf = C.f\n")) is not None


def test_wrapper_counts_as_what_it_wraps() -> None:
    """Below `functools.wraps`, the wrapped function's code counts."""

    def inner(x: int) -> int:
        return x

    @functools.wraps(inner)
    def wrapper(*args: Any) -> Any:
        return inner(*args)

    assert code_digest(wrapper) == code_digest(inner)


def test_methods_and_callable_objects() -> None:
    """A bound method counts as its function, an object with `__call__` as that method."""

    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

        def add(self, x: int) -> int:
            return x + 1

    assert code_digest(Adder()) == code_digest(Adder().add) is not None


def test_nothing_to_be_had() -> None:
    """Builtins and code without a file have no digest."""
    namespace: dict[str, Any] = {}
    exec("def f(): return 1", namespace)
    assert code_digest(len) is None
    assert code_digest(namespace["f"]) is None


def test_a_file_that_changed_under_the_process() -> None:
    """Text that does not match the signature of the loaded code is not taken for its source."""
    f = define("def f(x): return x\n")
    source = "def f(y): return y\n"
    linecache.cache[f.__code__.co_filename] = (len(source), None, [source], f.__code__.co_filename)
    assert code_digest(f) is None


def test_digest_does_not_depend_on_the_python_version() -> None:
    """A function that uses most of the syntax has this digest in every release."""
    source = (
        "def f(a, b: int = 2, /, *, c='x') -> int:\n"
        "    async def h():\n        async with a as q: await q\n"
        "    try:\n        pass\n    except* ValueError as e:\n        raise\n"
        "    match a:\n"
        "        case {'x': [1, *_], **r} if (w := 3): return f'{a:{b}.{c}}{{x}}' f'{a!r:}' 'y' rf'\\{b}' f'{c=}'\n"
        "        case K(x=1) | None: return 0xfffffffffffffffffffffff\n"
        "    return 1.5e300, 2j, ..., b'\\xff', '\\u0378', a[1:2, ::3], not a, [y for y in b if c], {**a}, -1\n"
    )
    digest = code_digest(define(source))
    assert digest is not None
    assert digest.hex() == "4d1df35df370fda53e3d09f709d29c2a"
