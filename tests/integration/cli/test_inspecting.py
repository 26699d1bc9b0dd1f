from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.identity.calls import Call
from durable.notebooks.former import Place
from durable.notebooks.open_runs import OpenRun
from tests.integration.cli.command_line import (
    CommandLine,
    blocked,
    checkout,
    executed,
    failed,
    failed_outer,
    fails,
    fetch,
    imported,
    load,
    pay,
    reached,
    released,
    slow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ESCAPE = "\x1b"


def test_ls_lists_runs_for_programs(durable_command: CommandLine) -> None:
    """`ls --json` gives each run's id, workflow, status and how many of its steps are done, the newest first."""
    imported("a")
    failed("b")
    listed = durable_command("ls", "--json")
    shown = [(run["id"], run["status"], run["steps_done"], run["steps"]) for run in listed.data]
    assert shown == [("import-b", "failed", 1, 2), ("import-a", "succeeded", 2, 2)]
    assert {run["workflow"] for run in listed.data} == {f"{imported.__module__}.imported"}
    assert (listed.code, listed.err) == (0, "")


def test_ls_lists_runs_for_people(durable_command: CommandLine) -> None:
    """`ls` gives one plain line for each run, with its id whole however long it is."""
    long = "x" * 240
    imported("a")
    failed(long)
    listed = durable_command("ls")
    header, *lines = listed.out.splitlines()
    assert [line.split()[0] for line in lines] == [f"import-{long}", "import-a"]
    assert header.split() == ["run", "workflow", "status", "steps", "started"]
    assert "failed" in lines[0]
    assert "1/2" in lines[0]
    assert ESCAPE not in listed.out


def test_ls_filters(durable_command: CommandLine) -> None:
    """`ls` takes a workflow, a status and a largest number of runs."""
    imported("a")
    failed("b")
    blocked("c")

    def listed(*options: str) -> list[str]:
        return [run["id"] for run in durable_command("ls", "--json", *options).data]

    assert listed("--status", "failed") == ["import-b"]
    assert listed("--workflow", f"{imported.__module__}.imported") == ["import-b", "import-a"]
    assert listed("--limit", "1") == ["checkout-c"]
    assert listed("--status", "cancelled") == []


def test_ls_of_nothing_says_where_it_looked(durable_command: CommandLine, store: Path) -> None:
    """Without runs stdout stays empty, or is an empty list, and the store is named on stderr."""
    assert durable_command("ls", "--json").data == []
    listed = durable_command("ls")
    assert (listed.code, listed.out) == (0, "")
    assert str(store / "durable.db") in listed.err


@task
def numbers(count: int) -> Iterator[int]:
    yield from range(count)
    if fails:
        raise ConnectionError


@workflow(run_id="counted")
def counted() -> int:
    return sum(numbers(600))


def test_ls_counts_a_generator_as_one_step(durable_command: CommandLine) -> None:
    """However many items a generator gives, it is one step in the list of runs, and in the line about a resumed run."""
    fails.append(True)
    with pytest.raises(ConnectionError):
        counted()
    assert "0/1" in durable_command("ls").out
    fails.clear()
    assert "1 step recorded" in durable_command("resume", "counted").err
    [listed] = durable_command("ls", "--json").data
    assert (listed["steps_done"], listed["steps"]) == (1, 1)


def test_ls_refuses_an_unknown_status(durable_command: CommandLine) -> None:
    """A status that does not exist is a wrong use of the command; those that exist are named."""
    refused = durable_command("ls", "--status", "broken")
    assert (refused.code, refused.out) == (2, "")
    assert "'broken'" in refused.err
    assert "succeeded" in refused.err


@task(cache=True)
def rate(day: int) -> int:
    return day


@workflow
def rated(day: int) -> int:
    return rate(day)


def test_ls_limits_what_it_shows(durable_command: CommandLine) -> None:
    """Shared results of cached tasks are not runs: they are not listed and do not count."""
    rated(1)
    assert [run["workflow"] for run in durable_command("ls", "--json", "--limit", "1").data] == [f"{__name__}.rated"]
    assert len(durable_command("ls", "--json").data) == 1


def test_show_describes_a_run_for_programs(durable_command: CommandLine) -> None:
    """`show --json` gives id, workflow, status and parent, and of each step key, name, status, attempts and times."""
    failed("b")
    shown = durable_command("show", "import-b", "--json").data
    assert (shown["id"], shown["status"], shown["parent"]) == ("import-b", "failed", None)
    assert shown["workflow"] == f"{imported.__module__}.imported"
    first, second = shown["steps"]
    assert first["name"] == f"{imported.__module__}.fetch"
    assert [(step["key"].partition(":")[0], step["status"], step["attempts"]) for step in (first, second)] == [
        ("fetch", "succeeded", 1),
        ("load", "failed", 1),
    ]
    assert first["started_at"] <= first["ended_at"] <= second["started_at"] <= second["ended_at"]
    assert "ConnectionError" in second["error"]


def test_show_names_the_caller_of_a_run(durable_command: CommandLine) -> None:
    """A run that another one called shows that one as its parent."""
    failed_outer("a")
    [child] = [run for run in durable_command("ls", "--json").data if run["parent"]]
    assert durable_command("show", child["id"], "--json").data["parent"] == "outer-a"
    assert "outer-a" in durable_command("show", child["id"]).out


def test_show_describes_a_run_for_people(durable_command: CommandLine) -> None:
    """`show` gives the run, what it failed with as it stands, its steps, and how to go on."""
    failed("b")
    shown = durable_command("show", "import-b")
    assert shown.code == 0
    assert "no [red]route[/red]\nto host\n" in shown.out
    assert "ConnectionError: no [red]route[/red]\n" in shown.out + "\n"
    assert "durable resume import-b" in shown.err
    assert ESCAPE not in shown.out + shown.err


def test_show_says_what_blocks_a_run(durable_command: CommandLine) -> None:
    """A blocked run shows its step in doubt and the command that decides it."""
    run = blocked("c")
    shown = durable_command("show", run)
    assert "blocked" in shown.out
    assert "durable resolve checkout-c pay:c --happened" in shown.out
    assert [step["in_doubt"] for step in durable_command("show", run, "--json").data["steps"]] == [False, True]


def test_a_unique_beginning_names_a_run(durable_command: CommandLine) -> None:
    """Any unique beginning of an id names the run; a whole id does even where it is the beginning of others."""
    imported("a")
    imported("ab")
    imported("c")
    assert durable_command("show", "import-c", "--json").data["id"] == "import-c"
    assert durable_command("show", "import-ab", "--json").data["id"] == "import-ab"
    assert durable_command("show", "import-a", "--json").data["id"] == "import-a"


@pytest.mark.parametrize(
    "command", ["show {}", "resume {}", "cancel {}", "rm {}", "explain {} x", "resolve {} x --happened 1"]
)
def test_an_ambiguous_beginning_names_the_candidates(command: str, durable_command: CommandLine) -> None:
    """A beginning of several ids is refused with the candidates, and nothing is done."""
    failed("a1")
    failed("a2")
    before = durable_command("ls", "--json").out
    executed.clear()
    refused = durable_command(*shlex.split(command.format("import-a")))
    assert (refused.code, refused.out) == (2, "")
    assert "import-a1" in refused.err
    assert "import-a2" in refused.err
    assert durable_command("ls", "--json").out == before
    assert executed == []


@pytest.mark.parametrize("run", ["import-9", "''", "'Import-1'", "'import-1 '"])
@pytest.mark.parametrize(
    "command", ["show {}", "resume {}", "cancel {}", "rm {}", "explain {} x", "resolve {} x --happened 1"]
)
def test_an_unknown_run_is_refused(command: str, run: str, durable_command: CommandLine) -> None:
    """A run that is not there is a wrong use of every command, and nothing is executed."""
    failed("1")
    executed.clear()
    refused = durable_command(*shlex.split(command.format(run)))
    assert (refused.code, refused.out) == (2, "")
    assert "durable ls" in refused.err
    assert executed == []


def test_explain_says_what_would_happen(durable_command: CommandLine) -> None:
    """`explain` gives the verdict on a step, its reason and its arguments, for people and for programs."""
    failed("b")
    told = {
        step: durable_command("explain", "import-b", step, "--json").data["verdict"]
        for step in ("fetch", "load:b", "#1")
    }
    assert told == {"fetch": "replayed", "load:b": "tried again", "#1": "replayed"}
    data = durable_command("explain", "import-b", "load", "--json").data
    assert (data["run"], data["step"], data["arguments"]) == ("import-b", "load:b", {"row": "'b'"})
    shown = durable_command("explain", "import-b", "load").out
    assert shown.startswith("load:b: tried again\n")
    assert "row = 'b'" in shown


@pytest.mark.parametrize("step", ["nothing", "#99", "''", "load:c"])
def test_explain_refuses_an_unknown_step(step: str, durable_command: CommandLine) -> None:
    """A step that is not there is refused with those that are."""
    failed("b")
    refused = durable_command("explain", "import-b", *shlex.split(step))
    assert (refused.code, refused.out) == (2, "")
    assert "load:b" in refused.err


def test_explain_knows_what_a_resume_would_do(durable_command: CommandLine) -> None:
    """A payment that was left by an exception is in doubt, before and after the run was blocked by it."""
    fails[:] = [True]
    with pytest.raises(TimeoutError):
        checkout("c")
    for _ in range(2):
        assert durable_command("explain", "checkout-c", "pay", "--json").data["verdict"] == "refused: in doubt"
        assert durable_command("resume", "checkout-c").code == 76
    assert executed.count("pay c") == 1


def test_explain_knows_what_kind_of_run_it_is(durable_command: CommandLine) -> None:
    """A block that succeeded is executed again with its stored results, a workflow is not; a notebook tries failures again."""

    def verdict(run: str, step: str) -> str:
        verdict: str = durable_command("explain", run, step, "--json").data["verdict"]
        return verdict

    imported("a")
    with durable.run("block"):
        fetch(1)
    assert (verdict("import-a", "fetch"), verdict("block", "#1")) == ("not called", "replayed")
    fails[:] = [True]
    with durable.run("caught"), contextlib.suppress(ConnectionError):
        load("b")
    assert verdict("caught", "#1") == "failure replayed"
    assert "durable resume caught --retry-failed" in durable_command("explain", "caught", "#1").out
    opened = OpenRun("cells", lambda _: None, Place("cells", None), fresh=None)
    for definition, function in ((load.definition, load.__wrapped__), (pay.definition, pay.__wrapped__)):
        with contextlib.suppress(ConnectionError, TimeoutError):
            opened.call(Call(definition, None, ("c",), {}), function)
    with contextlib.suppress(ConnectionError, TimeoutError):
        opened.call(Call(fetch.definition, None, (1,), {}), fetch.__wrapped__)
    opened.release()
    assert (verdict("cells", "load"), verdict("cells", "pay")) == ("tried again", "refused: in doubt")
    assert "%durable resolve pay:c" in durable_command("explain", "cells", "pay").out
    fails.clear()


def test_explain_of_a_step_that_is_under_way(durable_command: CommandLine) -> None:
    """A step whose body is running is not explained as one that was interrupted."""
    run = slow.start()
    reached.wait()
    assert durable_command("explain", "slow", "waits", "--json").data["verdict"] == "under way"
    released.set()
    run.result()


def test_a_doubt_says_what_the_call_was(durable_command: CommandLine) -> None:
    """What blocks a run names the arguments, which the key of a step alone does not tell."""
    assert "It was called with order='d'." in durable_command("show", blocked("d")).out


def test_doctor_examines_the_store(durable_command: CommandLine, store: Path) -> None:
    """`doctor` says where the store is, what it promises, which faults its SQLite has and who may read it."""
    imported("a")
    report = durable_command("doctor", "--json").data
    assert str(store / "durable.db") in report["store"]
    assert report["durability"] == "journal_mode=wal, synchronous=FULL"
    assert report["file permissions"] == "0o600"
    assert report["sqlite"].count(".") == 2
    assert report["known faults"]
    shown = durable_command("doctor")
    assert all(str(value) in shown.out for value in report.values())
    assert (shown.code, shown.err) == (0, "")


def test_a_store_can_be_named_before_the_command(durable_command: CommandLine, tmp_path: Path) -> None:
    """`--db` takes the place of the configured store, and what cannot be opened is said in one line."""
    imported("a")
    assert durable_command("--db", str(tmp_path / "other.db"), "ls", "--json").data == []
    for place in (str(tmp_path), "ftp://nowhere/x"):
        refused = durable_command("--db", place, "ls")
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (1, "", 1)


def test_wrong_commands_exit_with_2(durable_command: CommandLine) -> None:
    """A command that does not exist, or none, exits with 2."""
    assert durable_command("list").code == 2
    assert durable_command().code == 2
    assert durable_command("--version").out.startswith("durable ")


ODD = ["a b", "a/b", "a\nb", "'", '"', "%s", "~", "ü日本語😀", " ", "\t", "\x1b[31m", "\u202e"]
ODD += ["-x", "--help", "#1", "$HOME", "[red]", "\\"]


def test_odd_ids_are_shown_as_they_are(durable_command: CommandLine) -> None:
    """Every id is found by `show`; what could move the cursor or colour the terminal is shown escaped, in one line."""
    for run_id in ODD:
        imported.with_options(run_id=run_id)(run_id)
    assert {run["id"] for run in durable_command("ls", "--json").data} == set(ODD)
    assert len(durable_command("ls").out.splitlines()) == len(ODD) + 1
    for run_id in ODD:
        assert durable_command("show", "--json", "--", run_id).data["id"] == run_id
        shown = durable_command("show", "--", run_id)
        assert shown.out.splitlines()[0].endswith("imported  succeeded")
        assert not set("\x1b\t\r\u202e") & set(shown.out)
        assert (run_id in shown.out) == (run_id.isprintable())


@pytest.mark.parametrize("run_id", ["\udcff", "\0", "x" * 1000])
def test_ids_that_cannot_be_are_not_found(run_id: str, durable_command: CommandLine) -> None:
    """An argument that is no valid Unicode, as a shell may give it, is an unknown run."""
    assert durable_command("show", run_id).code == 2
    assert durable_command("ls", "--workflow", run_id, "--json").data == []


def test_looking_makes_no_store(durable_command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no store yet there are no runs, and commands that look leave none behind; `doctor` makes it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for db in ("new.db", "sqlite:///new.db", "sub/new.db"):
        assert durable_command("--db", db, "ls", "--json").data == []
        assert "new.db (not there yet)" in durable_command("--db", db, "ls").err
        for command in ("show x", "resume x", "rm x", "cancel x", "explain x y", "resolve x y --did-not-happen"):
            assert durable_command("--db", db, *command.split()).code == 2
        assert durable_command("--db", db, "gc", "--older-than", "1d", "--json").data["removed"] == []
    durable.configure(None)
    monkeypatch.delenv("DURABLE_DB", raising=False)
    assert durable_command("ls", "--json").data == []
    assert list(folder.iterdir()) == []
    assert str(folder) in durable_command("--db", "new.db", "doctor", "--json").data["store"]
    assert (folder / "new.db").exists()


def test_graph(durable_command: CommandLine) -> None:
    """`graph` draws a run in the language of Mermaid or of Graphviz, as `Run.graph` does; another format is a usage error."""
    run = durable.get_run(failed("a"))
    assert durable_command("graph", "import-a") == (0, f"{run.graph()}\n", "")
    assert durable_command("graph", "import-a", "--format", "dot") == (0, f"{run.graph('dot')}\n", "")
    assert "load:a (failed)" in run.graph()
    assert durable_command("graph", "import-a", "--format", "svg").code == 2
