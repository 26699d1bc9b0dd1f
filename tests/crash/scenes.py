"""Programs that are started, killed and started again over one store, each time in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.errors import ExecutionStopped
from tests.crash.zygote import KILLED, ForkEndedError, Zygote
from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How one start of a program ended; `error` is the name of the exception's type, `said` what stderr got."""

    value: Any = None
    error: str = ""
    message: str = ""
    said: str = ""
    warnings: list[str] = field(default_factory=list)


class Scene:
    """One store and one ledger of effects, whatever is started over them."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self._zygote = zygote
        self.folder = folder
        self.db = folder / "store" / "durable.db"
        self._ledger = folder / "ledger"

    def beside(self, name: str) -> Scene:
        """Give another scene, with a store and a ledger of its own."""
        folder = self.folder / name
        folder.mkdir()
        return Scene(self._zygote, folder)

    @property
    def ledger(self) -> list[str]:
        """All effects so far, in their order."""
        return self._ledger.read_text(encoding="utf-8").splitlines() if self._ledger.exists() else []

    def forget(self) -> None:
        """Begin a new page of the ledger: what follows counts alone."""
        self._ledger.unlink(missing_ok=True)

    def write_ledger(self, effects: list[str]) -> None:
        """Go back to these effects."""
        self._ledger.write_text("".join(f"{effect}\n" for effect in effects), encoding="utf-8")

    def kill(self, point: str, program: Callable[..., Any], *args: Any, **environ: str) -> None:
        """Start a program in a fork that is killed at this point."""
        assert self.is_killed(program, *args, KILL_AT=point, **environ)

    def is_killed(self, program: Callable[..., Any], *args: Any, **environ: str) -> bool:
        """Start a program in a fork that may be killed, and say whether it was."""
        return bool(self._zygote.run(_perform, self.environ(**environ), program, args) == KILLED)

    def start(self, program: Callable[..., Any], *args: Any, **environ: str) -> Outcome:
        """Start a program in a fork and let it end."""
        outcome = self._zygote.run(_perform, self.environ(**environ), program, args)
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def risk(self, program: Callable[..., Any], *args: Any, **environ: str) -> Outcome | str:
        """Start a program in a fork that may be killed; gives KILLED if it was."""
        outcome: Outcome | str = self._zygote.run(_perform, self.environ(**environ), program, args)
        return outcome

    def end(self, program: Callable[..., Any], *args: Any, **environ: str) -> int:
        """Start a program that ends its process; gives the exit code, or the negative number of a signal."""
        try:
            outcome = self.risk(program, *args, **environ)
        except ForkEndedError as ended:
            return ended.code
        assert outcome == KILLED
        return -signal.SIGKILL

    def strike(self, blow: signal.Signals, program: Callable[..., Any], *args: Any, **environ: str) -> Outcome | str:
        """Start a program that gets a signal from another process when it waits for one; gives KILLED if it died."""
        waiting = self.folder / "waiting"
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(_send, blow, waiting)
            outcome = self.risk(program, *args, WAITING=str(waiting), **environ)
            sent.result()
        return outcome

    def environ(self, **more: str) -> dict[str, str]:
        """Give what programs find in their environment."""
        return {"DURABLE_DB": str(self.db), "LEDGER": str(self._ledger), **more}

    def python(self, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a fresh interpreter in the scene's folder."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT), **self.environ(**environ)},
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def begin(self, *arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
        """Begin to run a fresh interpreter in the scene's folder."""
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT), **self.environ(**environ)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the `durable` command."""
        return self.python("-m", "durable", *arguments, **environ)


def _send(blow: signal.Signals, waiting: Path) -> None:
    until(waiting.exists)
    pid = int(waiting.read_text())
    waiting.unlink()
    os.kill(pid, blow)


def _perform(environ: dict[str, str], program: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    os.environ.update(environ)
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        value, error = None, None
        try:
            called = program(*args)
            value = asyncio.run(_awaited(called)) if inspect.isawaitable(called) else called
        except (Exception, KeyboardInterrupt, ExecutionStopped) as raised:
            error = raised
    return Outcome(
        value,
        type(error).__name__ if error is not None else "",
        str(error or ""),
        said.getvalue(),
        [str(warning.message) for warning in warned],
    )


async def _awaited(value: Any) -> Any:
    return await value
