"""Faults of the machine below a program: system calls that fail or kill, small disks, limits on file sizes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_tracers: list[subprocess.Popen[str]] = []  # as long as the process they trace
_ALLOW_TRACER, _ANYBODY = 0x59616D61, -1  # prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)


def inject(*rules: str, on: Iterable[Path] = ()) -> None:
    """Let system calls of this process fail or kill it from now on, by rules of `strace -e inject=`.

    With paths only calls on those files count. Each thread counts its calls by itself.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(_ALLOW_TRACER, _ANYBODY, 0, 0, 0)
    command = ["strace", "-f", "-o", os.devnull, "-p", str(os.getpid())]
    for rule in rules:
        command += ["-e", f"inject={rule}"]
    for path in on:
        command += ["-P", str(path)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    _tracers.append(tracer)
    said = tracer.stderr.readline()
    if "attached" not in said:
        raise PermissionError(said)


@cache
def why_not_inject() -> str:
    """Why system calls cannot be made to fail here, empty if they can."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "needs strace"
    program = "from tests.crash.faults import inject; inject('fdatasync:error=EIO')"
    tried = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    return "" if tried.returncode == 0 else f"strace may not attach here: {tried.stderr.splitlines()[-1]}"


def limit_file_size(size: int) -> None:
    """No file of this process grows beyond so many bytes; a write there fails with EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> bool:
        """Mount it, or with `remount` change it; False if that is not permitted."""
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return (
            shutil.which("mount") is not None
            and not subprocess.run(command, check=False, capture_output=True).returncode
        )

    def fill(self) -> Path:
        """Use up all the room that is left; gives the file that does."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        return ballast

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)
