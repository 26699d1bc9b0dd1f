"""A store whose process is killed at a commit."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from durable.stores.sql.sqlite import SQLiteStore

if TYPE_CHECKING:
    from durable.records import Batch, Claim


class KillingStore(SQLiteStore):
    """The process is killed, or gets another signal, right before or after its n-th commit; 0: nowhere."""

    def __init__(self, path: str, when: str, number: int, blow: signal.Signals = signal.SIGKILL) -> None:
        super().__init__(path)
        self._blow = blow
        self._point = f"{when} {number}"
        self._number = 0

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        self._begin_commit()
        lost = super().write(batch, wait=wait)
        self._reach("after")
        return lost

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        self._begin_commit()
        claim = super().claim(run_id, host=host, pid=pid, now=now)
        self._reach("after")
        return claim

    def _begin_commit(self) -> None:
        self._number += 1
        self._reach("before")

    def _reach(self, when: str) -> None:
        if f"{when} {self._number}" == self._point:
            os.kill(os.getpid(), self._blow)
