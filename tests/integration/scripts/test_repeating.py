"""What a program has done is not done again, however its command is repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripts.programs import DURABLE

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder

PAYING = """
    import os, signal

    def pay(item):
        with open("ledger", "a") as ledger:
            ledger.write(f"{item}\\n")
        if item == "last":
            raise ConnectionError("no answer")

    pay("first")
    try:
        pay("last")
    except ConnectionError as error:
        print("went on:", error)
    if os.path.exists("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def ledger(folder: Folder) -> list[str]:
    return (folder.path / "ledger").read_text().split()


def test_a_replay_that_is_killed(folder: Folder) -> None:
    """The last payment failed, which the program handled before it succeeded: killed in a replay, it still is handled."""
    folder.write("pay.py", PAYING)
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"pay.py:pay" = {idempotent = false}\n')
    assert folder.run("pay.py").returncode == 0
    folder.write("kill", "")
    for _ in range(2):
        assert folder.run("pay.py").returncode == -signal.SIGKILL
    (folder.path / "kill").unlink()
    replayed = folder.run("pay.py")
    assert (replayed.returncode, replayed.stdout) == (0, "went on: no answer\n"), replayed.stderr
    assert ledger(folder) == ["first", "last"]


def test_options_that_were_forgotten(folder: Folder) -> None:
    """A command without the `--task` or `--patch` that its run was begun with would do all again: it is refused."""
    folder.write("mail.py", "import os\n\ndef mail(to):\n    open('ledger', 'a').write(f'{to}\\n')\n\nmail('ada')\n")
    options = ("--task", "mail", "--task", "os.path:basename", "--patch", "smtplib")
    assert folder.run(*options, "mail.py").returncode == 0
    for given, missing in (
        ((), "--task mail --task os.path:basename --patch smtplib"),
        (options[:4], "--patch smtplib"),
        (options[2:], "--task mail"),
    ):
        refused = folder.run(*given, "mail.py")
        assert refused.returncode == 1
        assert f"was begun with {missing}, by options or" in refused.stderr
    folder.write("pyproject.toml", '[tool.durable]\npatch = ["smtplib"]\n[tool.durable.tasks]\n"mail.py:mail" = {}\n')
    assert folder.run("--task", "os.path:basename", "mail.py").returncode == 0
    assert ledger(folder) == ["ada"]


def test_a_task_that_has_another_name_now(folder: Folder) -> None:
    """What the program does not define any more need not be named; a function that is decorated now is a task by itself."""
    program = "from durable import task\n{}def {}(to):\n    open('ledger', 'a').write(f'{{to}}\\n')\n\n{}('ada')\n"
    folder.write("mail.py", program.format("", "mail", "mail"))
    assert folder.run("--task", "mail", "mail.py").returncode == 0
    folder.write("mail.py", program.format("", "send", "send"))
    assert folder.run("--task", "send", "mail.py").returncode == 0
    folder.write("mail.py", program.format("@task\n", "mail", "mail"))
    assert folder.run("mail.py").returncode == 0
    assert ledger(folder) == ["ada", "ada"]


STOPPED = """
    import os, signal, sys

    def stop(*_):
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)

    def mail(to):
        if to == "bob" and os.path.exists("stop"):
            os.kill(os.getpid(), getattr(signal, open("stop").read()))
        with open("ledger", "a") as ledger:
            ledger.write(f"{to}\\n")
        if to == "eve":
            raise ConnectionError

    try:
        for to in ("ada", "bob", sys.argv[1]):
            mail(to)
    except (KeyboardInterrupt, ConnectionError):
        sys.exit(0)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_program_that_stops_when_it_is_asked_to(folder: Folder, name: str) -> None:
    """A step that a signal interrupted has not ended, though the program exits with 0: the same command goes on with it."""
    folder.write("mail.py", STOPPED)
    folder.write("stop", name)
    command = ("--task", "mail", "mail.py", "cyd")
    stopped = folder.run(*command)
    assert (stopped.returncode, "stopped in a step; what is recorded stays" in stopped.stderr) == (0, True)
    (folder.path / "stop").unlink()
    assert folder.run(*command).returncode == 0
    assert "succeeded: 3 replayed, 0 executed" in folder.run(*command).stderr
    assert ledger(folder) == ["ada", "bob", "cyd"]


def test_a_program_that_exits_after_an_error_that_it_handled(folder: Folder) -> None:
    """An exit with 0 after a step that failed is a success: the failure is the program's own affair."""
    folder.write("mail.py", STOPPED)
    for said in ("", "succeeded: 3 replayed, 0 executed"):
        ended = folder.run("--task", "mail", "mail.py", "eve")
        assert (ended.returncode, said in ended.stderr) == (0, True)
    assert ledger(folder) == ["ada", "bob", "eve"]


def test_nobody_reads_what_is_said(folder: Folder) -> None:
    """A program whose stderr cannot be written to, since its reader has gone, is resumed and replayed all the same."""
    folder.write("pay.py", PAYING.replace('if item == "last"', 'if os.path.exists("fail")'))
    folder.write("fail", "")
    for code in (1, 0, 0):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, *DURABLE, "run", "--task", "pay", "pay.py"]
        ended = subprocess.run(
            command, cwd=folder.path, stderr=writer, stdout=subprocess.DEVNULL, check=False, timeout=60
        )
        os.close(writer)
        assert ended.returncode == code
        (folder.path / "fail").unlink(missing_ok=True)
    assert ledger(folder) == ["first", "first", "last"]


def test_a_program_that_is_started_in_another_folder(folder: Folder) -> None:
    """Where another store counts, a program begins anew: that there is one beside the program is said, with the way there."""
    folder.write("jobs/pay.py", PAYING)
    folder.write("elsewhere/.git/config", "")
    assert "another store" not in folder.run("--task", "pay", "jobs/pay.py").stderr
    program = str(folder.path / "jobs" / "pay.py")
    said = folder.durable("run", "--task", "pay", program, cwd="elsewhere").stderr
    assert "another store" not in said  # that of the parent folder counts here, too
    (folder.path / "elsewhere" / ".durable").mkdir(mode=0o700)
    begun = folder.durable("run", "--task", "pay", program, cwd="elsewhere").stderr
    store = folder.path / ".durable" / "durable.db"
    assert f"There is another store beside the program, {store}: what" in begun
    assert "another store" not in folder.durable("run", "--task", "pay", program, cwd="elsewhere").stderr
    assert "another store" not in folder.durable("--db", str(store), "run", "--task", "pay", "jobs/pay.py").stderr
    assert len(ledger(folder)) == 2


SHOP = """
    import os, subprocess, sys
    import durable, helper
    from durable import workflow

    @workflow
    def order(n: int):
        subprocess.run([sys.executable, "-c", "open('ledger', 'a').write('program ')"])
        helper.charge(n)
        if os.path.exists("fail"):
            raise ValueError("later")
        return n

    if __name__ == "__main__":
        durable.patch("subprocess")
        durable.patch("helper:charge", idempotent=False)
        order(1)
"""


@pytest.mark.parametrize("words", [("run", "shop:order", "--arg", "n=1"), ("shop.py",)], ids=["command", "script"])
def test_what_was_patched_is_patched_when_a_workflow_is_resumed(folder: Folder, words: tuple[str, ...]) -> None:
    """`durable resume` makes tasks of what was made tasks when the run was begun; a command that forgets it is refused."""
    folder.write("shop.py", SHOP)
    folder.write("helper.py", "def charge(n):\n    open('ledger', 'a').write(f'{n} ')\n")
    folder.write("fail", "")
    options = ("--patch", "subprocess", "--task", "helper:charge") if words[0] == "run" else ()
    start = (*DURABLE, words[0], *options, *words[1:]) if options else words
    assert folder.python(*start).returncode == 1
    (folder.path / "fail").unlink()
    if options:
        refused = folder.python(*DURABLE, *words)
        assert "was begun with --task helper:charge --patch subprocess, by" in refused.stderr
    run_id = json.loads(folder.durable("ls", "--json").stdout)[0]["id"]
    resumed = folder.durable("--db", str(folder.path / ".durable" / "durable.db"), "resume", run_id)
    assert (resumed.returncode, "2 replayed, 0 executed" in resumed.stderr) == (0, True), resumed.stderr
    assert ledger(folder) == ["program", "1"]


RESUMES = """
    import sys
    import durable, shop
    if "patch" in sys.argv:
        durable.patch("subprocess")
        durable.patch("helper:charge", idempotent=False)
    if "api" in sys.argv:
        durable.list_runs(workflow="shop.order")[0].resume()
    else:
        shop.order(1)
"""


def test_code_that_resumes_a_run_patches_what_was_patched(folder: Folder) -> None:
    """A run that was begun under `--patch` is not resumed by code that patched nothing, which would do all again; what is
    over is given, and what was patched and not used is not asked for."""
    folder.write("shop.py", SHOP)
    folder.write("helper.py", "def charge(n):\n    open('ledger', 'a').write(f'{n} ')\n")
    folder.write("resume.py", RESUMES)
    folder.write("fail", "")
    options = ("--patch", "subprocess", "--task", "helper:charge", "--patch", "smtplib")
    assert folder.run(*options, "shop:order", "--arg", "n=1").returncode == 1
    (folder.path / "fail").unlink()
    for how in ("api", "call"):
        refused = folder.python("resume.py", how)
        assert "had patched helper:charge, subprocess, smtplib, which this one has not" in refused.stderr
        assert "with durable.patch('helper:charge'), resume the run with: durable resume order-" in refused.stderr
    resumed = folder.python("resume.py", "api", "patch")
    assert (resumed.returncode, "2 replayed, 0 executed" in resumed.stderr) == (0, True), resumed.stderr
    assert folder.python("resume.py", "call").returncode == 0
    assert ledger(folder) == ["program", "1"]


READING = {
    "script": "for page in pages():\n    break\n",
    "loop": "import asyncio\nasync def read():\n    for page in pages():\n        break\nasyncio.run(read())\n",
}


@pytest.mark.parametrize("kind", READING)
def test_a_generator_that_was_left_has_ended(folder: Folder, kind: str) -> None:
    """A generator that a program reads as far as it wants has ended then, and not only with the program."""
    folder.write(
        "read.py",
        "import os, signal\ndef pages():\n    open('ledger', 'a').write('read\\n')\n    yield 1\n    yield 2\n"
        f"{READING[kind]}if os.path.exists('kill'):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"read.py:pages" = {idempotent = false}\n')
    folder.write("kill", "")
    assert folder.run("read.py").returncode == -signal.SIGKILL
    (folder.path / "kill").unlink()
    resumed = folder.run("read.py")
    assert (resumed.returncode, ledger(folder)) == (0, ["read"]), resumed.stderr
