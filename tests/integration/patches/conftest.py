from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import durable
from tests.receivers import Ledger, held_port, mail_server, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def patched() -> None:
    """The libraries are patched in this process; outside of runs they are what they were."""
    durable.patch("requests", "httpx", "aiohttp", "urllib.request", "smtplib")


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Path:
    """An empty store."""
    path = tmp_path / "durable.db"
    durable.configure(path)
    return path


@pytest.fixture
def ledger() -> Ledger:
    """What a server has received."""
    return Ledger()


@pytest.fixture
def web(ledger: Ledger) -> Iterator[str]:
    """The address of a web server."""
    with web_server(ledger) as address:
        yield address


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on."""
    with held_port() as held:
        yield held.getsockname()[1]


@pytest.fixture
def mail(ledger: Ledger) -> Iterator[int]:
    """The port of a mail server."""
    with mail_server(ledger) as port:
        yield port
