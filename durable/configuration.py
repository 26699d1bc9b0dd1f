"""Settings, strongest first: what the program says, the environment, `[tool.durable]` in pyproject.toml, defaults.

A store that somebody else could have planted is not opened: reading it would execute code.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from durable.errors import ConfigurationError, StoreUnusableError
from durable.options import OnDrift

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
PACKAGE = os.path.dirname(__file__) + os.sep  # our own code is below it
_FOLDER, _FILE = ".durable", "durable.db"
_PROJECT_KEYS = {"db", "after_success", "patch", "tasks"}


class Switches(NamedTuple):
    """What the environment says about the next call; cheap to read."""

    fresh: bool
    retry_failed: bool
    disable: bool
    on_drift: OnDrift | None
    events: str | None

    @staticmethod
    def load(environ: Mapping[str, str]) -> Switches:
        """Read the environment; raises `ConfigurationError` for values that mean nothing."""
        on_drift = environ.get("DURABLE_ON_DRIFT") or None
        if on_drift is not None and on_drift not in get_args(OnDrift):
            raise ConfigurationError(f"DURABLE_ON_DRIFT={on_drift!r}: choose from {', '.join(get_args(OnDrift))}.")
        return Switches(
            _switch("DURABLE_FRESH", environ),
            _switch("DURABLE_RETRY_FAILED", environ),
            _switch("DURABLE_DISABLE", environ),
            on_drift,  # type: ignore[arg-type]  # one of the literals, as checked above
            environ.get("DURABLE_EVENTS"),
        )


class Settings(NamedTuple):
    """Where the store is, where that comes from, and the keys that seal its values."""

    db: str
    source: str
    secret_keys: tuple[bytes, ...] = ()

    @staticmethod
    def load(environ: Mapping[str, str], start: Path) -> Settings:
        """Read the settings that hold in a folder; raises `ConfigurationError` and `StoreUnusableError`."""
        db, source = find_store(start, environ)
        keys = tuple(key.encode() for key in environ.get("DURABLE_SECRET_KEY", "").split(",") if key)
        return Settings(db, source, keys)


def find_store(start: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Give the store's path or URL and where it comes from."""
    if chosen := environ.get("DURABLE_DB"):
        return (chosen if "://" in chosen or chosen.startswith("memory:") else str(start / chosen)), "DURABLE_DB"
    folders = (start, *start.parents)
    for folder in folders:
        chosen = _project_store(folder / "pyproject.toml")
        if chosen is not None:
            return chosen, f"[tool.durable] in {folder / 'pyproject.toml'}"
        if (folder / _FOLDER).is_dir():
            _check_trusted(folder / _FOLDER)
            if (folder / _FOLDER / _FILE).exists():
                _check_trusted(folder / _FOLDER / _FILE)
            return str(folder / _FOLDER / _FILE), f"{folder / _FOLDER}"
    roots = (folder for folder in folders if (folder / "pyproject.toml").exists() or (folder / ".git").exists())
    root = next(roots, start)
    return str(root / _FOLDER / _FILE), "default"


def project_table(start: Path) -> tuple[str, dict[str, Any]]:
    """Give the `[tool.durable]` that holds in a folder and the file that it stands in; an empty one if there is none.

    Raises `ConfigurationError` for a file that cannot be read and for settings that do not exist.
    """
    for folder in (start, *start.parents):
        table = _project_table(folder / "pyproject.toml")
        if table is not None:
            return str(folder / "pyproject.toml"), table
    return "", {}


def _project_table(path: Path) -> dict[str, Any] | None:
    """Read the `[tool.durable]` of a file, None if it has none."""
    try:
        project = _parsed(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except ValueError as error:  # it is neither UTF-8 nor TOML
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    tool: Any = project.get("tool", {})
    table: Any = tool.get("durable") if isinstance(tool, dict) else tool
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: [tool.durable] is a table, not {table!r}. Write: [tool.durable] db = ...")
    if unknown := set(table) - _PROJECT_KEYS:
        raise ConfigurationError(
            f"{path}: [tool.durable] has no setting {min(unknown)!r}. Known: {', '.join(sorted(_PROJECT_KEYS))}."
        )
    return table


@lru_cache(maxsize=8)
def _parsed(text: str) -> dict[str, Any]:
    """Parse a file that is asked for again and again while a run begins."""
    import tomllib  # noqa: PLC0415 -- slow to import, and many scripts stand in no project

    return tomllib.loads(text)


def _project_store(path: Path) -> str | None:
    chosen = (_project_table(path) or {}).get("db")
    if chosen is None:
        return None
    if not isinstance(chosen, str) or not chosen:
        raise ConfigurationError(f"{path}: [tool.durable] db is a path or a URL, not {chosen!r}.")
    return chosen if "://" in chosen or chosen.startswith("memory:") else str(path.parent / chosen)


def _check_trusted(path: Path) -> None:
    if os.name == "nt":
        return
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StoreUnusableError(
            f"{path} belongs to another user (uid {status.st_uid}); opening a store that somebody else could have "
            f"planted would execute their code. Choose your own with DURABLE_DB."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreUnusableError(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):o}), and opening a planted store "
            f"would execute their code. If it is yours: chmod go-w {path}"
        )


def _switch(name: str, environ: Mapping[str, str]) -> bool:
    value = environ.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ConfigurationError(f"{name}={environ[name]!r}: write 1 or 0.")
