"""Which notebook a kernel belongs to: its file, where the front end tells it, else the name that the user gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from durable.declarations.naming import check_run_id
from durable.errors import ConfigurationError
from durable.identity.labels import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

_VSCODE = "__vsc_ipynb_file__"
_JUPYTER = "JPY_SESSION_NAME"
_SHOWN = 100  # characters of a file's name


@dataclass(frozen=True, slots=True)
class Name:
    """A notebook: its file, or the name that it was given."""

    path: str | None = None
    given: str | None = None

    def run_id(self, anchor: str) -> str:
        """Give the id of the notebook's run: that of a file depends on where it lies as seen from the store's folder."""
        if self.path is None:
            return str(self.given)
        relative = self.seen_from(anchor).replace(os.sep, "/")
        digest = blake2b(relative.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        stem = os.path.basename(self.path).removesuffix(".ipynb")
        return f"{escape(stem)[:_SHOWN]}-{digest}"

    def seen_from(self, anchor: str) -> str:
        """Give the path of its file as seen from a folder, or the name that it was given."""
        if self.path is None:
            return str(self.given)
        try:
            return os.path.relpath(self.path, anchor) if anchor else self.path
        except ValueError:  # another drive
            return self.path

    def __str__(self) -> str:
        """Show the file's name or the given one."""
        return os.path.basename(self.path) if self.path is not None else str(self.given)


def given_name(name: str) -> Name:
    """Take a name from the user; raises `ConfigurationError` for one that cannot name a run."""
    return Name(given=check_run_id(name))


def find_name(variables: Mapping[str, Any], environ: Mapping[str, str]) -> Name:
    """Ask the front end for the notebook's file. Raises `ConfigurationError` if it says nothing."""
    path = variables.get(_VSCODE)
    if not isinstance(path, str) or not path:
        path = _session_path(environ.get(_JUPYTER, ""))
    if not path:
        raise ConfigurationError(
            "This notebook has no name that durable could know its run by: neither JPY_SESSION_NAME (Jupyter) nor "
            "__vsc_ipynb_file__ (VS Code) names a file. Nothing was executed. Give it one, in its first cell and always the "
            "same, with: %durable start NAME"
        )
    return Name(path=os.path.realpath(path))


def _session_path(name: str) -> str | None:
    """Give the file that a Jupyter session is named after; consoles are named after no file."""
    folder, base = os.path.split(name)
    base = base.removeprefix("RTC:")  # of a notebook that several people edit
    path = os.path.abspath(os.path.join(folder, base))
    if base and not os.path.exists(path) and os.path.exists(base):
        path = os.path.abspath(base)  # the name is relative to the server's folder, the kernel runs in the notebook's
    return path if base.endswith(".ipynb") or (base and os.path.isfile(path)) else None
