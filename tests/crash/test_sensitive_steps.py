"""What a sensitive step says is in no file of the store, whatever it ends with and whoever passes it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from typing import Any

    from tests.crash.scenes import Scene

CANARY = "canary-4711"


class RefusedError(Exception):
    """Says why."""


@task(sensitive=True, key="{token}")
def log_in(token: str) -> None:
    did("log in")
    raise RefusedError(f"{token} is not known")


@task
def open_account(number: int) -> None:
    log_in(CANARY)


@workflow
def lets_it_pass() -> None:
    log_in(CANARY)


@workflow
def passes_through_a_step() -> None:
    open_account(1)


@workflow
def wraps_it() -> None:
    try:
        open_account(1)
    except RefusedError as error:
        raise RuntimeError(f"could not open: {error}") from error


@workflow
def calls_another() -> None:
    wraps_it()


@workflow
def groups_it() -> None:
    errors = []
    try:
        log_in(CANARY)
    except RefusedError as error:
        errors.append(error)
    raise ExceptionGroup(f"all failed, {CANARY}", errors)


@pytest.mark.parametrize(
    ("program", "raised"),
    [
        (lets_it_pass, "RefusedError"),
        (passes_through_a_step, "RefusedError"),
        (wraps_it, "RuntimeError"),
        (calls_another, "RuntimeError"),
        (groups_it, "ExceptionGroup"),
    ],
)
def test_the_text_of_a_sensitive_failure_is_not_stored(scene: Scene, program: Any, raised: str) -> None:
    """A failed sensitive step leaves its type, not its text, in its own record, those of the steps around it and the run's."""
    for starts in (1, 2):
        assert scene.start(program).error == raised
        assert scene.ledger == ["log in"] * starts
    stored = [path for path in scene.db.parent.rglob("*") if path.is_file()]
    assert scene.db in stored
    assert [path.name for path in stored if CANARY.encode() in path.read_bytes()] == []
