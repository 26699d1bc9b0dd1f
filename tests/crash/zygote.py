"""A process that forks others on request: each job runs in a fork that opened nothing before, and may be killed.

Importing the library takes far longer than forking, so thousands of real crashes take minutes, not hours. A zygote has
imported what its tests need beyond that; it is itself a fork of the one process that has imported the library. Both have
one thread, open no store and start no loop.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from functools import cache
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
_FORKED = b"."
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
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(_ancestor(), [pickle.dumps(preloaded)], [theirs.fileno()])
            assert _ancestor().recv(1) == _FORKED
            self._line = ours.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def run(self, function: Callable[..., Any], *args: Any, blow: _Blow | None = None) -> Any:
        """Give what the function returned, KILLED if its process was killed, INTERRUPTED if Ctrl-C left the function;
        raises what else went wrong there.

        With `blow` the process gets a signal after so many seconds, wherever it is then.
        """
        pickle.dump((function, args, blow), self._line)
        self._line.flush()
        returned, answer = pickle.load(self._line)
        if not returned:
            raise ForkEndedError(answer) if isinstance(answer, int) else AssertionError(answer)
        return answer


@cache
def _ancestor() -> socket.socket:
    """Give the line to the process that zygotes are forks of; it ends when this one does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(process.wait, LIMIT)
    atexit.register(ours.close)
    return ours


def _fork_zygotes(line: socket.socket) -> None:
    """Fork a zygote for each line that comes in, with the names of the modules that it imports."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for zygotes
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it means the functions alone
    while True:
        names, descriptors, _, _ = socket.recv_fds(line, 65536, 1)
        if not names:
            return
        if not os.fork():
            line.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _import_all(pickle.loads(names))
            _serve(socket.socket(fileno=descriptors[0]))
            os._exit(0)
        os.close(descriptors[0])
        line.send(_FORKED)


def _serve(line: socket.socket) -> None:
    """Fork for each job that comes in, and answer with its outcome."""
    jobs, answers = line.makefile("rb"), line.makefile("wb")
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


def _warm_up() -> None:
    """Do once what every fork would do first; nothing stays open."""
    for name in durable.__all__:
        getattr(durable, name)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/durable.db")
        store.runs(RunFilter(lineage="none"))
        store.runs(RunFilter(prefix="none", limit=6))
        store.close()
    os.chdir("/")  # where no project has settings


def _import_all(modules: list[str]) -> None:
    """Import modules, and look at the code of the tasks in them."""
    for module in modules:
        __import__(module)
        for value in vars(sys.modules[module]).values():
            if isinstance(value, durable.Task):
                assert value.definition.code
    gc.freeze()  # what the forks share stays shared


if __name__ == "__main__":
    _warm_up()
    _fork_zygotes(socket.socket(fileno=int(sys.argv[1])))
