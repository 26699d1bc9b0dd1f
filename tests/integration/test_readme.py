"""Every block of the README is executed, and prints what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels import Kernels

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PROGRAMS = [
    (code, BLOCKS[i + 1][1] if i + 1 < len(BLOCKS) and BLOCKS[i + 1][0] == "text" else None)
    for i, (kind, code) in enumerate(BLOCKS)
    if kind == "python"
]
CONSOLES = [(BLOCKS[i - 1][1], session) for i, (kind, session) in enumerate(BLOCKS) if kind == "console"]
STARTS = {"python": [sys.executable], "durable": [sys.executable, "-m", "durable"]}
NOTEBOOKS = [(cells.split("# %%\n"), BLOCKS[i + 1][1]) for i, (kind, cells) in enumerate(BLOCKS) if kind == "ipython"]
VARIES = ((r"(signup|send)-[0-9a-f]{16}", "ID"), (r"\d+ (s|min) ago|just now", "AGE"))


def run(command: list[str], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    environment["PYTHONUNBUFFERED"] = "1"
    environment |= dict(assignment.split("=") for assignment in more)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def normalised(text: str) -> str:
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text)
    return text.strip()


@pytest.mark.parametrize(("code", "output"), PROGRAMS)
def test_a_python_block_works(code: str, output: str | None, tmp_path: Path) -> None:
    """A Python block of the README runs as it stands and prints the text block that follows it."""
    script = tmp_path / "block.py"
    script.write_text(code)
    done = run([sys.executable, "block.py"], tmp_path)
    assert done.returncode == 0, done.stdout
    if output is not None:
        shown = [line for line in done.stdout.splitlines() if not line.startswith("durable:")]
        assert "\n".join(shown).strip() == output.strip()


@pytest.mark.parametrize(("code", "session"), CONSOLES)
def test_a_console_session_goes_as_shown(code: str, session: str, tmp_path: Path) -> None:
    """Scripts are killed or fail and are run again, and print what the README shows."""
    name = re.search(r"^# (\S+\.py)", code)
    if name is not None:
        (tmp_path / name[1]).write_text(code)
    shown = ""
    for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", session, re.MULTILINE):
        shown += f"$ {command}\n"
        words = command.split()
        if words[0] == "cat":
            (tmp_path / words[1]).write_text(output)
            shown += output
            continue
        first = next(number for number, word in enumerate(words) if "=" not in word)
        done = run([*STARTS[words[first]], *words[first + 1 :]], tmp_path, *words[:first])
        shown += done.stdout + "Killed\n" * (done.returncode == -9)
    assert normalised(shown) == normalised(session)


@pytest.mark.parametrize(("cells", "output"), NOTEBOOKS)
def test_a_notebook_goes_as_shown(cells: list[str], output: str, tmp_path: Path) -> None:
    """The cells of the README are run, their kernel is killed, and they are run again: they print what the README shows."""
    shown = []
    with Kernels() as kernels:
        for _ in range(2):
            kernel = kernels.open(tmp_path)
            ran = kernel.run(*cells)
            assert not ran.error, ran
            shown.append(ran.out)
            kernel.kill()
    assert "Killed\n".join(shown).strip() == output.strip()


def test_the_readme_has_blocks() -> None:
    """The blocks are found."""
    assert len(PROGRAMS) >= 4
    assert len(CONSOLES) == 2
    assert len(NOTEBOOKS) == 1


def test_the_two_commands_are_complete() -> None:
    """Each of the two commands makes its own environment, since system Pythons refuse pip."""
    commands = [code for kind, code in BLOCKS if kind == "bash"]
    assert len(commands) == 2
    assert all(command.startswith("python3 -m venv ") for command in commands)
