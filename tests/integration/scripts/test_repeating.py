"""What a program has done is not done again, however its command is repeated."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

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
