"""Which notebook a kernel belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable.errors import ConfigurationError
from durable.notebooks.names import Name, find_name, given_name

if TYPE_CHECKING:
    from pathlib import Path


def test_front_ends_tell_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VS Code's variable counts first, then Jupyter's session, absolute, relative or edited by several people."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ipynb"
    path.touch()
    found = [find_name({"__vsc_ipynb_file__": str(path)}, {"JPY_SESSION_NAME": "other.ipynb"})]
    found += [
        find_name({}, {"JPY_SESSION_NAME": name}) for name in (str(path), "work/a.ipynb", f"{tmp_path}/RTC:a.ipynb")
    ]
    assert set(found) == {Name(path=str(path))}


@pytest.mark.parametrize("session", ["", "/folder/", "/folder/console-1-77ab"])
def test_no_file(session: str) -> None:
    """Where no file is named, the error says how to give a name."""
    with pytest.raises(ConfigurationError, match="%durable start NAME"):
        find_name({}, {"JPY_SESSION_NAME": session})


def test_ids_of_runs() -> None:
    """The id depends on where the file lies as seen from the store, so a project may move; a given name is the id."""
    ids = [Name(path=f"{root}/nb/a b.ipynb").run_id(root) for root in ("/home/x", "/srv")]
    assert ids[0] == ids[1] != Name(path="/srv/a b.ipynb").run_id("/srv")
    assert ids[0].startswith("a b-")
    assert given_name("report").run_id("/srv") == "report"
    with pytest.raises(ConfigurationError):
        given_name("")
