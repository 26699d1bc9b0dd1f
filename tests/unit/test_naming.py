"""The name of a script stays the same wherever it is started, and is no other script's name."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING

from durable.declarations import naming

if TYPE_CHECKING:
    import pytest


def named(monkeypatch: pytest.MonkeyPatch, path: str) -> str:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", path, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)

    def function() -> None: ...

    function.__module__ = "__main__"
    return naming.stable_module_name(function, "/home/ada/project")


def test_a_script_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain path below the store's folder is written like a module, another one as it is."""
    assert named(monkeypatch, "/home/ada/project/jobs/daily.py") == "jobs.daily"
    assert named(monkeypatch, "/home/ada/elsewhere/daily.py") == "../elsewhere/daily.py"
    assert named(monkeypatch, "/home/ada/project/daily.v2.py") == "./daily.v2.py"


def test_no_two_scripts_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that differ in a dot, a level, a suffix or a hidden folder are different names, none of which holds an @."""
    folders = ("", "a", "a.b", "a/b", ".a", "..", "../..", "../a", "a@b", "a%40b")
    files = ("job.py", "job", "job.py.py", "b.job.py", ".job.py", "py.py")
    paths = {
        os.path.normpath(f"/home/ada/project/{folder}/{file}") for folder, file in itertools.product(folders, files)
    }
    names = [named(monkeypatch, path) for path in paths]
    assert len(set(names)) == len(paths)
    assert not [name for name in names if "@" in name]
