"""Settings come from the strongest source that says something, and say precisely what is wrong with them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import durable
from durable import ConfigurationError, StoreUnusableError
from durable.configuration import Settings, Switches, find_store
from durable.runs.sessions import current
from durable.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a project with a folder inside."""
    (tmp_path / "project" / "inner").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\nname = 'p'\n")
    return tmp_path / "project"


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work inside a project without any setting in the environment."""
    monkeypatch.chdir(project)
    for name in [name for name in os.environ if name.startswith("DURABLE_")]:
        monkeypatch.delenv(name)
    yield project
    durable.configure(None)


def test_default_beside_the_project_file(project: Path) -> None:
    """Without any setting the store lies in `.durable/` beside the nearest pyproject.toml."""
    assert find_store(project / "inner", {}) == (str(project / ".durable" / "durable.db"), "default")


def test_default_beside_the_repository(tmp_path: Path) -> None:
    """A `.git` marks a project as well, also as the file that a worktree has."""
    (tmp_path / "inner").mkdir()
    (tmp_path / ".git").write_text("gitdir: elsewhere\n")
    assert find_store(tmp_path / "inner", {})[0] == str(tmp_path / ".durable" / "durable.db")


def test_nearest_existing_folder(project: Path) -> None:
    """A `.durable/` that exists in a nearer parent is taken before one beside the project file."""
    nearest = project / "inner" / ".durable"
    nearest.mkdir(mode=0o700)
    (project / "inner" / "deep").mkdir()
    assert find_store(project / "inner" / "deep", {}) == (str(nearest / "durable.db"), str(nearest))


def test_project_setting(project: Path) -> None:
    """[tool.durable] db is relative to its file and beats a `.durable/` beside it."""
    (project / ".durable").mkdir(mode=0o700)
    (project / "pyproject.toml").write_text("[tool.durable]\ndb = 'state/my.db'\n")
    db, source = find_store(project / "inner", {})
    assert db == str(project / "state" / "my.db")
    assert str(project / "pyproject.toml") in source


@pytest.mark.parametrize("url", ["memory:", "sqlite:////tmp/x.db", "other://host/name"])
def test_urls_are_not_paths(project: Path, url: str) -> None:
    """A URL is kept as it is, from the project's file and from the environment."""
    (project / "pyproject.toml").write_text(f"[tool.durable]\ndb = '{url}'\n")
    assert find_store(project, {})[0] == url
    assert find_store(project, {"DURABLE_DB": url}) == (url, "DURABLE_DB")


def test_environment_beats_project(project: Path) -> None:
    """DURABLE_DB beats [tool.durable] and is relative to the current folder; an empty one says nothing."""
    (project / "pyproject.toml").write_text("[tool.durable]\ndb = 'state/my.db'\n")
    assert find_store(project / "inner", {"DURABLE_DB": "x.db"}) == (str(project / "inner" / "x.db"), "DURABLE_DB")
    assert find_store(project, {"DURABLE_DB": ""})[0] == str(project / "state" / "my.db")


def test_argument_beats_environment(in_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure(db=...)` beats DURABLE_DB, and None gives the choice back."""
    monkeypatch.setenv("DURABLE_DB", str(in_project / "environment.db"))
    durable.configure(in_project / "argument.db")
    assert current().store.url.endswith("argument.db")
    durable.configure(None)
    assert current().store.url.endswith("environment.db")


def test_open_store_as_argument(in_project: Path) -> None:
    """`configure(db=...)` takes an open store; anything else is refused."""
    store = open_store("memory:")
    durable.configure(store)
    assert current().store is store
    with pytest.raises(ConfigurationError, match="path, a URL or a store"):
        durable.configure(7)  # type: ignore[arg-type]  # the mistake under test


def test_unknown_scheme() -> None:
    """A URL that nobody handles is refused with the schemes that are known."""
    with pytest.raises(ConfigurationError, match=r"no store for redis://.*memory, sqlite"):
        open_store("redis://host")
    with pytest.raises(ConfigurationError, match="names no file"):
        open_store("sqlite://")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[tool.durable\n", "cannot be read"),
        ("[tool.durable]\ndatabase = 'x'\n", "no setting 'database'"),
        ("[tool.durable]\ndb = 7\n", "not 7"),
        ("[tool.durable]\ndb = ''\n", "not ''"),
        ("[tool]\ndurable = 'x.db'\n", "is a table"),
        ("tool = 7\n", "is a table"),
    ],
)
def test_errors_in_the_project_file(project: Path, text: str, reason: str) -> None:
    """A mistake in pyproject.toml names the file and what is wrong; it is never skipped."""
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        find_store(project / "inner", {})
    assert str(project / "pyproject.toml") in str(caught.value)


def test_an_edited_project_file_counts_at_once(project: Path) -> None:
    """What was read of a project file before does not outlive an edit."""
    for name in ("one.db", "two.db"):
        (project / "pyproject.toml").write_text(f"[tool.durable]\ndb = '{name}'\n")
        assert find_store(project, {})[0] == str(project / name)


def test_project_file_that_is_not_text(project: Path) -> None:
    """Bytes that are not UTF-8 are a mistake in the file, not a crash."""
    (project / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find_store(project, {})


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720])
def test_folder_that_others_can_write(project: Path, mode: int) -> None:
    """A `.durable/` that others can write to is refused with the way out, unless DURABLE_DB names the store."""
    folder = project / ".durable"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StoreUnusableError, match=f"chmod go-w {folder}"):
        find_store(project / "inner", {})
    assert find_store(project, {"DURABLE_DB": ".durable/durable.db"})[0] == str(folder / "durable.db")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("what", [".durable", ".durable/durable.db"])
def test_folder_of_another_user(project: Path, what: str) -> None:
    """A planted `.durable/`, or a planted file in an own one, is refused."""
    (project / ".durable").mkdir(mode=0o700)
    (project / ".durable" / "durable.db").touch(0o600)
    os.chown(project / what, 12345, 12345)
    with pytest.raises(StoreUnusableError, match="uid 12345"):
        find_store(project / "inner", {})


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_planted_link(project: Path, tmp_path: Path) -> None:
    """A link to a folder that others can write to is judged by the folder."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (project / ".durable").symlink_to(tmp_path / "open")
    with pytest.raises(StoreUnusableError):
        find_store(project, {})


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_of_what_is_made(tmp_path: Path, umask: int) -> None:
    """The folder is 0700 and every file in it 0600, whatever the umask; `.gitignore` keeps all of it out of git."""
    program = (
        "import os, sys; os.umask(int(sys.argv[1])); from durable import task, workflow\n"
        "@task\ndef big(): return b'x' * 500_000\n"
        "@workflow\ndef main(): return len(big())\n"
        "main(); os._exit(0)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DURABLE_")}
    subprocess.run([sys.executable, "-c", program, str(umask)], cwd=tmp_path, check=True, env=environment)
    folder = tmp_path / ".durable"
    assert (folder / ".gitignore").read_text() == "*\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {path.relative_to(folder): path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.name[0] != "."}
    assert {"durable.db", "durable.db-wal", "durable.db.lock", "durable.db.blobs"} <= {path.name for path in made}
    assert {mode for path, mode in made.items() if not (folder / path).is_dir()} == {0o600}
    assert {mode for path, mode in made.items() if (folder / path).is_dir()} == {0o700}


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_switch_on(value: str) -> None:
    """A switch is on for 1, true, yes and on, in any case."""
    switches = Switches.load(dict.fromkeys(("DURABLE_FRESH", "DURABLE_RETRY_FAILED", "DURABLE_DISABLE"), value))
    assert (switches.fresh, switches.retry_failed, switches.disable) == (True, True, True)


@pytest.mark.parametrize("value", ["", "0", "False", "no", "OFF"])
def test_switch_off(value: str) -> None:
    """A switch is off for 0, false, no, off and nothing."""
    switches = Switches.load(dict.fromkeys(("DURABLE_FRESH", "DURABLE_RETRY_FAILED", "DURABLE_DISABLE"), value))
    assert (switches.fresh, switches.retry_failed, switches.disable) == (False, False, False)


@pytest.mark.parametrize("name", ["DURABLE_FRESH", "DURABLE_RETRY_FAILED", "DURABLE_DISABLE"])
@pytest.mark.parametrize("value", ["2", "ja", "truee", "-1"])
def test_switch_that_means_nothing(name: str, value: str) -> None:
    """Any other value of a switch is an error that names it, never off by accident."""
    with pytest.raises(ConfigurationError, match=f"{name}='{value}'"):
        Switches.load({name: value})


def test_drift_policy() -> None:
    """DURABLE_ON_DRIFT takes the policies alone, and names them."""
    assert Switches.load({}).on_drift is None
    assert Switches.load({"DURABLE_ON_DRIFT": ""}).on_drift is None
    with pytest.raises(ConfigurationError, match="choose from"):
        Switches.load({"DURABLE_ON_DRIFT": "sometimes"})


def test_secret_keys(project: Path) -> None:
    """DURABLE_SECRET_KEY holds keys separated by commas, the first one first."""
    assert Settings.load({"DURABLE_SECRET_KEY": "new,,old"}, project).secret_keys == (b"new", b"old")
    assert Settings.load({}, project).secret_keys == ()
