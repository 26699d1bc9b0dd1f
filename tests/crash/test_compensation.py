"""A run that fails undoes its finished steps, the last one first, whatever kills it on the way."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, reach
from tests.crash.killing_stores import KillingStore

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


class SoldOutError(Exception):
    """The third step cannot be done."""


def release(result: str, name: str, seats: int = 1) -> None:
    reach(f"before release {name}")
    did(f"release {name} {seats} {result}")
    if os.environ.get("STUCK") == name:
        raise ConnectionError(name)


@task(undo=release)
def reserve(name: str, seats: int = 1) -> str:
    did(f"reserve {name}")
    return name.upper()


@task
def ship() -> str:
    did("ship")
    if "SOLD_OUT" in os.environ:
        raise SoldOutError
    return "shipped"


@workflow(run_id="trip")
def trip() -> list[str]:
    return [reserve("a"), reserve("b", seats=2), ship()]


RESERVED = ["reserve a", "reserve b", "ship"]
RELEASED = ["release b 2 B", "release a 1 A"]


def _steps(run_id: str = "trip") -> list[tuple[str, str]]:
    return [(step.key.rpartition("/")[2].partition(":")[0], step.status) for step in durable.get_run(run_id).steps]


def test_finished_steps_are_undone_in_reverse_order(scene: Scene) -> None:
    """a and b succeed, c fails: b is undone, then a, each with its result and arguments, and the run fails."""
    assert scene.start(trip, SOLD_OUT="1").error == "SoldOutError"
    assert scene.ledger == RESERVED + RELEASED
    assert scene.start(_steps).value == [
        ("reserve", "undone"),
        ("reserve", "undone"),
        ("ship", "failed"),
        ("release", "succeeded"),
        ("release", "succeeded"),
    ]


def test_an_undone_step_is_executed_again_under_a_new_key(scene: Scene) -> None:
    """`charge` with `undo=refund`, `ship` fails, the refund ran; called again: charged again under a new key."""
    for _ in range(2):
        scene.start(trip, SOLD_OUT="1")
    assert scene.ledger == (RESERVED + RELEASED) * 2
    assert scene.start(trip).value == ["A", "B", "shipped"]
    assert scene.ledger == (RESERVED + RELEASED) * 2 + RESERVED
    keys = scene.start(_keys).value
    assert len(keys) == len(set(keys)) == 6


def _keys() -> list[str]:
    return [step.idempotency_key for step in durable.get_run("trip").steps if step.name.endswith("reserve")]


def test_a_crash_undoes_nothing(scene: Scene) -> None:
    """A kill is no failure: the run goes on where it was; what it had finished is undone if it fails then."""
    scene.kill("reserve b", trip)
    assert scene.start(trip, SOLD_OUT="1").error == "SoldOutError"
    assert scene.ledger == ["reserve a", "reserve b", *RESERVED[1:], *RELEASED]


def test_a_compensation_that_fails_does_not_stop_the_others(scene: Scene) -> None:
    """A failing compensation is recorded and said with the run's error, and the others go on; the next time the run fails
    it is tried again."""
    outcome = scene.start(_noted, SOLD_OUT="1", STUCK="b")
    assert outcome.value == ["Step 'reserve:b' could not be undone: ConnectionError('b')."]
    assert scene.ledger == RESERVED + RELEASED
    assert scene.start(_steps, "noted").value == [
        ("reserve", "undone"),
        ("reserve", "succeeded"),
        ("ship", "failed"),
        ("release", "failed"),
        ("release", "succeeded"),
    ]
    scene.forget()
    assert scene.start(_noted, SOLD_OUT="1").value == []
    assert scene.ledger == ["reserve a", "ship", *reversed(RELEASED)]


@workflow(run_id="noted")
def noted() -> None:
    keyed = reserve.with_options(key="{name}")
    keyed("a")
    keyed("b", seats=2)
    ship()


def _noted() -> list[str]:
    try:
        noted()
    except SoldOutError as error:
        return list(getattr(error, "__notes__", ()))
    raise AssertionError("did not fail")


def _trip(when: str = "", number: int = 0) -> list[str]:
    durable.configure(KillingStore(os.environ["DURABLE_DB"], when, number))
    try:
        return trip()
    finally:
        durable.configure(None)


@pytest.mark.parametrize("point", ["before release b", "release b 2 B", "before release a", "release a 1 A"])
def test_killed_around_every_compensation(scene: Scene, point: str) -> None:
    """Killed before and in each compensation, the resumed run goes on undoing: what was undone is not undone again, no
    other step is executed, and the run fails with the error that it was undone for."""
    scene.kill(point, trip, SOLD_OUT="1")
    before = scene.ledger
    resumed = scene.start(trip)
    assert resumed.error == "SoldOutError"
    last = point.removeprefix("before ")
    first = next(i for i, effect in enumerate(RELEASED) if effect.startswith(last))
    assert scene.ledger == before + RELEASED[first:]
    assert scene.start(trip).value == ["A", "B", "shipped"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_every_commit_while_undoing(scene: Scene, when: str) -> None:
    """Killed before and after every commit, the run ends as if it had not been: each step is undone once for each time
    that it was reserved, and no compensation whose end was recorded is executed again."""
    number = 1
    while (at := scene.beside(f"{number}")).is_killed(_trip, when, number, SOLD_OUT="1"):
        recorded = at.start(_undone).value
        before = at.ledger
        number += 1
        if at.start(_status).value == "failed":
            assert recorded == ["reserve", "reserve"]
            continue
        assert at.start(trip, SOLD_OUT="1").error == "SoldOutError"
        assert at.start(_undone).value == ["reserve", "reserve"]
        again = at.ledger[len(before) :]
        if recorded is not None:
            assert [effect for effect in again if effect.startswith("rel")] == RELEASED[len(recorded) :]
        assert [effect for effect in at.ledger if effect.startswith("rel")][-1] == RELEASED[-1]
    assert number > 6


def _status() -> str:
    runs = durable.list_runs()
    return runs[0].status if runs else ""


def _undone() -> list[str] | None:
    try:
        return [name for name, status in _steps() if status == "undone"]
    except durable.NotFoundError:
        return None


def test_undoing_goes_on_by_command(scene: Scene) -> None:
    """`durable resume` of a run that was killed in the middle goes on undoing, without the program that began it."""
    script = scene.folder / "shop.py"
    script.write_text(SHOP)
    assert scene.python(script, KILL_AT="refund b").returncode == -9
    done = scene.cli("resume", "shop")
    assert done.returncode == 1, done.stderr
    assert "ValueError: c" in done.stderr
    assert scene.ledger == ["charge a", "charge b", "refund b", "refund b", "refund a"]


SHOP = """
from durable import task, workflow
from tests.crash.effects import did

def refund(paid):
    did(f"refund {paid}")

@task
def charge(name):
    did(f"charge {name}")
    return name

@workflow(run_id="shop")
def shop():
    refunded = charge.with_options(undo=refund)
    refunded("a")
    refunded("b")
    raise ValueError("c")

shop()
"""


@task(idempotent=False)
def refund_once(paid: str) -> None:
    did(f"refund {paid}")
    if os.environ.get("STUCK") == paid:
        raise TimeoutError(paid)


@task(idempotent=False, undo=refund_once, key="{name}")
def charge(name: str) -> str:
    did(f"charge {name}")
    if os.environ.get("UNCLEAR") == name:
        raise TimeoutError(name)
    return name


@workflow(run_id="paid")
def paid() -> str:
    charge("a")
    charge("b")
    return ship()


def _resolve(step: str, *, happened: bool) -> None:
    durable.get_run("paid").resolve(step, durable.happened("b") if happened else durable.did_not_happen)


@pytest.mark.parametrize("happened", [True, False])
def test_a_compensation_in_doubt_blocks_the_run(scene: Scene, happened: bool) -> None:
    """A compensation that is not idempotent and ends without an answer: the others go on, then the run is blocked until
    it is decided; it is executed again only if it did not happen."""
    assert scene.start(paid, SOLD_OUT="1", STUCK="b").error == "StepInDoubtError"
    assert scene.ledger == ["charge a", "charge b", "ship", "refund b", "refund a"]
    assert scene.start(paid).error == "StepInDoubtError"
    scene.start(_resolve_refund, happened)
    scene.forget()
    assert scene.start(paid).error == "SoldOutError"
    assert scene.ledger == ([] if happened else ["refund b"])
    assert scene.start(paid).value == "shipped"
    assert scene.ledger[-3:] == ["charge a", "charge b", "ship"]


def _resolve_refund(happened: bool) -> None:
    _resolve("charge:b~undo/refund_once:b", happened=happened)


def test_a_compensation_that_is_not_idempotent_and_killed(scene: Scene) -> None:
    """Killed inside of a compensation that is not idempotent: the run is blocked, and nothing is refunded twice."""
    scene.kill("refund b", paid, SOLD_OUT="1")
    assert scene.start(paid, SOLD_OUT="1").error == "StepInDoubtError"
    scene.start(_resolve_refund, True)
    assert scene.start(paid, SOLD_OUT="1").error == "SoldOutError"
    assert scene.ledger == ["charge a", "charge b", "ship", "refund b", "refund a"]


def test_a_step_in_doubt_is_decided_before_anything_is_undone(scene: Scene) -> None:
    """A step with a compensation that may have happened blocks the failed run: nothing is undone before it is decided."""
    for _ in range(2):
        assert scene.start(paid, UNCLEAR="b").error == "StepInDoubtError"
    assert scene.ledger == ["charge a", "charge b"]
    scene.start(_resolve_charge)
    assert scene.start(paid, SOLD_OUT="1").error == "SoldOutError"
    assert scene.ledger == ["charge a", "charge b", "ship", "refund b", "refund a"]


def _resolve_charge() -> None:
    _resolve("charge:b", happened=True)


@task
def book(name: str) -> str:
    did(f"book {name}")
    reserve(f"{name} 1")
    reserve(f"{name} 2")
    if os.environ.get("FULL") == name:
        raise SoldOutError
    return name


@workflow
def child(name: str) -> str:
    quote(name)
    return reserve(name)


@task
def quote(name: str) -> None:
    did(f"quote {name}")


@workflow(run_id="nested")
def nested() -> list[str]:
    return [book("x"), child("y"), book("z"), ship()]


def test_steps_below_steps_and_child_runs_are_undone(scene: Scene) -> None:
    """What was finished below a step that failed, below one that succeeded and in a workflow that was called is undone;
    called again, those that held it are executed again, and only what was undone below them."""
    assert scene.start(nested, FULL="z").error == "SoldOutError"
    released = ["release z 2 1 Z 2", "release z 1 1 Z 1", "release y 1 Y", "release x 2 1 X 2", "release x 1 1 X 1"]
    assert [effect for effect in scene.ledger if effect.startswith("rel")] == released
    scene.forget()
    assert scene.start(nested).value == ["x", "Y", "z", "shipped"]
    inner = [f"{what} {name}" for name in "xz" for what in ("book",)]
    assert [effect for effect in scene.ledger if effect.startswith(("book", "quote"))] == inner
    assert [effect for effect in scene.ledger if effect.startswith("reserve")] == [
        "reserve x 1",
        "reserve x 2",
        "reserve y",
        "reserve z 1",
        "reserve z 2",
    ]


@pytest.mark.parametrize("point", ["release z 1 1 Z 1", "before release y", "release y 1 Y", "release x 2 1 X 2"])
def test_killed_while_undoing_what_is_nested(scene: Scene, point: str) -> None:
    """The same, killed in between: everything is undone in the end, and nothing twice but what was in flight."""
    scene.kill(point, nested, FULL="z")
    assert scene.start(nested).error == "SoldOutError"
    released = [effect for effect in scene.ledger if effect.startswith("rel")]
    assert sorted(set(released)) == sorted(
        ["release z 2 1 Z 2", "release z 1 1 Z 1", "release y 1 Y", "release x 2 1 X 2", "release x 1 1 X 1"]
    )
    assert len(released) == 5 + (not point.startswith("before"))
    assert scene.start(nested).value == ["x", "Y", "z", "shipped"]


async def release_later(result: str) -> None:
    await asyncio.sleep(0)
    did(f"release {result}")


@task(undo=release_later)
async def reserve_async(name: str) -> str:
    did(f"reserve {name}")
    return name


@task(undo=release_later)
def reserve_sync(name: str) -> str:
    did(f"reserve {name}")
    return name


@workflow(run_id="async")
async def async_trip() -> None:
    await asyncio.gather(reserve_async("a"), reserve_async("b"))
    reserve_sync("c")
    ship()


@workflow(run_id="sync")
def sync_trip() -> None:
    reserve_sync("a")
    ship()


def _block() -> None:
    with durable.run("block"):
        reserve_sync("a")
        ship()


async def _async_block() -> None:
    async with durable.run("block"):
        await reserve_async("a")
        ship()


@pytest.mark.parametrize(
    ("program", "names"), [(async_trip, "abc"), (sync_trip, "a"), (_block, "a"), (_async_block, "a")]
)
def test_async_compensations(scene: Scene, program: Any, names: str) -> None:
    """Async compensations are awaited, in async and in sync runs and blocks, also when they go on after a kill."""
    scene.kill(f"release {names[-1]}", program, SOLD_OUT="1")
    assert scene.start(program).error == "SoldOutError"
    assert scene.ledger[len(names) + 1 :][0] == f"release {names[-1]}"
    assert sorted(scene.ledger[len(names) + 2 :]) == [f"release {name}" for name in names]


@workflow(run_id="held")
def holds_a_client(client: Any) -> None:
    open_session(client, "a")
    ship()


def close_session(result: Any, client: Any, name: str) -> None:
    did(f"close {name} {type(result).__name__} {type(client).__name__}")


@task(undo=close_session)
def open_session(_client: Any, name: str) -> Any:
    did(f"open {name}")
    return _live() if "LIVE" in os.environ else 5


def _live() -> Any:
    return (number for number in range(3))


def _holds_a_client() -> None:
    holds_a_client(_live())


def test_arguments_and_results_that_cannot_be_stored(scene: Scene) -> None:
    """Live objects are handed to a compensation as long as the process lives, with a warning that they do not survive it;
    after a crash the compensation fails and says so."""
    outcome = scene.start(_holds_a_client, LIVE="1")
    assert outcome.error == "NotSerializableError"
    assert [text for text in outcome.warnings if "has undo=, and its arguments cannot be stored" in text]
    assert scene.ledger == ["open a", "close a generator generator"]
    other = scene.beside("other")
    other.kill("close a int generator", _holds_a_client, SOLD_OUT="1")
    assert other.start(_holds_a_client).error == "SoldOutError"
    assert other.start(_steps, "held").value == [
        ("open_session", "succeeded"),
        ("ship", "failed"),
        ("close_session", "failed"),
    ]
    assert "could not be stored" in other.cli("show", "held").stdout
    assert other.ledger == ["open a", "ship", "close a int generator"]


def _fresh_trip() -> list[str]:
    return trip.with_options(fresh=True)()


def test_a_fresh_run_says_what_was_not_undone(scene: Scene) -> None:
    """A fresh run in place of one that was killed while it was undone warns that the rest is not undone."""
    scene.kill("release b 2 B", trip, SOLD_OUT="1")
    outcome = scene.start(_fresh_trip)
    assert outcome.value == ["A", "B", "shipped"]
    assert [text for text in outcome.warnings if "interrupted while its steps were undone" in text]
