from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import durable
from durable import workflow
from tests.integration.cli.command_line import (
    blocked,
    executed,
    failed,
    failed_outer,
    fails,
    imported,
    inner,
    load,
    reached,
    released,
    slow,
)

if TYPE_CHECKING:
    from tests.integration.cli.command_line import CommandLine


def test_rm_removes_a_run(durable_command: CommandLine) -> None:
    """`rm` removes a run, finished or not; the same call is a new run."""
    imported("a")
    failed("b")
    for run in ("import-a", "import-b"):
        assert durable_command("rm", run).code == 0
    assert durable_command("ls", "--json").data == []
    executed.clear()
    imported("a")
    assert executed == ["fetch 1", "load a"]


@workflow
def renewed(name: str) -> str:
    return inner(name) + str(imported(name)["loaded"])


@workflow(run_id="renewing")
def renewing() -> str:
    return renewed("a")


def test_a_run_goes_with_the_runs_that_it_called(durable_command: CommandLine) -> None:
    """`rm` removes what a run had called with it, so that called again it does everything again; a workflow with a `run_id=`
    stays, and the command says so."""
    renewing()
    assert len(ids()) == 4
    done = durable_command("rm", "renewing")
    assert "with 2 runs that it called" in done.err
    assert "durable rm import-a" in done.err
    assert ids() == {"import-a"}
    executed.clear()
    renewing()
    assert executed == ["inner"]


def test_gc_removes_what_a_run_called_with_it(durable_command: CommandLine) -> None:
    """`gc` removes with a finished run the runs that it had called, also a failed one that it had done without."""
    fails[:] = [True]
    without()
    fails.clear()
    assert len(ids()) == 2
    would = durable_command("gc", "--older-than", "0s", "--dry-run", "--json").data["would_remove"]
    assert set(would) == ids()
    assert durable_command("gc", "--older-than", "0s", "--json").data["removed"] == would
    assert ids() == set()


@workflow
def failing() -> str:
    return load("a")


@workflow(run_id="without")
def without() -> str:
    try:
        return failing()
    except ConnectionError:
        return "without"


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs of a test be recorded forty days ago."""
    with monkeypatch.context() as context:
        now = durable.runs.sessions.clock()
        context.setattr("durable.runs.sessions.clock", lambda: now - 40 * 86_400)
        imported("old")
        failed("old-failed")
        blocked("old-blocked")
        failed_outer("old")
        failed("old-cancelled")
        durable.get_run("import-old-cancelled").cancel()
    imported("new")


UNFINISHED = {"import-old-failed", "checkout-old-blocked", "outer-old", "import-old-cancelled"}


def ids() -> set[str]:
    return {run.id for run in durable.list_runs()}


@pytest.mark.usefixtures("ages")
def test_gc_keeps_what_is_unfinished_or_young(durable_command: CommandLine) -> None:
    """`gc` removes old finished runs only, and keeps the result of one that an unfinished run called."""
    [child] = [run.id for run in durable.list_runs(parent="outer-old")]
    done = durable_command("gc", "--older-than", "30d", "--json")
    assert done.data == {"removed": ["import-old"], "would_remove": []}
    assert ids() == UNFINISHED | {child, "import-new"}
    executed.clear()
    assert durable_command("resume", "outer-old").code == 0
    assert executed == ["load old"]


@pytest.mark.usefixtures("ages")
def test_gc_removes_unfinished_runs_if_asked(durable_command: CommandLine) -> None:
    """`--unfinished` also removes failed, cancelled and blocked runs of that age."""
    done = durable_command("gc", "--older-than", "30d", "--unfinished", "--json")
    assert set(done.data["removed"]) >= UNFINISHED | {"import-old"}
    assert ids() == {"import-new"}


@pytest.mark.usefixtures("ages")
def test_gc_can_say_only(durable_command: CommandLine) -> None:
    """`--dry-run` removes nothing."""
    before = ids()
    assert durable_command("gc", "--older-than", "30d", "--dry-run", "--json").data == {
        "removed": [],
        "would_remove": ["import-old"],
    }
    assert "1 run would be removed" in durable_command("gc", "--older-than", "30d", "--dry-run").err
    assert ids() == before


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30x", "", "1e3d", "nan d"])
def test_gc_takes_ages_only(age: str, durable_command: CommandLine) -> None:
    """What is not an age exits with 2 and removes nothing."""
    imported("a")
    assert durable_command("gc", "--older-than", age).code == 2
    assert durable_command("gc").code == 2
    assert ids() == {"import-a"}


def test_gc_leaves_running_runs_alone(durable_command: CommandLine) -> None:
    """A run under way is not removed, whatever is asked for."""
    run = slow.start()
    reached.wait()
    assert durable_command("gc", "--older-than", "0s", "--unfinished", "--json").data["removed"] == []
    released.set()
    assert run.result() == ["first", "second"]
