"""A program that knows nothing of runs calls patched libraries and is killed; what the receivers got is the truth."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import smtplib
import time
import urllib.request
from email.message import EmailMessage
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import requests

import durable
from durable.steps.details import Details
from tests.crash.zygote import KILLED
from tests.receivers import Ledger, mail_server, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.zygote import Zygote

KILLS = 12  # at random moments
_EXECUTIONS = 20  # after which a run is taken not to end
_RUN = "program"


def mails(port: int, count: int) -> list[Any]:
    with smtplib.SMTP("127.0.0.1", port) as server:
        return [server.send_message(mail(number)) for number in range(count)]


def mail(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", f"to-{number}@example.com", "Hello"
    message["Message-ID"] = f"<{random.random()}@example.com>"
    message.set_content("text")
    message.add_alternative("<p>text</p>", subtype="html")
    return message


def payments(web: str) -> list[Any]:
    """Pay in each way, as a script would."""
    found: list[Any] = []
    found.append(requests.post(f"{web}/pay/requests", json={"a": 1}, timeout=60).json()["number"])
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {random.random()}"
        found += [session.post(f"{web}/pay/session-{n}", json={}, timeout=60).json()["number"] for n in range(2)]
        with session.post(f"{web}/pay/stream?pieces=30", stream=True, timeout=60) as streamed:
            found.append(list(streamed.iter_lines())[-1].decode())
    found.append(httpx.post(f"{web}/pay/httpx", json={}, verify=False).json()["number"])
    with httpx.stream("POST", f"{web}/pay/httpx-stream?pieces=30", verify=False) as lines:
        found.append(list(lines.iter_lines())[-1])
    with urllib.request.urlopen(f"{web}/pay/urllib", b"{}") as answer:
        found.append(json.load(answer)["number"])
    found += asyncio.run(async_payments(web))
    return found


async def async_payments(web: str) -> list[Any]:
    async with httpx.AsyncClient(base_url=web, verify=False) as client, aiohttp.ClientSession(web) as session:

        async def pay(number: int) -> Any:
            async with session.post(f"/pay/aiohttp-{number}", json={}) as response:
                return (await response.json())["number"]

        paid = [(await client.post("/pay/async", json={})).json()["number"]]
        paid += sorted(await asyncio.gather(*map(pay, range(3))))
        async with session.post("/pay/pieces?pieces=30") as response:
            return [*paid, (await response.text()).splitlines()[-1]]


def execute(folder: str, web: str, port: int, count: int) -> Any:
    """Execute the program as a run, or the rest of it; tells which step is in doubt."""
    with open(f"{folder}/pid", "w") as file:
        file.write(str(os.getpid()))
    durable.configure(f"{folder}/durable.db")
    durable.patch("requests", "httpx", "aiohttp", "urllib.request", "smtplib")
    try:
        with durable.run(_RUN):
            return [payments(web) if web else [], mails(port, count)]
    except durable.StepInDoubtError as doubt:
        return {"doubt": doubt.step_key}


def said(step: durable.StepView) -> str:
    """Give what a step says about whom it reaches."""
    record = durable.get_run(_RUN).find_step(step.key)
    shown = Details.read(record.details).arguments
    return next(shown[name].preview.strip("'") for name in ("url", "recipients") if name in shown)


def resolve(folder: Path, step_key: str, web: Ledger, mailbox: Ledger) -> None:
    """Decide as somebody would who asks the receiver."""
    durable.configure(folder / "durable.db")
    run = durable.get_run(_RUN)
    reached = said(next(step for step in run.steps if step.key == step_key))
    answers = {str(entry.path): number for number, entry in enumerate(web.entries, 1)}
    sent = {", ".join(recipients) for _, recipients, _ in mailbox.entries}
    path = "/" + reached.partition("://")[2].partition("/")[2]
    if path in answers:
        run.resolve(step_key, durable.happened({"number": answers[path]}))
    elif reached in sent:
        run.resolve(step_key, durable.happened({}))
    else:
        run.resolve(step_key, durable.did_not_happen)


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[tuple[Ledger, str, Ledger, int]]:
    """Both receivers: ledger and address of each."""
    web, mailbox = Ledger(tmp_path / "pid"), Ledger(tmp_path / "pid")
    with web_server(web) as address, mail_server(mailbox) as port:
        yield web, address, mailbox, port


def run_to_its_end(
    zygote: Zygote, folder: Path, ledgers: tuple[Ledger, str, Ledger, int], count: int, **blow: Any
) -> int:
    """Start the program until it ends, deciding doubts; gives the number of kills."""
    web, address, mailbox, port = ledgers
    kills = 0
    for _ in range(_EXECUTIONS):
        outcome = zygote.run(execute, str(folder), address, port, count, **blow)
        if outcome == KILLED:
            kills += 1
        elif isinstance(outcome, dict):
            resolve(folder, outcome["doubt"], web, mailbox)
        else:
            return kills
    raise AssertionError("the program does not end")


@pytest.mark.parametrize("kill_at", range(1, 26))
def test_killed_at_every_request(
    kill_at: int, zygote: Zygote, tmp_path: Path, ledgers: tuple[Ledger, str, Ledger, int]
) -> None:
    """The receiver kills the program before or after an effect: after the restart every payment was made exactly once."""
    web, mailbox = ledgers[0], ledgers[2]
    web.kill_at = mailbox.kill_at = kill_at
    kills = run_to_its_end(zygote, tmp_path, ledgers, count=2)
    paths = [entry.path for entry in web.entries]
    assert len(paths) == len(set(paths)) == 12
    assert len(mailbox.entries) == 2
    assert kills == (2 if kill_at <= 4 else kill_at <= 24)


def test_killed_at_random(zygote: Zygote, tmp_path: Path, ledgers: tuple[Ledger, str, Ledger, int]) -> None:
    """Killed wherever it is, also while it records: every payment was made exactly once."""
    web, address, mailbox, port = ledgers
    chance, lasts, kills = random.Random(3), 0.3, 0
    for number in count():
        if kills >= KILLS:
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        web.entries.clear()
        mailbox.entries.clear()
        for _ in range(4):
            begun = time.monotonic()
            blow = chance.uniform(0, lasts), signal.SIGKILL
            outcome = zygote.run(execute, str(folder), address, port, 2, blow=blow)
            if outcome == KILLED:
                kills += 1
            elif isinstance(outcome, dict):
                resolve(folder, outcome["doubt"], web, mailbox)
            else:
                lasts = time.monotonic() - begun  # the machine may be less busy than it was
                break
        run_to_its_end(zygote, folder, ledgers, 2)
        paths = [entry.path for entry in web.entries]
        assert len(paths) == len(set(paths)) == 12
        assert len(mailbox.entries) == 2


@pytest.mark.slow
def test_mails_of_a_program_that_is_killed_at_random(zygote: Zygote, tmp_path: Path) -> None:
    """A hundred mails, killed before or after ten random ones were taken: nobody gets two, and nobody gets none."""
    mailbox, chance, kills = Ledger(tmp_path / "pid"), random.Random(7), 0
    with mail_server(mailbox) as port:
        while kills < 10:
            mailbox.kill_at = mailbox.events + chance.randint(1, 16)
            outcome = zygote.run(execute, str(tmp_path), "", port, 100)
            kills += outcome == KILLED
            if isinstance(outcome, dict):
                resolve(tmp_path, outcome["doubt"], Ledger(), mailbox)
        mailbox.kill_at = 0
        run_to_its_end(zygote, tmp_path, (Ledger(), "", mailbox, port), 100)
    reached = [recipients for _, recipients, _ in mailbox.entries]
    assert len(reached) == len(set(reached)) == 100
