"""What cannot be meant is refused by the command, before anything is executed or stored."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from durable.cli import running
from durable.scripts import launching

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder


@pytest.fixture(autouse=True)
def here(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in the folder, as a process that has just begun."""
    for name in [name for name in os.environ if name.startswith("DURABLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(launching, "_launched", False)


REFUSED = {
    "no script": (("nothing.py",), "nothing.py does not exist (did you mean 'nothings.py'?)"),
    "a workflow by its file": (("nothings.py:work",), "for the workflow of a script write nothings:work"),
    "a folder": ((".",), ". is a folder"),
    "no module": (("-m", "nothing"), "There is no module 'nothing' for -m"),
    "no program": (("--fresh",), "needs a script, -m module or module:workflow"),
    "option": (("--frseh", "nothings.py"), "durable run has no option '--frseh' (did you mean --fresh?)"),
    "no value": (("--task",), "--task needs a value"),
    "own target": (
        ("--task", "wrok", "nothings.py"),
        "nothings.py defines or imports no such function (did you mean 'work'?)",
    ),
    "module target": (("--task", "json:dmups", "nothings.py"), "'dmups'. Did you mean 'dumps'?"),
    "dotted target": (("--task", "json.dumps", "nothings.py"), "For a function of another module write json:dumps"),
    "class": (("--task", "Thing", "nothings.py"), "Target 'Thing' is a class: name one of its methods"),
    "value": (("--task", "limit", "nothings.py"), "Target 'limit' is no function that a def makes"),
    "property": (("--task", "Thing.size", "nothings.py"), "Thing.size is a property"),
    "preset": (("--patch", "smptlib", "nothings.py"), "'smtplib'"),
    "malformed": (("--task", "a b", "nothings.py"), "Target 'a b' names no function"),
    "other script": (("--task", "x.py:work", "nothings.py"), "'x.py' is not the script that is executed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_before_anything_is_executed(
    folder: Folder, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command ends with 2, names what is wrong and the closest name, and executes and stores nothing."""
    words, message = REFUSED[case]
    folder.write(
        "nothings.py",
        "open('ledger', 'w')\nlimit = 3\ndef work(): ...\nclass Thing:\n    @property\n    def size(self): ...\n",
    )
    assert running.run(None, list(words)) == 2
    assert message in capsys.readouterr().err
    assert not (folder.path / "ledger").exists()
    assert not (folder.path / ".durable" / "durable.db").exists()


SETTINGS = {
    "option": (
        'tasks."x.py:work" = {idempotnt = false}',
        "'x.py:work' has no option 'idempotnt' (did you mean 'idempotent'?)",
    ),
    "type": ('tasks."x.py:work" = {attempts = "3"}', "attempts"),
    "key": ('tasks."x.py:work" = {key = "{too}"}', "names 'too', but work has the parameters to"),
    "no table": ('tasks."x.py:work" = 3', "takes a table of options"),
    "code": ('tasks."x.py:work" = {undo = "f"}', "'x.py:work' has no option 'undo'"),
    "after": ('after_success = "again"', "after_success is 'return' or 'rerun', not 'again'"),
    "patch": ('patch = "smtplib"', "patch is a list of presets"),
    "setting": ("pathc = []", "[tool.durable] has no setting 'pathc'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_meant(folder: Folder, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong settings in pyproject.toml end the command with 2 and name the file or target, before anything is executed."""
    text, message = SETTINGS[case]
    folder.write("pyproject.toml", f"[tool.durable]\n{text}\n")
    folder.write("x.py", "open('ledger', 'w')\ndef work(to): ...\n")
    assert running.run(None, ["x.py"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder.path / "ledger").exists()
