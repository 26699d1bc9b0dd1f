"""A fork, or a run that was hydrated, undoes the workflows that it keeps finished if it fails; its source stays as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import durable
from durable import task, workflow
from tests.crash.effects import did, reach

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


def release(_result: str, name: str) -> None:
    did(f"release {name}")


@task(undo=release, idempotent=False, key="{name}")
def reserve(name: str) -> str:
    did(f"reserve {name}")
    return name


@workflow
def room(name: str) -> str:
    return reserve(f"{name} room")


@workflow
def hotel(name: str) -> str:
    return room(name) + reserve(name)


@workflow(run_id="car-{name}")
def car(name: str) -> str:
    return reserve(f"{name} car")


@task
def fly() -> str:
    reach("before fly")
    if "SOLD_OUT" in os.environ:
        raise ConnectionError("sold out")
    did("fly")
    return "flown"


@workflow(run_id="trip")
def trip() -> list[str]:
    found = [hotel("inn"), reserve("train")]
    if "CAR" in os.environ:
        found.append(car("red"))
    durable.checkpoint("reserved")
    return [*found, fly()]


RESERVED = ["reserve inn room", "reserve inn", "reserve train"]
RELEASED = ["release train", "release inn", "release inn room"]


def _fork() -> Any:
    return durable.get_run("trip").fork(from_="reserved").resume()


def _resume() -> Any:
    return durable.get_run("trip-fork-1").resume()


def _refork() -> Any:
    return durable.get_run("trip-fork-1").fork(from_="fly").resume()


def _take() -> dict[str, Any]:
    return durable.get_run("trip").snapshot()


def _hydrate(snapshot: dict[str, Any]) -> Any:
    return trip.with_options(snapshot=snapshot)()


def test_a_fork_undoes_what_the_workflows_did_that_it_keeps(scene: Scene) -> None:
    """A fork fails: what the workflows did that had finished before its point is undone like all else; called again, it
    executes them again. The source has what it had."""
    found = scene.start(trip).value
    scene.forget()
    assert scene.start(_fork, SOLD_OUT="1").error == "ConnectionError"
    assert scene.ledger == RELEASED
    scene.forget()
    assert scene.start(_resume).value == found
    assert scene.ledger == [*RESERVED, "fly"]
    scene.forget()
    assert scene.start(trip).value == found
    assert scene.ledger == []


def test_killed_while_a_fork_is_undone(scene: Scene) -> None:
    """Killed between the compensations of a workflow that it keeps, the fork goes on undoing."""
    scene.start(trip)
    scene.forget()
    scene.kill("release inn", _fork, SOLD_OUT="1")
    assert scene.start(_resume, SOLD_OUT="1").error == "ConnectionError"
    assert sorted(set(scene.ledger)) == sorted(RELEASED)


def test_a_fork_of_a_fork_undoes_them_too(scene: Scene) -> None:
    """What a fork keeps of workflows is kept, and undone, by a fork of it."""
    scene.start(trip)
    scene.start(_fork)
    scene.forget()
    assert scene.start(_refork, SOLD_OUT="1").error == "ConnectionError"
    assert scene.ledger == RELEASED


def test_a_hydrated_run_undoes_them_too(scene: Scene) -> None:
    """A run that begins with a snapshot fails in another store: the workflows that it keeps finished are undone."""
    scene.kill("before fly", trip)
    there = scene.beside("elsewhere")
    snapshot = scene.start(_take).value
    assert there.start(_hydrate, snapshot, SOLD_OUT="1").error == "ConnectionError"
    assert there.ledger == RELEASED
    there.forget()
    assert there.start(trip).value[-1] == "flown"
    assert there.ledger == [*RESERVED, "fly"]


def test_a_workflow_that_has_its_own_name_is_left_to_the_source(scene: Scene) -> None:
    """A workflow that is named by its inputs is no other run in a fork: that it is not undone is recorded, and whose it is."""
    scene.start(trip, CAR="1")
    scene.forget()
    assert scene.start(_fork, SOLD_OUT="1", CAR="1").error == "ConnectionError"
    assert scene.ledger == RELEASED
    shown = scene.cli("show", "trip-fork-1").stdout
    assert "is run car-red, which belongs to run trip" in " ".join(shown.split())
