"""The `durable` command, called in this process, and workflows for it to work on."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import durable
from durable import task, workflow
from durable.cli import main

if TYPE_CHECKING:
    import pytest

executed: list[str] = []
fails: list[bool] = []


class Done(NamedTuple):
    """What a command gave: exit code, data and words for people."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Calls the command as a shell would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["durable", *arguments])
        self._capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        assert isinstance(code, int)
        return Done(code, *self._capsys.readouterr())


@task
def fetch(page: int) -> list[int]:
    executed.append(f"fetch {page}")
    return [page, page + 1]


@task(key="{row}")
def load(row: str) -> str:
    executed.append(f"load {row}")
    if fails:
        raise ConnectionError("no [red]route[/red]\nto host")
    return row.upper()


@workflow(run_id="import-{name}")
def imported(name: str) -> dict[str, Any]:
    """Fail in the second of two steps as long as `fails` holds something."""
    return {"rows": fetch(1), "loaded": load(name)}


@task(idempotent=False, key="{order}")
def pay(order: str) -> str:
    executed.append(f"pay {order}")
    if fails:
        raise TimeoutError("no answer")
    return "paid"


@workflow(run_id="checkout-{order}")
def checkout(order: str) -> str:
    """Leave a payment in doubt as long as `fails` holds something."""
    fetch(1)
    return pay(order)


@workflow(run_id="outer-{name}")
def outer(name: str) -> str:
    """Call a workflow, then fail as long as `fails` holds something."""
    return load(inner(name))


@workflow
def inner(name: str) -> str:
    executed.append("inner")
    return name


@workflow(run_id="slow")
def slow() -> list[str]:
    return [waits("first"), waits("second")]


reached, released = threading.Event(), threading.Event()


@task
def waits(name: str) -> str:
    executed.append(name)
    reached.set()
    released.wait()
    return name


def failed(name: str) -> str:
    """Leave a run that failed after one step; gives its id."""
    fails[:] = [True]
    try:
        imported(name)
    except ConnectionError:
        fails.clear()
        return f"import-{name}"
    raise AssertionError("did not fail")


def blocked(order: str) -> str:
    """Leave a run that is blocked by a payment in doubt; gives its id."""
    fails[:] = [True]
    for expected in (TimeoutError, durable.StepInDoubtError):
        try:
            checkout(order)
        except expected:
            continue
        raise AssertionError("did not fail")
    fails.clear()
    return f"checkout-{order}"


def failed_outer(name: str) -> str:
    """Leave a run that failed after the workflow that it called succeeded; gives its id."""
    fails[:] = [True]
    try:
        outer(name)
    except ConnectionError:
        fails.clear()
        return f"outer-{name}"
    raise AssertionError("did not fail")
