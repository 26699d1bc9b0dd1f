"""Real kernels, quickly: a process that has imported ipykernel forks one for each notebook that is opened.

The process that forks has one thread, opens no store and starts no loop. What a kernel did is asked over its sockets, as
Jupyter does it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from typing import Self

_ROOT = Path(__file__).parents[1]
KILLED = "Killed"


@dataclass
class Shown:
    """What a cell showed; `error` is the name of the exception's type, or KILLED if the kernel died in the cell."""

    out: str = ""
    err: str = ""
    value: str = ""
    html: str = ""
    displays: list[str] = field(default_factory=list)
    error: str = ""
    message: str = ""
    traceback: str = ""

    def take(self, message: dict[str, Any]) -> None:
        """Note a message of the kernel."""
        content = message["content"]
        match message["msg_type"]:
            case "stream" if content["name"] == "stdout":
                self.out += content["text"]
            case "stream":
                self.err += content["text"]
            case "execute_result" | "display_data" | "update_display_data" as kind:
                text = content["data"].get("text/plain", "")
                self.html += content["data"].get("text/html", "")
                if kind == "execute_result":
                    self.value = text
                else:
                    self.displays.append(text)
            case "error":
                self.error, self.message = content["ename"], content["evalue"]
                self.traceback = "\n".join(content["traceback"])


class Kernel:
    """A running kernel."""

    def __init__(self, pid: int, connection: str) -> None:
        self.pid = pid
        self._client = BlockingKernelClient(connection_file=connection)
        self._client.load_connection_file()
        self._client.start_channels(hb=False)
        self._await_answer()

    def _await_answer(self) -> None:
        """Wait until the kernel answers and what it says arrives."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            assert _is_alive(self.pid), "the kernel died"
            self._client.kernel_info()
            with contextlib.suppress(queue.Empty):
                self._client.get_shell_msg(timeout=1)
                self._client.get_iopub_msg(timeout=0.2)
                return
        raise AssertionError("the kernel does not answer")

    def run(self, *cells: str) -> Shown:
        """Execute cells and give what they showed together; ends with the first that fails."""
        shown = Shown()
        for cell in cells:
            self._run(cell, shown)
            if shown.error:
                break
        return shown

    def begin(self, cell: str) -> str:
        """Send a cell without waiting for its end."""
        return str(self._client.execute(cell))

    def interrupt(self) -> None:
        """Do what the stop button does."""
        os.kill(self.pid, signal.SIGINT)

    def await_output(self, text: str) -> None:
        """Wait until a cell that was begun has printed this."""
        said = Shown()
        while text not in said.out:
            said.take(self._client.get_iopub_msg(timeout=LIMIT))

    def await_display(self, text: str) -> None:
        """Wait until a cell that was begun has displayed this."""
        said = Shown()
        while not any(text in display for display in said.displays):
            said.take(self._client.get_iopub_msg(timeout=LIMIT))

    def finish(self, begun: str) -> Shown:
        """Wait for the end of a cell that was begun."""
        shown = Shown()
        self._follow(begun, shown)
        return shown

    def _run(self, cell: str, shown: Shown) -> None:
        self._follow(self._client.execute(cell), shown)

    def _follow(self, request: str, shown: Shown) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                if not _is_alive(self.pid):
                    shown.error = KILLED
                    return
                assert time.monotonic() < deadline, "the cell hangs"
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return
            shown.take(message)

    def kill(self) -> None:
        """End the kernel as if the machine had failed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._await_end()

    def shut_down(self) -> None:
        """End the kernel as the menu does."""
        self._client.shutdown()
        self._await_end()

    def _await_end(self) -> None:
        until(lambda: not _is_alive(self.pid))
        self._client.stop_channels()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Kernels:
    """Opens notebooks of one folder, each with a kernel of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kernels"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            text=True,
        )
        self._opened: list[Kernel] = []
        self._numbers = itertools.count()
        self._sockets = tempfile.TemporaryDirectory()  # whose paths are short, as those of sockets have to be

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(LIMIT)
        self._sockets.cleanup()

    def open(self, folder: Path, notebook: str | None = "work.ipynb", **environ: str) -> Kernel:
        """Start a kernel for a notebook; None: for one whose file nobody knows."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        sockets = f"{self._sockets.name}/{next(self._numbers)}"
        connection = f"{sockets}.json"
        write_connection_file(connection, transport="ipc", ip=sockets)
        variables = {
            "DURABLE_DB": str(folder / "store" / "durable.db"),
            "IPYTHONDIR": str(folder / "ipython"),
            **environ,
        }
        if notebook is not None:
            variables["JPY_SESSION_NAME"] = str(folder / notebook)
        self._process.stdin.write(json.dumps((connection, str(folder), variables)) + "\n")
        self._process.stdin.flush()
        kernel = Kernel(int(self._process.stdout.readline()), connection)
        self._opened.append(kernel)
        return kernel

    def kill_all(self) -> None:
        """End all kernels."""
        for kernel in self._opened:
            kernel.kill()
        self._opened.clear()


def _serve() -> None:
    """Fork a kernel for each line that comes in, and answer with its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that dead kernels are gone at once
    for line in sys.stdin:
        connection, folder, variables = json.loads(line)
        pid = os.fork()
        if not pid:
            _become_kernel(connection, folder, variables)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become_kernel(connection: str, folder: str, variables: dict[str, str]) -> None:
    from ipykernel.kernelapp import launch_new_instance  # noqa: PLC0415 -- imported before the fork, by name here only

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv = ["kernel"]
    try:
        launch_new_instance(["-f", connection, "--HistoryManager.enabled=False", "--log-level=ERROR"])
    except SystemExit:
        pass
    finally:
        _end()


def _end() -> None:
    import atexit  # noqa: PLC0415 -- see above

    atexit._run_exitfuncs()
    os._exit(0)


if __name__ == "__main__":
    import ipykernel.ipkernel
    import ipykernel.kernelapp
    import ipykernel.zmqshell

    import durable.notebooks.extension
    import durable.steps.engine

    assert ipykernel.kernelapp
    assert durable.steps.engine
    _serve()
