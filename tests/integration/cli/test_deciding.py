from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.command_line import blocked, executed

if TYPE_CHECKING:
    from tests.integration.cli.command_line import CommandLine


@pytest.mark.parametrize(
    ("decision", "result", "payments"), [(["--happened", '"cheque"'], "cheque", 1), (["--did-not-happen"], "paid", 2)]
)
def test_resolve_decides_a_doubt(decision: list[str], result: str, payments: int, durable_command: CommandLine) -> None:
    """A payment that happened returns the given result and is not made again; one that did not is made."""
    run = blocked("c")
    decided = durable_command("resolve", run, "pay", *decision)
    assert (decided.code, decided.out) == (0, "")
    assert "durable resume checkout-c" in decided.err
    shown = durable_command("show", run)
    assert "durable resume checkout-c" in shown.err
    assert "in doubt" not in shown.out
    assert "not idempotent" not in shown.out
    assert durable_command("resume", run).data == result
    assert executed.count("pay c") == payments


def test_resolve_refuses_what_is_no_decision(durable_command: CommandLine) -> None:
    """No verdict, both verdicts, what is not JSON, and a step that needs no decision exit with 2 and change nothing."""
    run = blocked("c")
    before = durable_command("show", run, "--json").out
    for decision in (
        ["pay"],
        ["pay", "--happened", "1", "--did-not-happen"],
        ["pay", "--happened", "{not json"],
        ["pay", "--happened"],
        ["fetch", "--happened", "1"],
        ["fetch", "--did-not-happen"],
    ):
        refused = durable_command("resolve", run, *decision)
        assert (refused.code, refused.out) == (2, ""), decision
    assert durable_command("show", run, "--json").out == before


def test_resolve_of_an_unknown_step_names_those_in_doubt(durable_command: CommandLine) -> None:
    """A step that is not there is refused with the steps in doubt."""
    refused = durable_command("resolve", blocked("c"), "payment", "--did-not-happen")
    assert refused.code == 2
    assert "steps in doubt: pay:c." in refused.err


def test_a_step_is_named_by_its_number(durable_command: CommandLine) -> None:
    """`#number` names a step, any JSON is its result, and what is decided and used stays decided."""
    run = blocked("c")
    steps = durable_command("show", run, "--json").data["steps"]
    [number] = [step["number"] for step in steps if step["in_doubt"]]
    assert durable_command("resolve", run, f"#{number}", "--happened", '{"paid": [1, null]}').code == 0
    assert [step["in_doubt"] for step in durable_command("show", run, "--json").data["steps"]] == [False, False]
    assert durable_command("resume", run).data == {"paid": [1, None]}
    assert durable_command("resolve", run, "pay", "--did-not-happen").code == 2
