from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

import durable
from durable import task, workflow
from tests.integration.cli import command_line
from tests.integration.cli.command_line import (
    CommandLine,
    blocked,
    executed,
    failed,
    fails,
    imported,
    reached,
    released,
    slow,
)


def status(run_id: str) -> str:
    return durable.get_run(run_id).status


def test_resume_executes_what_is_left(durable_command: CommandLine) -> None:
    """`resume` executes the rest of a run, prints its result as JSON and exits with 0."""
    failed("b")
    executed.clear()
    done = durable_command("resume", "import-b")
    assert (done.code, done.data) == (0, {"rows": [1, 2], "loaded": "B"})
    assert executed == ["load b"]
    assert "resuming run import-b" in done.err


def test_resume_of_a_finished_run_returns_its_stored_result(durable_command: CommandLine) -> None:
    """`resume` of a run that succeeded prints the stored result and executes nothing."""
    imported("a")
    executed.clear()
    done = durable_command("resume", "import-a")
    assert (done.code, done.data) == (0, {"rows": [1, 2], "loaded": "A"})
    assert executed == []


def test_resume_of_a_run_that_fails_again(durable_command: CommandLine) -> None:
    """A run that fails again shows the user's traceback without frames of ours, how to go on, and exits with 1."""
    failed("b")
    fails[:] = [True]
    done = durable_command("resume", "import-b")
    assert (done.code, done.out) == (1, "")
    assert "ConnectionError: no [red]route[/red]\nto host\n" in done.err
    assert "command_line.py" in done.err
    assert f"{Path(durable.__file__).parent}" not in done.err
    assert done.err.endswith("Resume it with: durable resume import-b\n")
    assert status("import-b") == "failed"


def test_the_way_out_is_quoted_for_a_shell(durable_command: CommandLine) -> None:
    """An id that a shell would take apart is quoted in the command that a message offers."""
    failed("b c")
    fails[:] = [True]
    assert durable_command("resume", "import-b").err.endswith("durable resume 'import-b c'\n")


def test_resume_of_a_blocked_run(durable_command: CommandLine) -> None:
    """A run that is blocked in doubt exits with 76, executes nothing and names the command that decides."""
    run = blocked("c")
    executed.clear()
    done = durable_command("resume", run)
    assert (done.code, done.out) == (76, "")
    assert "durable resolve checkout-c pay:c --happened" in done.err
    assert executed == []


@task
def flaky(name: str) -> str:
    executed.append(name)
    if fails:
        raise ConnectionError(name)
    return name


@workflow(run_id="handled")
def handled() -> list[str]:
    results = []
    for name in ("a", "b"):
        try:
            results.append(flaky(name))
        except ConnectionError:
            results.append("handled")
    flaky("last")
    return results


def test_retry_failed_tries_every_failed_step_again(durable_command: CommandLine) -> None:
    """`--retry-failed` also tries the failures again that the workflow handled; without it they are replayed."""
    fails[:] = [True]
    with pytest.raises(ConnectionError):
        handled()
    assert durable_command("resume", "handled").code == 1
    assert executed == ["a", "b", "last", "last"]
    fails.clear()
    executed.clear()
    assert durable_command("resume", "handled", "--retry-failed").data == ["a", "b"]
    assert executed == ["a", "b", "last"]


@task(idempotent=False)
def send(text: str) -> str:
    executed.append(text)
    return text


@workflow(run_id="drifted")
def drifted() -> str:
    sent = send(texts[-1])
    if fails:
        raise ConnectionError
    return sent


texts: list[str] = []


@pytest.mark.parametrize(
    ("option", "code", "result", "sent"),
    [
        ((), 1, None, ["old"]),
        (("--on-drift", "error"), 1, None, ["old"]),
        (("--on-drift", "run"), 0, "new", ["old", "new"]),
        (("--on-drift", "reuse"), 0, "old", ["old"]),
    ],
)
@pytest.mark.filterwarnings("ignore::durable.DurableWarning")
def test_on_drift_decides_about_changed_inputs(
    option: tuple[str, ...], code: int, result: str | None, sent: list[str], durable_command: CommandLine
) -> None:
    """`--on-drift` says what becomes of a call whose inputs changed: an error, a new call, or the recorded result."""
    texts[:] = ["old"]
    fails[:] = [True]
    with pytest.raises(ConnectionError):
        drifted()
    fails.clear()
    texts[:] = ["new"]
    done = durable_command("resume", "drifted", *option)
    assert (done.code, executed) == (code, sent)
    if code:
        assert "send" in done.err
        assert "on_drift='reuse' (durable resume drifted --on-drift reuse)" in done.err
    else:
        assert done.data == result


def test_fresh_executes_everything_again(durable_command: CommandLine) -> None:
    """`--fresh` executes a finished run again as a new one with the same inputs."""
    imported("a")
    executed.clear()
    assert durable_command("resume", "import-a", "--fresh").code == 0
    assert executed == ["fetch 1", "load a"]
    assert [run["id"] for run in durable_command("ls", "--json").data] == ["import-a~2", "import-a"]


@workflow(run_id="async-{name}")
async def fetched(name: str) -> str:
    return await answer(name)


@task
async def answer(name: str) -> str:
    executed.append(name)
    if fails:
        raise ConnectionError
    return name


async def test_async_workflows_are_resumed(durable_command: CommandLine) -> None:
    """`resume` executes an async workflow to its end."""
    fails[:] = [True]
    with pytest.raises(ConnectionError):
        await fetched("x")
    fails.clear()
    codes: list[tuple[int, object]] = []

    def resume() -> None:
        done = durable_command("resume", "async-x")
        codes.append((done.code, done.data))

    thread = threading.Thread(target=resume)
    thread.start()
    thread.join()
    assert codes == [(0, "x")]


def test_inputs_that_were_not_stored_are_named(durable_command: CommandLine) -> None:
    """A run whose inputs could not be stored cannot be resumed from the command line; the message names them."""
    fails[:] = [True]
    with pytest.raises(ConnectionError):
        with_live_input("x", (row for row in "rows"))
    fails.clear()
    executed.clear()
    done = durable_command("resume", "live")
    assert (done.code, executed) == (1, [])
    assert "inputs rows could not be stored" in done.err


@workflow(run_id="live")
def with_live_input(name: str, rows: object) -> str:
    del rows
    return flaky(name)


def test_a_block_is_not_resumed(durable_command: CommandLine) -> None:
    """A `with durable.run(...)` block can only be resumed by its program."""
    with pytest.raises(ConnectionError), durable.run("block"):
        raise ConnectionError
    done = durable_command("resume", "block")
    assert done.code == 1
    assert "only the program that holds the block can resume it" in done.err


@pytest.mark.parametrize("options", [("--on-drift", "maybe"), ("--unknown",), ("a", "b")])
def test_wrong_use_of_resume(options: tuple[str, ...], durable_command: CommandLine) -> None:
    """Options that do not exist exit with 2, and nothing is executed."""
    failed("b")
    executed.clear()
    assert durable_command("resume", "import-b", *options).code == 2
    assert executed == []


def test_cancel_stops_a_run_that_nobody_executes(durable_command: CommandLine) -> None:
    """`cancel` of a failed run makes it cancelled at once; it can be resumed."""
    failed("b")
    done = durable_command("cancel", "import-b")
    assert (done.code, done.out, status("import-b")) == (0, "", "cancelled")
    assert durable_command("resume", "import-b").code == 0


def test_cancel_of_a_finished_run_changes_nothing(durable_command: CommandLine) -> None:
    """A run that succeeded stays what it is."""
    imported("a")
    assert durable_command("cancel", "import-a").code == 0
    assert status("import-a") == "succeeded"


def test_a_running_run_is_cancelled_at_its_next_step(durable_command: CommandLine) -> None:
    """`cancel` lets the step under way finish, `rm` and `resume` refuse meanwhile; the rest is executed by a resume."""
    run = slow.start()
    reached.wait()
    assert durable_command("ls", "--json").data[0]["alive"] is True
    assert [step["in_doubt"] for step in durable_command("show", "slow", "--json").data["steps"]] == [False]
    for command in ("rm", "resume"):
        refused = durable_command(command, "slow")
        assert (refused.code, refused.out) == (1, "")
        assert "in progress" in refused.err
    assert durable_command("cancel", "slow").code == 0
    released.set()
    with pytest.raises(durable.RunCancelledError):
        run.result()
    assert (executed, status("slow")) == (["first"], "cancelled")
    assert durable_command("resume", "slow").data == ["first", "second"]
    assert executed == ["first", "second"]


def test_the_workflow_is_imported_from_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable_command: CommandLine
) -> None:
    """A run whose module this program has not imported is resumed by importing that, from its folder if need be."""
    (tmp_path / "bakery").mkdir()
    (tmp_path / "bakery" / "__init__.py").touch()
    (tmp_path / "bakery" / "orders.py").write_text(
        "import durable\nfrom tests.integration.cli.command_line import load\n"
        "@durable.workflow(run_id='bake-{name}')\ndef bake(name):\n    return load(name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from bakery.orders import bake  # type: ignore[import-not-found]  # noqa: PLC0415 -- written by this test

    fails[:] = [True]
    with pytest.raises(ConnectionError):
        bake("bread")
    fails.clear()
    monkeypatch.setattr("durable.declarations.registry.workflows", type(durable.declarations.registry.workflows)())
    sys.path.remove(str(tmp_path))
    for module in ("bakery.orders", "bakery"):
        del sys.modules[module]
    done = durable_command("resume", "bake-bread")
    assert (done.code, done.data) == (0, "BREAD")


def test_a_workflow_that_is_gone_is_named(durable_command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose workflow is not defined any more cannot be resumed; the message offers aliases."""
    failed("b")
    monkeypatch.setattr("durable.declarations.registry.workflows", type(durable.declarations.registry.workflows)())
    done = durable_command("resume", "import-b")
    assert done.code == 1
    assert f"aliases=('{command_line.__name__}.imported',)" in done.err
