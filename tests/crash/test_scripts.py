"""Scripts that nobody edited, killed with SIGKILL again and again, and started again by the same command."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import durable
from tests.crash.mail_server import KillingMailServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.mail_server import Moment

MAILS, KILLS = 200, 20
NEWSLETTER = """
import os
import smtplib
import sys
from email.message import EmailMessage


def number_of(customer):
    with open("ledger", "a") as ledger:
        ledger.write(f"{customer}\\n")
        ledger.flush()
        os.fsync(ledger.fileno())
    return customer * 7


with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as server:
    for customer in range(int(sys.argv[2])):
        number = number_of(customer)
        print(customer, flush=True)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "shop@x", f"c{customer}@x", f"Invoice {number}"
        message.set_content("Hello")
        server.send_message(message)
"""


def test_a_newsletter_killed_again_and_again(tmp_path: Path) -> None:
    """Killed 20 times, a script sends 200 mails through a real server, each once; doubts are reported, tasks not repeated."""
    (tmp_path / ".durable").mkdir(mode=0o700)
    (tmp_path / "newsletter.py").write_text(NEWSLETTER)
    store = tmp_path / ".durable" / "durable.db"
    dice = random.Random(7)
    moments: list[Moment] = ["before", "after", "later"]
    kills = doubts = 0
    with KillingMailServer() as server:
        command = ("run", "--patch", "smtplib", "--task", "number_of", "newsletter.py", str(server.port), str(MAILS))
        while True:
            process = _start(tmp_path, *command)
            if kills < KILLS:
                server.kill(process.pid, dice.randint(1, 9), dice.choice(moments), dice.random() * 0.004)
            out, words = process.communicate(timeout=60)
            if process.returncode == -signal.SIGKILL:
                kills += 1
                continue
            if process.returncode == 0:
                break
            assert process.returncode == 76, words
            doubts += 1
            _decide(store, words, happened=bool(server.taken[f"c{out.split()[-1]}@x"]))
    assert kills == KILLS
    assert 0 < doubts <= KILLS
    assert server.taken == Counter(f"c{customer}@x" for customer in range(MAILS))
    executed = [int(line) for line in (tmp_path / "ledger").read_text().split()]
    assert executed == sorted(executed)
    assert len(executed) <= MAILS + KILLS
    assert set(executed) == set(range(MAILS))


def _start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "durable", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _decide(store: Path, words: str, *, happened: bool) -> None:
    """Do what the message of a blocked command says, by what the server knows."""
    found = re.search(r"durable resolve (\S+) '?([^' ]+)'? --happened", words)
    assert found is not None, words
    durable.configure(store)
    try:
        durable.get_run(found[1]).resolve(found[2], durable.happened({}) if happened else durable.did_not_happen)
    finally:
        durable.configure(None)
