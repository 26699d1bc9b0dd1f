"""No secret that a program hands around is in any file or output, but what its tasks returned and did not mark sensitive."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash import secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
COMMANDS = """
import sys
from durable.cli import main

for words in ("ls", "show main", "show main --json", "costs", "graph main", "show async", "explain main #1 --json"):
    sys.argv[1:] = words.split()
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code or 0)
"""
_CANARY = re.compile(rb"canary\d{3}!")
_ENCODED = re.compile(rb"[A-Za-z0-9!#$%&()*+\-;<=>?@^_`{|}~/]{30,}")


def start(folder: Path, *arguments: str, **environ: str) -> str:
    """Start a command over the store; gives all that it printed."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "DURABLE_DB": str(folder / "store" / "durable.db"),
            "DURABLE_EVENTS": str(folder / "events"),
            "LEDGER": str(folder / "ledger"),
            "LOG": str(folder / "log"),
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def hidden_in(data: bytes) -> Iterator[bytes]:
    """Give the data, and what is written in it in base64 or base85."""
    yield data
    for found in _ENCODED.findall(data):
        for decode in (base64.b64decode, base64.b85decode):
            for end in range(len(found), max(len(found) - 5, 0), -1):
                with contextlib.suppress(ValueError):
                    yield decode(found[:end])
                    break


def found_in(*texts: bytes) -> set[bytes]:
    return {canary for text in texts for data in hidden_in(text) for canary in _CANARY.findall(data)}


@pytest.mark.parametrize("key", ["", "a secret key of this project"])
def test_200_secrets_are_nowhere(tmp_path: Path, key: str) -> None:
    """Killed, failed, resumed, forked, snapshot, listed and drawn, with and without a secret key: not one of them shows."""
    environ = {"DURABLE_SECRET_KEY": key} if key else {}
    python, program = sys.executable, ("-m", "tests.crash.secrets")
    start(tmp_path, python, *program, START="first", KILL_AT="before the end", **environ)
    said = [start(tmp_path, python, *program, START="first", **environ)]
    said.append(start(tmp_path, python, *program, **environ))
    made = [int(line) for text in said for line in text.splitlines() if line.isdigit()]
    assert min(made) >= 200, said[0][-2000:]
    said.append(start(tmp_path, python, "-c", COMMANDS, **environ))
    assert "Traceback" not in said[-1]
    assert said[-1].count("exit code 0\n") == 7, said[-1]
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"durable.db", "events", "log", "ledger"} <= files.keys()
    assert {name: sorted(found) for name, data in files.items() if (found := found_in(data))} == {}
    assert found_in("\n".join(said).encode()) == set()


def test_the_search_finds_what_is_there() -> None:
    """Secrets are found as they are, in base64 and in base85."""
    canary = secrets.secret().encode()
    for text in (canary, base64.b64encode(b"x" * 30 + canary), base64.b85encode(b"x" * 30 + canary)):
        assert found_in(b'"' + text + b'"') == {canary}
