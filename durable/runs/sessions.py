"""The store that this process uses, opened at the first use, with its journal and serializer; one per store URL."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from durable.configuration import Settings, Switches
from durable.declarations import naming
from durable.errors import ConfigurationError, CorruptRecordError, StoreError, StoreFailedError
from durable.journal import Journal
from durable.telling import notices
from durable.values.serializers import Serializer
from durable.values.vaults import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable.records import Claim, Request
    from durable.runs.execution import Execution
    from durable.steps.timed_bodies import TimedBody
    from durable.stores.protocol import Store


@dataclass(eq=False)
class Session:
    """An open store and what belongs to it.

    `anchor` is where scripts are named from, None for the first store of the process. `active` are the executions of this
    process by run id; `opening` the runs that are about to be claimed or changed; `left_running` the bodies that outlived
    both their timeout and their run.
    """

    store: Store
    journal: Journal
    serializer: Serializer
    anchor: str | None = None
    active: dict[str, Execution] = field(default_factory=dict)
    opening: set[str] = field(default_factory=set)
    left_running: list[TimedBody] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, value: bytes, *, run: str, step: str) -> bytes:
        """Follow a reference that the store put in the place of a value of this run and step."""
        if value[:1] != b"\0":
            return value
        try:
            return self.store.fetch(value)
        except CorruptRecordError as error:
            raise CorruptRecordError(f"The record of step {step!r} of run {run!r} cannot be read. {error}") from error

    def claim(self, run_id: str, now: float) -> Claim | None:
        """Make this process the owner of a run, see `Store.claim`; a failure is one of the whole store."""
        try:
            return self.store.claim(run_id, host=socket.gethostname(), pid=os.getpid(), now=now)
        except StoreFailedError as error:
            raise self.journal.give_up(error) from error


_SQLITE = "sqlite:///"
NAMED_SOURCES = ("the program or --db", "DURABLE_DB")  # what chooses a store whatever the folder is
_sessions: dict[str, Session] = {}
_guard = threading.Lock()
_chosen: str | os.PathLike[str] | Store | None = None
_told_disabled = False
_forked_from: frozenset[bool | None] = frozenset()
clock: Callable[[], float] = time.time  # seconds since 1970
_located: tuple[str, Settings] | None = None  # what DURABLE_DB said, and what was found


def configure(db: str | os.PathLike[str] | Store | None) -> None:
    """Choose the checkpoint store for this process: a path, a URL or an open `Store`; None to look for the default again.

    Takes precedence over `DURABLE_DB` and `[tool.durable]`. Runs that are under way keep the store they began with. After a
    failure the next call opens a SQLite store again; a store of your own is used as it is.
    """
    global _chosen, _located  # noqa: PLW0603 -- one choice per process
    if db is not None and not isinstance(db, str | os.PathLike) and not hasattr(db, "claim"):
        raise ConfigurationError(f"configure(db=...) takes a path, a URL or a store, not {db!r}.")
    _chosen = db
    if db is None:
        _located = None


def source() -> str:
    """Say what chose the store."""
    return NAMED_SOURCES[0] if _chosen is not None else _default().source


def location() -> str:
    """Give the path or URL of the store that is opened at the next use; empty if the program chose an open one."""
    return _url()


def settings() -> Settings:
    """Read the environment and `[tool.durable]` as they are now."""
    return Settings.load(os.environ, Path.cwd())


def current() -> Session:
    """Give the session of the configured store; opens it at the first use.

    Raises `StoreUnusableError`, `StoreTooNewError` or `ConfigurationError`.
    """
    if _chosen is not None and not isinstance(_chosen, str | os.PathLike):
        return _session(f"object:{id(_chosen)}", _chosen)
    return _session(_url(), None)


def switches() -> Switches:
    """Read what the environment says about the next call."""
    return Switches.load(os.environ)


def is_disabled() -> bool:
    """Whether DURABLE_DISABLE turns every decorator into a pass-through; says so once."""
    value = os.environ.get("DURABLE_DISABLE")
    if not value or not switches().disable:
        return False
    global _told_disabled  # noqa: PLW0603 -- said once per process
    if not _told_disabled:
        _told_disabled = True
        notices.tell("DURABLE_DISABLE is set: nothing is recorded and nothing is replayed.")
    return True


def defaults_of_active_runs() -> frozenset[bool | None]:
    """Give the defaults for `idempotent` of the runs that execute in this process, or did in the one it was forked from."""
    active = [execution for session in list(_sessions.values()) for execution in list(session.active.values())]
    return _forked_from.union(execution.workflow.idempotent for execution in active)


def has_active_runs() -> bool:
    """Whether a run executes in this process, or did in the one that it was forked from."""
    for session in tuple(_sessions.values()):
        if session.active:
            return True
    return bool(_forked_from)


def _url() -> str:
    if _chosen is not None:
        return os.fspath(_chosen) if isinstance(_chosen, str | os.PathLike) else ""
    return _default().db


def _default() -> Settings:
    """Find the default store, from the folder of the first use on: a later `chdir` must not take recorded runs out of sight."""
    global _located  # noqa: PLW0603 -- found once per process
    named = os.environ.get("DURABLE_DB", "")
    if _located is None or _located[0] != named:
        _located = (named, settings())
    return _located[1]


def _session(url: str, store: Store | None) -> Session:
    session = _sessions.get(url)
    if session is not None and session.journal.failure is None:
        return session
    with _guard:
        session = _sessions.get(url)
        if session is None:
            session = _sessions[url] = _open(url, store)
        elif session.journal.failure is not None:
            _recover(session, url, store)
        return session


def _open(url: str, store: Store | None) -> Session:
    opened = _open_store(url, store)
    anchor = naming.set_anchor(_anchor(opened.url))
    keys = settings().secret_keys
    session = Session(opened, Journal(opened), Serializer(keys=keys, vault=Vault(keys, _key_file(opened.url))), anchor)
    session.journal.on_request = lambda requests: _pass_on(session, requests)
    return session


def _open_store(url: str, store: Store | None) -> Store:
    if store is not None:
        return store
    from durable.stores import open_store  # noqa: PLC0415 -- slow to import; a store is opened at the first use

    return open_store(url)


def _recover(session: Session, url: str, store: Store | None) -> None:
    """Open the store again after a failure and write what it did not take; an object of the user's own has to be able to."""
    if store is None or store.url.startswith(_SQLITE):
        with contextlib.suppress(StoreError):
            session.store.close()
        session.store = _open_store(url if store is None else store.url, None)
    session.journal.reopen(session.store)


def _anchor(url: str) -> str:
    path = url.partition(_SQLITE)[2]
    if not path:
        return ""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.dirname(folder) if os.path.basename(folder) == ".durable" else folder


def _key_file(url: str) -> Path | None:
    """Name the file beside a store that holds the key to what sensitive steps give."""
    path = url.partition(_SQLITE)[2]
    return Path(f"{path}.key") if path else None


def _pass_on(session: Session, requests: Mapping[str, Request]) -> None:
    for run_id, request in requests.items():
        execution = session.active.get(run_id)
        if execution is not None:
            execution.standby.notice(request.mail)
            execution.receive(request.wish)


def _close_all() -> None:
    """At the end of the process; what calls us afterwards, from an exit handler of its own, opens the store again."""
    for session in _sessions.values():
        for execution in list(session.active.values()):
            if execution.run.parent_run is None:
                notices.tell_left_behind(execution.id)
        with contextlib.suppress(StoreError):
            session.journal.close()
        with contextlib.suppress(StoreError):
            session.store.close()
    _sessions.clear()


def _forget_all() -> None:
    """In a forked child: everything is opened anew, and nothing of the parent's is flushed or closed here."""
    global _guard, _forked_from  # noqa: PLW0603 -- another thread of the parent may have held the lock
    _forked_from = defaults_of_active_runs()
    for session in _sessions.values():
        session.journal.disown()
        for execution in session.active.values():
            execution.disown()
    _sessions.clear()
    _guard = threading.Lock()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
