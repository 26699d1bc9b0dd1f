"""Every example does what its docstring says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))
LONGEST = 80


def expected_output(example: Path) -> str:
    docstring = ast.get_docstring(ast.parse(example.read_text()))
    assert docstring is not None
    return textwrap.dedent(docstring.partition("Expected output:\n")[2]).strip()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_its_docstring_promises(example: Path, tmp_path: Path) -> None:
    """An example, executed by its command away from the checkout, prints its expected output and nothing else."""
    environment = {**os.environ, "DURABLE_DB": str(tmp_path / "store.db")}
    done = subprocess.run(
        [sys.executable, example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == expected_output(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    """An example fits two screens."""
    assert len(example.read_text().splitlines()) <= LONGEST


def test_there_are_examples() -> None:
    """The examples are found where the README says they are."""
    assert len(EXAMPLES) >= 3
