"""Type checkers see decorated functions as what they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_mypy_infers_what_the_file_pins() -> None:
    """mypy strict accepts the pinned types and nothing else: unused ignores are errors."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "tests/typing/decorated.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
