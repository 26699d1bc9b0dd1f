"""What people at a terminal see of long runs, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import pathlib, sys, time
from durable import task, workflow

@task
def part(number):
    while number and not pathlib.Path("go").exists():
        time.sleep(0.01)
    return number

@workflow
def program():
    return sum(part.map(range(4), concurrency=2))

print(program(), "rich" in sys.modules)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_line_at_a_terminal(tmp_path: Path) -> None:
    """At a terminal a line says how many submitted tasks are done and left; it is gone at the end."""
    import pty  # noqa: PLC0415 -- not on Windows

    (tmp_path / "program.py").write_text(PROGRAM)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "DURABLE_DB": str(tmp_path / "store.db"), "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"1 done, 3 left" not in shown:
            shown += os.read(ours, 1000)
        (tmp_path / "go").touch()
        assert process.stdout is not None
        assert process.stdout.read() == b"6 True\n"
    os.close(ours)


def test_nothing_elsewhere(tmp_path: Path) -> None:
    """Where stderr is no terminal nothing is shown or imported for it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "go").touch()
    environment = {**os.environ, "DURABLE_DB": str(tmp_path / "store.db")}
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"6 False\n", b"")
