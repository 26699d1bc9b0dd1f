"""Programs of users, written into a folder and started as a shell would."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DURABLE = ("-m", "durable")


class Folder:
    """A folder with programs, and a store of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / ".durable").mkdir(mode=0o700)

    def write(self, name: str, text: str) -> str:
        """Write a file and give its name."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    def python(
        self, *words: str, cwd: str = ".", stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Execute Python with these words on its command line."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.path / cwd,
            env={**inherited, **environment},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def durable(self, *words: str, cwd: str = ".", **environment: str) -> subprocess.CompletedProcess[str]:
        """Execute the `durable` command."""
        return self.python(*DURABLE, *words, cwd=cwd, **environment)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Execute `durable run`."""
        return self.durable("run", *words, **environment)
