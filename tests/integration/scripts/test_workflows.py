"""`durable run module:workflow` takes inputs from the command line; `durable resume` goes on with programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder

FLOWS = """
    import datetime, os
    from durable import task, workflow

    @task
    def fetch(n, flag):
        open("ledger", "a").write("x")
        if os.environ.get("FAIL"):
            raise ConnectionError("no route")
        return [n, flag]

    @workflow
    def load(n: int, flag: bool = True, day: datetime.date | None = None):
        return [*fetch(n, flag), str(day)]

    @workflow
    async def aload(n: int):
        return n

    def plain(): ...
"""


def test_a_workflow_is_called_with_converted_inputs(folder: Folder) -> None:
    """Inputs are converted by type hints, the result is JSON, and the same command is the same run."""
    folder.write("flows/__init__.py", "")
    folder.write("flows/loading.py", FLOWS)
    command = ("flows.loading:load", "--arg", "n=3", "--arg=flag=false", "--json", '{"day": "2026-01-02"}')
    failed = folder.run(*command, FAIL="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "loading.py" in failed.stderr
    assert "engine.py" not in failed.stderr
    assert "failed: ConnectionError. Resume it with: durable resume load-" in failed.stderr
    for _ in range(2):
        done = folder.run(*command)
        assert (done.returncode, json.loads(done.stdout)) == (0, [3, False, "2026-01-02"])
        assert "For a new run: --fresh or DURABLE_FRESH=1." in done.stderr
    assert (folder.path / "ledger").read_text() == "xx"
    assert json.loads(folder.run("--id", "mine", "flows.loading:aload", "--arg", "n=5").stdout) == 5
    assert folder.durable("show", "mine").returncode == 0


def test_wrong_inputs_are_named(folder: Folder) -> None:
    """Unknown, missing and ill-typed inputs are refused together, by name, and nothing is executed."""
    folder.write("flows.py", FLOWS)
    done = folder.run("flows:load", "--arg", "m=3", "--arg", "flag=perhaps", "--json", '{"day": 3}')
    assert done.returncode == 2
    for problem in ("m is unknown", "n is missing", "flag has to be bool, not 'perhaps'", "day has to be", "not 3"):
        assert problem in done.stderr
    assert not (folder.path / "ledger").exists()
    assert "'plain' is no @workflow in flows" in folder.run("flows:plain").stderr


def test_programs_are_resumed_by_their_run(folder: Folder) -> None:
    """`durable resume` starts a program as before, in its folder; `--fresh` begins anew, a fork goes on from its step."""
    folder.write(
        "jobs/pack/__main__.py",
        """
        import os, sys
        def work(item):
            open("ledger", "a").write(f"{item}\\n")
            return item
        print(work(sys.argv[1]), work(2))
        if "x" not in open("mode").read(): raise SystemExit("not yet")
        """,
    )
    folder.write("jobs/mode", "")
    failed = folder.durable("run", "--task", "work", "-m", "pack", "1", cwd="jobs")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "not yet")
    folder.write("jobs/mode", "x")
    resumed = folder.durable("resume", "pack")
    assert (resumed.returncode, resumed.stdout) == (0, "1 2\n")
    assert "arguments may mean other files" not in resumed.stderr
    assert (folder.path / "jobs/ledger").read_text().split() == ["1", "2"]
    forked = folder.durable("fork", "pack", "--from", "#3").stdout.strip()
    assert folder.durable("resume", forked).stdout == "1 2\n"
    assert (folder.path / "jobs/ledger").read_text().split() == ["1", "2", "2"]
    assert folder.durable("resume", "--fresh", forked).returncode == 0
    assert (folder.path / "jobs/ledger").read_text().split() == ["1", "2", "2", "1", "2"]
    refused = folder.python("-c", f"import durable; durable.get_run({forked!r}).resume(fresh=True)")
    assert "is a program, which is executed from its beginning in a process of its own" in refused.stderr
