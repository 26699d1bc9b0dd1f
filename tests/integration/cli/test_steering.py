"""Commands that send messages and pause runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import workflow
from tests.integration.cli.command_line import blocked, executed, failed, imported, reached, released, slow
from tests.patience import until

if TYPE_CHECKING:
    from tests.integration.cli.command_line import CommandLine


@workflow(run_id="approval-{order}")
def approval(order: str) -> Any:
    return durable.wait_for("approved")


def waiting(order: str) -> durable.Run:
    run = approval.start(order)
    until(lambda: run.status == "waiting")
    return run


def test_send(durable_command: CommandLine) -> None:
    """`send` gives a waiting run what its JSON says, and says so; RUN may be the beginning of an id."""
    run = waiting("a")
    assert [line["status"] for line in durable_command("ls", "--json").data] == ["waiting"]
    done = durable_command("send", "approval", "approved", '{"by": ["ada", null]}')
    assert (done.code, done.out) == (0, "")
    assert "'approved' is sent to run approval-a" in done.err
    assert run.result() == {"by": ["ada", None]}


def test_send_without_payload(durable_command: CommandLine) -> None:
    """A message without a payload is null."""
    run = waiting("a")
    assert durable_command("send", "approval-a", "approved").code == 0
    assert run.result() is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("approval-a", "approved", "{"),
        ("approval-a", "approved", "ada"),
        ("approval-a", "approved", ""),
        ("approval-a", "approved", "[" * 100_000),
        ("approval-a", "", "1"),
        ("approval-a",),
        ("approval-b", "approved", "1"),
        ("", "approved", "1"),
    ],
)
def test_messages_that_cannot_be_meant(arguments: tuple[str, ...], durable_command: CommandLine) -> None:
    """Malformed JSON, an empty name or a run that does not exist is a wrong use (2), and nothing is sent."""
    run = waiting("a")
    done = durable_command("send", *arguments)
    assert (done.code, done.out) == (2, "")
    run.send("approved", "right")
    assert run.result() == "right"


def test_send_to_a_run_that_is_over(durable_command: CommandLine) -> None:
    """A run that succeeded takes no message (1)."""
    imported("a")
    done = durable_command("send", "import-a", "approved", "1")
    assert done.code == 1
    assert "import-a is succeeded" in done.err


def test_pause_and_resume(durable_command: CommandLine) -> None:
    """`pause` holds a run at its next step, `show` says how to go on, and `resume` waits for its result."""
    run = slow.start()
    reached.wait()
    done = durable_command("pause", "slow")
    assert (done.code, done.out) == (0, "")
    assert "slow is paused; go on with: durable resume slow" in done.err
    released.set()
    until(lambda: [step.status for step in run.steps] == ["succeeded"])
    shown = durable_command("show", "slow")
    assert "paused" in shown.out
    assert "durable resume slow" in shown.err
    assert executed == ["first"]
    assert durable_command("resume", "slow").data == ["first", "second"]
    assert run.result() == ["first", "second"]


def test_pause_of_runs_that_are_not_under_way(durable_command: CommandLine) -> None:
    """`pause` leaves a run as it is that failed, is blocked or over, and says so."""
    imported("a")
    for run_id, status in (("import-a", "succeeded"), (failed("b"), "failed"), (blocked("c"), "blocked")):
        done = durable_command("pause", run_id)
        assert done.code == 0
        assert f"{run_id} is not under way: {status}" in done.err


def test_cancel_of_a_waiting_run(durable_command: CommandLine) -> None:
    """`cancel` ends a run that waits."""
    run = waiting("a")
    assert durable_command("cancel", "approval-a").code == 0
    with pytest.raises(durable.RunCancelledError):
        run.result()
    assert run.status == "cancelled"
