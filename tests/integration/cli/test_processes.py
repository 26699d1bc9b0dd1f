"""The command as a process of its own, with scripts that were killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.command_line import imported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cli.command_line import CommandLine

pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX")

SCRIPT = """
import os, sys
from durable import task, workflow

def note(text):
    with open("ledger", "a") as ledger:
        ledger.write(text + "\\n")

@task
def charge(customer, cents):
    note(f"charge {customer}")
    return f"R-{cents}"

@task(idempotent=False, key="{to}")
def send(to):
    if os.environ.get("KILL") == "in":
        os.kill(os.getpid(), 9)
    note(f"send {to}")
    return "sent"

@task
def wrap(receipt):
    if os.environ.get("KILL") == "between":
        os.kill(os.getpid(), 9)

@workflow(run_id="signup-{customer}")
def signup(customer):
    receipt = charge(customer, 500)
    wrap(receipt)
    return [receipt, send(customer)]

"""
GUARDED = SCRIPT + 'if __name__ == "__main__":\n    print(signup(sys.argv[1]))\n'
UNGUARDED = (
    SCRIPT
    + 'customer = (sys.argv[1:] or ["ada"])[0]\nnote(f"start {customer}")\nprint(signup(customer))\nnote("end")\n'
)
DEMANDING = SCRIPT + "print(signup(sys.argv[1]))\n"


class Shell:
    """Starts programs in a folder with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}},
            "DURABLE_DB": str(folder / "durable.db"),
            "TERM": "xterm-256color",
            "COLUMNS": "200",
        }

    def script(self, source: str, *arguments: str, kill: str = "") -> subprocess.CompletedProcess[str]:
        (self.folder / "script.py").write_text(source)
        return self.python("script.py", *arguments, KILL=kill)

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, *arguments], **environment)

    def durable(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "durable", *arguments], **environment)

    def durable_in_terminal(self, *arguments: str, **environment: str) -> str:
        """Give what the command writes to a terminal."""
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            subprocess.run(
                [sys.executable, "-m", "durable", *arguments],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                check=True,
            )
            os.close(theirs)
            written = b""
            while True:
                try:
                    written += (part := terminal.read(4096))
                except OSError:  # the end of a terminal
                    part = b""
                if not part:
                    return written.decode()

    def _run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


LONG = """
    from durable import task, workflow
    @task
    def fetch_the_record_of_a_customer(customer): raise KeyError(customer)
    @workflow(run_id="nightly-synchronisation-of-all-customers-of-{region}")
    def nightly(region): fetch_the_record_of_a_customer(region)
    nightly("eu-west-1")
"""


def test_a_narrow_terminal_cuts_no_id_and_no_key(shell: Shell) -> None:
    """In few columns the whole ids of runs and keys of steps are printed, with what became of them."""
    shell.script(textwrap.dedent(LONG))
    run = "nightly-synchronisation-of-all-customers-of-eu-west-1"
    listed = shell.durable_in_terminal("ls", COLUMNS="80")
    assert run in listed
    assert "failed" in listed
    shown = shell.durable_in_terminal("show", run, COLUMNS="40")
    assert re.search(r"1  fetch_the_record_of_a_customer:\w{8}  .*failed", shown)
    assert "#1 KeyError: 'eu-west-1'" in shown


def test_a_killed_script_is_resumed(shell: Shell, durable_command: CommandLine) -> None:
    """`durable resume` goes on where a script was killed: finished steps are not executed again."""
    assert shell.script(GUARDED, "ada", kill="between").returncode == -9
    [run] = durable_command("ls", "--json").data
    assert (run["id"], run["status"], run["alive"], run["steps_done"]) == ("signup-ada", "running", False, 1)
    assert "interrupted" in durable_command("show", "signup").out
    done = shell.durable("resume", "signup")
    assert (done.returncode, json.loads(done.stdout)) == (0, ["R-500", "sent"])
    assert durable_command("resume", "signup-ada").data == ["R-500", "sent"]
    assert shell.ledger == ["charge ada", "send ada"]


OF_ITS_OWN = """
import dataclasses, os
from durable import task, workflow

@dataclasses.dataclass
class Receipt:
    number: int

class RefusedError(Exception): ...

@task(idempotent=False, key="{number}")
def pay(number):
    with open("ledger", "a") as ledger:
        ledger.write(f"pay {number}\\n")
    return Receipt(number)

@task
def check(number):
    raise RefusedError(number)

@task
def pause(receipt):
    if os.environ.get("KILL") == str(receipt.number):
        os.kill(os.getpid(), 9)

@workflow(run_id="of-its-own")
def order():
    kinds = set()
    for number in (1, 2):
        try:
            check(number)
        except RefusedError:
            receipt = pay(number)
            pause(receipt)
            kinds.add(type(receipt) is Receipt)
    return sorted(kinds)

if __name__ == "__main__":
    print(order())
"""


@pytest.mark.parametrize("started", ["script.py", "-m package", "-m package.job"])
def test_what_a_script_and_the_command_record_both_can_read(shell: Shell, started: str) -> None:
    """Results and exceptions of a program's own classes are found by `durable resume`, and those that it records by the
    program, whichever way that is started."""
    (shell.folder / "package").mkdir()
    for path in ("script.py", "package/__init__.py", "package/__main__.py", "package/job.py"):
        (shell.folder / path).write_text("" if "__init__" in path else OF_ITS_OWN)
    assert shell.python(*started.split(), KILL="1").returncode == -9
    assert shell.durable("resume", "of-its-own", KILL="2").returncode == -9
    for done in (shell.python(*started.split()), shell.durable("resume", "of-its-own")):
        assert (done.stdout.lower(), done.returncode) == ("[true]\n", 0), done.stderr
    assert shell.ledger == ["pay 1", "pay 2"]


def test_a_script_killed_in_a_payment_is_decided_and_resumed(shell: Shell, durable_command: CommandLine) -> None:
    """A script killed inside a step that is not idempotent is blocked (76) until the command line decides."""
    assert shell.script(GUARDED, "ada", kill="in").returncode == -9
    refused = shell.durable("resume", "signup-ada")
    assert (refused.returncode, refused.stdout) == (76, "")
    assert durable_command("resolve", "signup-ada", "send:ada", "--happened", '"by hand"').code == 0
    done = shell.durable("resume", "signup-ada")
    assert (done.returncode, json.loads(done.stdout)) == (0, ["R-500", "by hand"])
    assert shell.ledger == ["charge ada"]


def test_a_script_without_guard_does_nothing_but_what_is_asked_for(shell: Shell, durable_command: CommandLine) -> None:
    """A script that calls its workflow at once is loaded up to that call: only the run that was named is resumed."""
    for customer in ("bob", "eve"):
        assert shell.script(UNGUARDED, customer, kill="between").returncode == -9
    done = shell.durable("resume", "signup-eve")
    assert (done.returncode, json.loads(done.stdout)) == (0, ["R-500", "sent"])
    assert shell.ledger == ["start bob", "charge bob", "start eve", "charge eve", "start ada", "send eve"]
    statuses = {run["id"]: run["status"] for run in durable_command("ls", "--json").data}
    assert statuses == {"signup-bob": "running", "signup-eve": "succeeded"}


def test_a_script_that_cannot_be_loaded_is_named(shell: Shell, durable_command: CommandLine) -> None:
    """A script that fails without its arguments, or is gone, is named with the way out, and nothing is executed."""
    assert shell.script(DEMANDING, "ada", kill="between").returncode == -9
    refused = shell.durable("resume", "signup-ada")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "script.py, which fails when it is loaded: IndexError" in refused.stderr
    assert "__main__" in refused.stderr
    assert "Traceback" not in refused.stderr
    (shell.folder / "script.py").unlink()
    gone = durable_command("resume", "signup-ada")
    assert gone.code == 1
    assert "which is gone" in gone.err
    assert shell.ledger == ["charge ada"]


def test_colours_are_for_terminals(shell: Shell) -> None:
    """A terminal gets colours unless NO_COLOR is set; a pipe never does."""
    imported("a")
    assert "\x1b[32msucceeded" in shell.durable_in_terminal("ls")
    assert "\x1b" not in shell.durable_in_terminal("ls", NO_COLOR="1")
    done = shell.durable("show", "import-a")
    assert "succeeded" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    """`durable ls | head -1` says nothing on stderr when the reader has seen enough."""
    imported("a")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "durable", "ls"],
            cwd=shell.folder,
            env=shell.environment,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == ""
