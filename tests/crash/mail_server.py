"""The mail server of the examples, which counts mails and kills the process that sends them, before or after it took one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Literal

_PATH = Path(__file__).parents[2] / "examples" / "mail_server.py"
_SPEC = importlib.util.spec_from_file_location("mail_server", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
mail_server: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(mail_server)

Moment = Literal["before", "after", "later"]


class KillingMailServer(mail_server.MailServer):  # type: ignore[misc]  # of a file that is no module of a package
    """`taken` counts the mails by recipient."""

    def __init__(self) -> None:
        super().__init__(self._take)
        self.taken: Counter[str] = Counter()
        self._left = 0

    def kill(self, pid: int, mails: int, moment: Moment, delay: float) -> None:
        """Kill a process with its so manieth mail from now on; `delay` is seconds after that, for the moment `later`."""
        self._pid, self._left, self._moment, self._delay = pid, mails, moment, delay

    def _take(self, recipient: str) -> None:
        self._left -= 1
        is_hit = self._left == 0
        if is_hit and self._moment == "before":
            self._shoot()
            return
        self.taken[recipient] += 1
        if is_hit and self._moment == "after":
            self._shoot()
        elif is_hit:
            threading.Timer(self._delay, self._shoot).start()

    def _shoot(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it had sent its last mail and ended
            os.kill(self._pid, signal.SIGKILL)
