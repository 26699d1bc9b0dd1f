"""What people at a terminal see of long runs, and nobody else."""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

PROGRAM = """
import logging, multiprocessing, os, pathlib, sys, time
from durable import task, workflow

logging.basicConfig(level="WARNING", format="%(message)s")

def until(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)

@task
def part(number):
    if number:
        until("go")
    return number

@workflow
def mapped():
    return sum(part.map(range(4), concurrency=2))

@task
def one(number):
    if number == 2:
        raise ValueError(number)
    return number

@workflow
def loop():
    for number in range(6):
        try:
            one(number)
        except ValueError:
            print("failed", number)
        if number == 3:
            until("go")
            print("half a", end="", flush=True)
            until("on")
            print(" line")
            logging.warning("logged")
            print("answer", input("question? "))
            child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
            child.start()
            child.join()
            until("end")
    os.kill(os.getpid(), 9)

print(globals()[sys.argv[1]](), "rich" in sys.modules)
"""


class Terminal:
    """A program at a pseudo-terminal, and what can be read there."""

    def __init__(self, folder: Path, name: str) -> None:
        import pty  # noqa: PLC0415 -- not on Windows

        (folder / "program.py").write_text(PROGRAM)
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "DURABLE_DB": str(folder / "store.db"), "TERM": "xterm", "COLUMNS": "120"}
        command = [sys.executable, "program.py", name]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # what is read at once may end within a character

    def until(self, *texts: str) -> None:
        """Read on until these were shown one after the other."""
        for text in texts:
            begun = len(self.shown)
            while text not in self.shown[begun:]:
                self.shown += self._decoder.decode(os.read(self._ours, 1000))

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def lines(self) -> list[str]:
        """Read to the end, and give what a terminal shows then."""
        with pytest.raises(OSError, match="Input/output"):
            self.until("nothing else")
        self.process.wait()
        os.close(self._ours)
        screen = re.sub(r"[^\n]*\r\x1b\[2K", "", self.shown.replace("\r\n", "\n"))
        return re.sub(r"\x1b\[[\d;]*m", "", screen).splitlines()


def test_a_line_at_a_terminal(tmp_path: Path) -> None:
    """At a terminal a line says how many submitted tasks are done and left; it is gone at the end."""
    terminal = Terminal(tmp_path, "mapped")
    terminal.until("1 done, 3 left")
    (tmp_path / "go").touch()
    assert terminal.lines() == ["6 True"]


def test_a_loop_that_prints_asks_and_is_killed(tmp_path: Path) -> None:
    """A loop of tasks shows how many are done and failed, then replayed; what the program prints, logs, asks and leaves
    half printed is not drawn over, and a forked child prints as ever."""
    printed = ["failed 2", "half a line", "logged", "question? yes", "answer yes", "child"]
    terminal = Terminal(tmp_path, "loop")
    terminal.until("3 done, 1 failed")
    (tmp_path / "go").touch()
    terminal.until("half a")
    (tmp_path / "on").touch()
    terminal.until("question? ")
    terminal.type("yes\n")
    terminal.until("child", "3 done, 1 failed")
    (tmp_path / "end").touch()
    shown = [line for line in terminal.lines() if "done" not in line]
    assert shown == printed
    for name in ("on", "end"):
        (tmp_path / name).unlink()
    (tmp_path / "go").unlink()
    resumed = Terminal(tmp_path, "loop")
    resumed.until("4 replayed")
    resumed.process.kill()
    assert resumed.lines()


def test_nothing_elsewhere(tmp_path: Path) -> None:
    """Where stderr is no terminal nothing is shown or imported for it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "go").touch()
    environment = {**os.environ, "DURABLE_DB": str(tmp_path / "store.db")}
    command = [sys.executable, "program.py", "mapped"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"6 False\n", b"")
