"""Type checkers see decorated functions as what they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from durable.declarations import typed_options
from durable.declarations.definitions import TaskDefinition, WorkflowDefinition

ROOT = Path(__file__).parents[2]
PINNED = ["tests/typing/concurrent.py", "tests/typing/decorated.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "checker", [("mypy", "--no-incremental"), ("pyright", "--pythonpath", sys.executable)], ids=["mypy", "pyright"]
)
def test_checkers_infer_what_the_files_pin(checker: tuple[str, ...]) -> None:
    """mypy strict and pyright accept the pinned types and nothing else: unused ignores are errors."""
    command = [sys.executable, "-m", *checker, *PINNED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("options", "definition", "own"),
    [
        (typed_options.TaskCallOptions, TaskDefinition, {"function", "anchor", "has_body", "is_child_run"}),
        (
            typed_options.WorkflowCallOptions,
            WorkflowDefinition,
            {"function", "anchor", "key", "ignore", "sensitive", "exact_run_id", "is_block", "has_own_budget"},
        ),
    ],
)
def test_checkers_know_all_options(options: type, definition: type, own: set[str]) -> None:
    """Every option that is taken is known to type checkers, and no other."""
    assert {*options.__annotations__} == {*definition.__dataclass_fields__} - own  # type: ignore[attr-defined]  # of a class that is a parameter
