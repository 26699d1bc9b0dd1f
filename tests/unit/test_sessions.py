from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.errors import ConfigurationError, CorruptRecordError, StoreFailedError
from durable.journal import Fence
from durable.records import StepQuery
from durable.runs import sessions
from durable.stores.memory import MemoryStore
from tests.unit.histories import RUN, make_run, make_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable.records import Batch


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, and no choice of a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DURABLE_DB", raising=False)
    durable.configure(None)
    yield tmp_path
    durable.configure(None)


def test_nothing_is_opened_before_it_is_used(folder: Path) -> None:
    """Choosing a store touches no file; using it does."""
    durable.configure(folder / "a.db")
    assert list(folder.iterdir()) == []
    assert sessions.current().store.url == f"sqlite:///{folder / 'a.db'}"
    assert (folder / "a.db").exists()


def test_one_session_for_each_store(folder: Path) -> None:
    """The same URL gives the same session, from every thread; another one gives another."""
    found: list[sessions.Session] = []
    together = threading.Barrier(8)

    def look() -> None:
        together.wait()
        found.append(sessions.current())

    durable.configure(folder / "a.db")
    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    durable.configure(folder / "b.db")
    assert sessions.current() is not found[0]
    durable.configure(str(folder / "a.db"))
    assert sessions.current() is found[0]


def test_the_program_beats_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` comes before DURABLE_DB, which is read anew when it changes; None gives the choice back."""
    monkeypatch.setenv("DURABLE_DB", str(folder / "environment.db"))
    assert sessions.current().store.url.endswith("environment.db")
    assert "DURABLE_DB" in sessions.source()
    durable.configure(folder / "program.db")
    assert sessions.current().store.url.endswith("program.db")
    assert sessions.source() == "the program or --db"
    durable.configure(None)
    monkeypatch.setenv("DURABLE_DB", str(folder / "other.db"))
    assert sessions.current().store.url.endswith("other.db")


def test_the_default_is_found_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the first use decides, also for a relative path; `configure(None)` looks again."""
    (folder / "elsewhere").mkdir()
    for named, expected in (("", ".durable/durable.db"), ("relative.db", "relative.db")):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DURABLE_DB", named)
        first = sessions.current()
        assert first.store.url == f"sqlite:///{folder / expected}"
        monkeypatch.chdir("elsewhere")
        assert sessions.current() is first
        assert sessions.location() == str(folder / expected)
    durable.configure(None)
    assert sessions.current().store.url == f"sqlite:///{folder / 'elsewhere' / 'relative.db'}"


@pytest.mark.parametrize("db", [5, object(), ["x"], b"x"])
def test_what_is_no_store_is_refused(db: object) -> None:
    """What is neither path, URL nor store is refused at once."""
    with pytest.raises(ConfigurationError, match="a path, a URL or a store"):
        durable.configure(db)  # type: ignore[arg-type]  # the mistake under test


def test_a_run_keeps_the_store_it_began_with(folder: Path) -> None:
    """Choosing another store while a run executes concerns later runs only."""

    @task
    def work(number: int) -> int:
        durable.configure(folder / "b.db")
        return number

    @workflow(run_id="one")
    def one() -> int:
        return work(1) + work(2)

    durable.configure(folder / "a.db")
    assert one() == 3
    assert durable.list_runs() == []
    durable.configure(folder / "a.db")
    assert [step.status for step in durable.get_run("one").steps] == ["succeeded"] * 2


class BreakingStore(MemoryStore):
    """A memory store whose writes fail while it is broken."""

    broken = False
    closed = 0

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        if self.broken:
            raise StoreFailedError("disk full")
        return super().write(batch, wait=wait)

    def close(self) -> None:
        self.closed += 1


def test_a_store_that_failed_is_used_again() -> None:
    """The next use after a failure goes on with a store of the user's own and writes what it did not take."""
    store = BreakingStore()
    durable.configure(store)
    session = sessions.current()
    fence = Fence(RUN, 1, store.owner, lambda: None)
    session.journal.flush(session.journal.append(fence, make_run(store), created=True))
    store.broken = True
    ticket = session.journal.append(fence, make_step(1))
    with pytest.raises(StoreFailedError):
        session.journal.flush(ticket)
    with pytest.raises(StoreFailedError):
        sessions.current()
    store.broken = False
    assert sessions.current() is session
    assert session.journal.failure is None
    assert store.closed == 0
    assert [step.seq for step in store.steps(RUN, StepQuery())] == [1]


def test_values_are_followed_to_where_the_store_keeps_them() -> None:
    """A value that stands in the record is given as it is; a broken reference names the step and the run."""
    durable.configure(MemoryStore())
    session = sessions.current()
    assert session.fetch(b"value", run="r", step="s") == b"value"
    with pytest.raises(CorruptRecordError, match="step 's' of run 'r'"):
        session.fetch(b"\0gone", run="r", step="s")


def test_active_runs_are_known() -> None:
    """While a run executes the process knows it, and no longer."""
    durable.configure(MemoryStore())
    seen: list[bool] = []

    @workflow(run_id="active")
    def active() -> None:
        seen.append(bool(sessions.defaults_of_active_runs()))

    active()
    assert (seen, bool(sessions.defaults_of_active_runs())) == ([True], False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_its_own(folder: Path) -> None:
    """A child has no session of its parent's: it opens the store anew and is another owner."""
    durable.configure(folder / "a.db")
    parent = sessions.current()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover -- in the child
        child = sessions.current()
        os.write(writing, f"{child is not parent} {child.store.owner != parent.store.owner}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with open(reading) as answer:
        assert answer.read() == "True True"
    assert sessions.current() is parent


@pytest.mark.parametrize("value", ["1", "true"])
def test_disabled_is_said_once(value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """DURABLE_DISABLE turns decorators into pass-throughs, and says so on stderr once."""
    monkeypatch.setenv("DURABLE_DISABLE", value)
    monkeypatch.setattr(sessions, "_told_disabled", False)
    assert sessions.is_disabled()
    assert sessions.is_disabled()
    assert capsys.readouterr().err.count("DURABLE_DISABLE is set") == 1
    monkeypatch.delenv("DURABLE_DISABLE")
    assert not sessions.is_disabled()
