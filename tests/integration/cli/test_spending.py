"""What was spent, on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.integration.cli.command_line import executed, fails

if TYPE_CHECKING:
    from tests.integration.cli.command_line import CommandLine


@task
def buy(item: str, usd: float) -> str:
    executed.append(item)
    durable.spend(usd=usd, items=1)
    if fails:
        fails.pop()
        raise ConnectionError
    return item


@workflow(run_id="pack-{name}")
def pack(name: str) -> str:
    return buy(name, 0.25)


@workflow(run_id="shop", budget=2)
def shop() -> list[str]:
    return [buy("a", 1), pack("b"), buy("c", 1.5), buy("d", 0.125)]


def spent_out() -> None:
    with pytest.raises(durable.BudgetExceededError):
        shop()


def test_costs_add_up(durable_command: CommandLine) -> None:
    """Each amount counts once, by task, workflow or day, of one run with those that it called, or of all."""
    spent_out()
    pack("other")
    by_task = durable_command("costs", "--json").data
    assert by_task["by"] == "task"
    assert by_task["groups"] == [{"task": f"{__name__}.buy", "steps": 4, **by_task["total"]}]
    assert by_task["total"] == {"usd": 3.0, "units": {"items": 4}, "unknown": 0}
    by_workflow = durable_command("costs", "shop", "--by", "workflow", "--json").data
    assert [(each["workflow"].rpartition(".")[2], each["usd"]) for each in by_workflow["groups"]] == [
        ("shop", 2.5),
        ("pack", 0.25),
    ]
    by_day = durable_command("costs", "--by", "day", "--json").data
    assert [each["day"] for each in by_day["groups"]][:1] <= [time.strftime("%Y-%m-%d")]
    shown = durable_command("costs", "shop").out.splitlines()
    assert shown[-1].split() == ["total", "3", "$2.75", "3", "items"]


def test_nothing_was_spent(durable_command: CommandLine) -> None:
    """Where nothing was spent nothing is listed."""
    assert (durable_command("costs").code, durable_command("costs").out) == (0, "")
    assert durable_command("costs", "--json").data["groups"] == []
    assert durable_command("costs", "nothing").code == 2


def test_a_spent_budget_has_an_exit_code_of_its_own(durable_command: CommandLine) -> None:
    """Resuming says what is spent, with exit code 77; with a higher budget it goes on, and the run keeps that."""
    spent_out()
    refused = durable_command("resume", "shop")
    assert (refused.code, executed) == (77, ["a", "b", "c"])
    assert "has spent $2.75 of its budget of $2.00" in refused.err
    assert durable_command("resume", "shop", "--budget", "2.8").code == 0
    assert executed[3:] == ["d"]


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "much", ""])
def test_wrong_budgets_execute_nothing(durable_command: CommandLine, budget: str) -> None:
    """A budget that is no positive number is a wrong use of the command."""
    spent_out()
    executed.clear()
    refused = durable_command("resume", "shop", "--budget", budget)
    assert (refused.code, executed) == (2, [])
    assert "US dollars" in refused.err


def test_show_and_ls_say_what_was_spent_and_saved(durable_command: CommandLine) -> None:
    """Costs of the run and of its steps are shown, with what its last execution did not spend again."""
    fails.append(True)
    with pytest.raises(ConnectionError):
        pack("x")
    fails.append(True)
    with pytest.raises(ConnectionError):
        pack("x")
    assert pack("x") == "x"
    shown = durable_command("show", "pack-x")
    assert "cost $0.75, 3 items" in shown.out
    assert "last execution: 1 executed, $0.25 spent" in shown.out
    data = durable_command("show", "pack-x", "--json").data
    assert data["cost"] == data["steps"][0]["cost"] == {"usd": 0.75, "units": {"items": 3}, "unknown": 0}
    assert data["last_execution"]["spent"]["usd"] == 0.25
    spent_out()
    durable_command("resume", "shop", "--budget", "9")
    listed = {run["id"]: run for run in durable_command("ls", "--json").data}
    assert listed["shop"]["cost"]["usd"] == 2.875
    assert listed["shop"]["last_execution"]["saved"]["usd"] == 2.75
    assert "$2.75" in durable_command("ls").out
