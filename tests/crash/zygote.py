"""A process that forks others on request: each job runs in a fork that opened nothing before, and may be killed.

Importing the library takes far longer than forking, so thousands of real crashes take minutes, not hours. The zygote
itself has one thread, opens no store and starts no loop.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import durable
import durable.steps.engine
from durable.records import RunFilter
from durable.stores import open_store
from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

KILLED = "killed"
INTERRUPTED = "interrupted"
_Blow = tuple[float, signal.Signals]  # after so many seconds; which signal
_LIMIT = 240  # seconds after which a fork is taken to hang: before the test that waits for it
_ROOT = Path(__file__).parents[2]


class ForkEndedError(AssertionError):
    """A fork ended without a word, and nobody killed it; `code` is its exit code, or the negative number of a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The fork ended with {code} and said nothing.")
        self.code = code


class Zygote:
    """Runs module-level functions in forks of a fresh interpreter."""

    def __init__(self, *preloaded: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(LIMIT)

    def run(self, function: Callable[..., Any], *args: Any, blow: _Blow | None = None) -> Any:
        """Give what the function returned, KILLED if its process was killed, INTERRUPTED if Ctrl-C left the function;
        raises what else went wrong there.

        With `blow` the process gets a signal after so many seconds, wherever it is then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((function, args, blow), self._process.stdin)
        self._process.stdin.flush()
        returned, answer = pickle.load(self._process.stdout)
        if not returned:
            raise ForkEndedError(answer) if isinstance(answer, int) else AssertionError(answer)
        return answer


def _serve() -> None:
    """Fork for each job that comes in, and answer with its outcome."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it means the function alone
    while True:
        try:
            function, args, blow = pickle.load(jobs)
        except EOFError:
            return
        source, sink = os.pipe()
        pid = os.fork()
        if not pid:
            _work(sink, function, args)
        os.close(sink)
        with os.fdopen(source, "rb") as pipe:
            if blow is not None and not select.select([pipe], [], [], blow[0])[0]:
                os.kill(pid, blow[1])
            data = pipe.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            data = pickle.dumps((True, KILLED))
        elif os.WIFSIGNALED(status) or not data:
            data = pickle.dumps((False, os.waitstatus_to_exitcode(status)))
        answers.write(data)
        answers.flush()


def _work(sink: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    faulthandler.dump_traceback_later(_LIMIT, exit=True)
    try:
        outcome: tuple[bool, Any] = True, _interruptible(function, *args)
    except KeyboardInterrupt:
        outcome = True, INTERRUPTED
    except BaseException:
        outcome = False, traceback.format_exc()
    with contextlib.suppress(OSError), os.fdopen(sink, "wb") as pipe:
        pickle.dump(outcome, pipe)
    os._exit(0)


def _interruptible(function: Callable[..., Any], *args: Any) -> Any:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return function(*args)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _warm_up(modules: list[str]) -> None:
    """Do once what every fork would do first; nothing stays open."""
    for module in modules:
        __import__(module)
    for name in durable.__all__:
        getattr(durable, name)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/durable.db")
        store.runs(RunFilter(lineage="none"))
        store.runs(RunFilter(prefix="none", limit=6))
        store.close()
    for module in modules:
        for value in vars(sys.modules[module]).values():
            if isinstance(value, durable.Task):
                assert value.definition.code


if __name__ == "__main__":
    _warm_up(sys.argv[1:])
    _serve()
