"""Observers are told of every transition, by whichever process it is made, and change none."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from typing import TYPE_CHECKING, Any, get_args

import pytest

import durable
from durable import task, workflow
from durable.telling.observers import EventType
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task
def load(name: str) -> str:
    did(f"load {name}")
    return name


def unload(name: str) -> None:
    did(f"unload {name}")


@task(attempts=2, undo=unload)
def store(name: str) -> str:
    did(f"store {name}")
    if os.environ.get("FLAKY") == name and "TOLD" not in os.environ:
        os.environ["TOLD"] = "yes"
        raise ConnectionError(name)
    return name


@task(sensitive=True)
def log_in(password: str) -> None:
    raise PermissionError(password)


@task(idempotent=False)
def pay() -> None:
    did("pay")


@workflow(run_id="import")
def imported() -> str:
    load("a")
    saved("a")
    store("b")
    if "PAY" in os.environ:
        pay()
    if "LOG_IN" in os.environ:
        log_in("hunter2")
    return "done"


def _told(scene: Scene) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (scene.folder / "events").read_text().splitlines()]


def _names(scene: Scene) -> list[str]:
    shown = [(event["type"], event.get("step", "").partition(":")[0]) for event in _told(scene)]
    return [" ".join(filter(None, each)) for each in shown]


def test_events_of_a_run_that_is_killed(scene: Scene) -> None:
    """One JSON line an event goes into the file that DURABLE_EVENTS names, over a kill and a resume: a replayed step says
    replayed, never started; the file is its owner's."""
    events = str(scene.folder / "events")
    scene.kill("a", imported, DURABLE_EVENTS=events)
    assert _names(scene) == ["run_started", "step_started load", "step_succeeded load"]
    scene.start(imported, DURABLE_EVENTS=events, FLAKY="b")
    assert _names(scene)[3:] == [
        "run_resumed",
        "step_replayed load",
        "step_started store",
        "step_retrying store",
        "step_started store",
        "step_succeeded store",
        "run_succeeded",
    ]
    assert stat.S_IMODE(os.stat(events).st_mode) == 0o600
    first, retrying = _told(scene)[0], _told(scene)[6]
    assert (first["run"], first["workflow"]) == ("import", f"{__name__}.imported")
    assert (retrying["attempt"], retrying["error"], retrying["parent"]) == (1, "ConnectionError: b", 0)


def test_events_of_runs_that_fail(scene: Scene) -> None:
    """Failures, doubts and compensations are events; of a sensitive step's error the type alone is told."""
    events = str(scene.folder / "events")
    scene.start(imported, DURABLE_EVENTS=events, LOG_IN="1")
    assert _names(scene)[5:] == [
        "step_started log_in",
        "step_failed log_in",
        "step_started store",
        "step_succeeded store",
        "step_undone store",
        "run_failed",
    ]
    assert "hunter2" not in (scene.folder / "events").read_text()
    assert [event["error"] for event in _told(scene) if "error" in event] == ["PermissionError"] * 2
    scene.kill("pay", imported, DURABLE_EVENTS=events, PAY="1")
    scene.forget()
    assert scene.start(imported, DURABLE_EVENTS=events, PAY="1").error == "StepInDoubtError"
    assert _names(scene)[-5:] == [
        "run_resumed",
        "step_replayed load",
        "step_replayed store",
        "step_in_doubt pay",
        "run_blocked",
    ]


@task
async def fetch(page: int) -> int:
    await asyncio.sleep(0)
    did(f"fetch {page}")
    return page


@workflow(run_id="pages")
async def pages() -> list[int]:
    return await asyncio.gather(*(fetch(page) for page in range(3)))


def _observed() -> list[tuple[str, int | None]]:
    told: list[durable.Event] = []
    calls: list[str] = []

    def broken(event: durable.Event) -> None:
        calls.append(event.type)
        load("from an observer")
        raise ValueError(event.type)

    ends = [durable.subscribe(told.append), durable.subscribe(broken)]
    asyncio.run(pages())
    assert calls == [event.type for event in told]
    assert {event.type for event in told} <= set(get_args(EventType))
    for end in ends:
        end()
        end()
    asyncio.run(pages.with_options(fresh=True)())
    assert calls == [event.type for event in told]
    return [(event.type, event.number) for event in told]


def test_an_observer_that_raises_changes_nothing(scene: Scene) -> None:
    """A function of the program is told of each event until it unsubscribes; one that raises, or calls tasks, changes
    neither the run nor what others are told."""
    outcome = scene.start(_observed)
    assert not outcome.error, outcome
    told = outcome.value
    assert (told[0], told[-1]) == (("run_started", None), ("run_succeeded", None))
    assert sorted(told[1:-1], key=lambda event: event[1]) == [
        (kind, number) for number in (1, 2, 3) for kind in ("step_started", "step_succeeded")
    ]
    steps = scene.start(_keys).value
    assert [key.partition(":")[0].rpartition("/")[2] for key in steps] == ["fetch"] * 3


def _keys() -> list[str]:
    return [step.name.rpartition(".")[2] + ":" for step in durable.get_run("pages").steps]


@pytest.mark.parametrize("path", ["missing/events", "."])
def test_a_file_that_cannot_be_written(scene: Scene, path: str) -> None:
    """A file for events that cannot be opened is an error before anything is executed."""
    outcome = scene.start(imported, DURABLE_EVENTS=str(scene.folder / path))
    assert (outcome.error, "DURABLE_EVENTS" in outcome.message) == ("ConfigurationError", True)
    assert scene.ledger == []


def test_what_cannot_be_called_is_no_observer() -> None:
    """Subscribing something that cannot be called is an error."""
    with pytest.raises(durable.ConfigurationError, match="takes a function"):
        durable.subscribe(5)  # type: ignore[arg-type]  # that is the mistake
