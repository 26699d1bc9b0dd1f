"""A real SMTP server that counts what it takes, and kills the process that sends, before or after it took a mail."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from aiosmtpd.smtp import SMTP

if TYPE_CHECKING:
    from typing import Self

    from aiosmtpd.smtp import Envelope, Session

Moment = Literal["before", "after", "later"]


class MailServer:
    """Runs in a thread; `taken` counts the mails by recipient."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.port = 0
        self._plan: tuple[int, Moment, float] | None = None
        self._pid = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(30)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: SMTP(self, hostname="localhost", loop=self._loop), "127.0.0.1", 0
        )

    async def _stop(self) -> None:
        self._server.close()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def kill(self, pid: int, mails: int, moment: Moment, delay: float) -> None:
        """Kill a process with its so manieth mail from now on; `delay` is seconds after that, for the moment `later`."""
        self._pid, self._plan = pid, (mails, moment, delay)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        """Take a mail, unless the process that sends it is killed before."""
        moment, delay = self._blow()
        if moment == "before":
            self._shoot()
            return "451 the sender is dead"
        self.taken.update(envelope.rcpt_tos)
        if moment == "after":
            self._shoot()
        elif moment == "later":
            self._loop.call_later(delay, self._shoot)
        return "250 taken"

    def _blow(self) -> tuple[Moment | None, float]:
        if self._plan is None:
            return None, 0
        mails, moment, delay = self._plan
        self._plan = (mails - 1, moment, delay) if mails > 1 else None
        return (None, 0) if mails > 1 else (moment, delay)

    def _shoot(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("handle_", "ehlo_", "auth_")):  # what aiosmtpd looks for and we do not have
            raise AttributeError(name)
        raise AttributeError(name)
