"""The package keeps its own rules: public names, layers, lightness, errors."""

from __future__ import annotations

import ast
import graphlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import durable
from durable import errors

PACKAGE = Path(durable.__file__).parent
HEAVY = ("sqlalchemy", "dill", "tenacity", "filelock", "typer", "rich")
OF_RUNS = ("durable.records", "durable.costs", "durable.steps", "durable.runs", "durable.values", "durable.stores")
OF_OTHER_PROGRAMS = ("wrapt", "importlib.metadata", "multiprocessing", "tomllib", "uuid", "durable.patches")
ERRORS = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_import(path: Path) -> set[str]:
    """Modules of the package that a module imports when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("durable"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in MODULES} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("durable")}
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    return found


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def test_public_names_are_sorted_and_complete() -> None:
    """`__all__` is sorted, every name in it can be had, and no public class or function of the errors is missing."""
    assert durable.__all__ == sorted(durable.__all__)
    assert all(getattr(durable, name) is not None for name in durable.__all__)
    assert set(errors.__all__) <= set(durable.__all__)
    assert dir(durable) == durable.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Asking the package for a name that it does not have fails as usual."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = durable.nothing


def test_importing_the_package_is_light() -> None:
    """`from durable import task, workflow` imports none of the heavy dependencies, and nothing that runs need."""
    program = (
        f"import sys; from durable import task, workflow; print([m for m in {HEAVY + OF_RUNS!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_program_waits_for_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """`durable run` imports, for a program without tasks, none of the slow modules that only others need."""
    (tmp_path / ".durable").mkdir(mode=0o700)
    (tmp_path / "program.py").write_text("import sys; print(*sys.modules)")
    command = ("-m", "durable", "run")
    plain, ours = (
        subprocess.run(
            [sys.executable, *start, "program.py"], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.split()
        for start in ((), command)
    )
    assert {*ours} & {*HEAVY, *OF_OTHER_PROGRAMS} - {*plain, "filelock"} == set()


def test_imports_form_layers() -> None:
    """No module of the package imports itself through others: imports point down only."""
    graph = {name: imported_at_import(path) & set(MODULES) - {name} for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("durable.errors") < order.index("durable.steps.steps") < order.index("durable.steps.engine")


def test_the_engine_knows_no_decorator_and_no_command() -> None:
    """The engine receives definitions; decorators, patches, programs and commands lie above it."""
    outside = ("durable.cli", "durable.patches", "durable.scripts", "durable.auto")
    above = ("durable.declarations.decorators", "durable.declarations.wrappers", *outside)
    may_know = {"durable", "durable.__main__", "durable.declarations.decorators"}
    for name, path in MODULES.items():
        if name not in may_know and not name.startswith(outside):
            assert not {imported for imported in imported_at_import(path) if imported.startswith(above)}, name


def test_every_module_states_its_subject() -> None:
    """Every module begins with a docstring."""
    assert [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[BaseException]) -> None:
    """Every error comes back from pickle with its type, arguments, message and attributes."""
    count = kind.__init__.__code__.co_argcount - 1 if "__init__" in vars(kind) else 1
    argument = errors.DurableError("inner") if kind is errors.ExecutionStopped else "text"
    error = kind(*[argument] * count)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__.keys()) == (kind, str(error), error.__dict__.keys())
    assert repr(again.args) == repr(error.args)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_has_its_place_in_the_tree(kind: type[BaseException]) -> None:
    """Failures are named Error and derive from DurableError; control flow is neither."""
    if issubclass(kind, Warning) or not issubclass(kind, Exception):
        assert not issubclass(kind, errors.DurableError)
        assert not kind.__name__.endswith("Error")
    else:
        assert issubclass(kind, errors.DurableError)
        assert kind.__name__.endswith("Error")
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__
