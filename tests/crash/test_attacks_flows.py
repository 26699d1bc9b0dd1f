"""Programs that submit, wait, undo and generate, stopped at the worst moment: nothing is done twice, lost or left waiting."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import await_signal, did, reach, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Scene


@task
def holds(number: int) -> int:
    did(f"hold {number}")
    if number == 1:
        await_signal()
        time.sleep(0.2)
    return number


@workflow(run_id="held", max_workers=1)
def held() -> list[int]:
    return list(holds.map([1, 2]))


def test_an_interrupt_says_what_it_waits_for(scene: Scene) -> None:
    """Ctrl-C while a body runs in a thread: it is said that the run waits for it, the rest does not begin, and a resumed
    run does the rest alone."""
    outcome = scene.strike(signal.SIGINT, held)
    assert not isinstance(outcome, str)
    assert outcome.error == "KeyboardInterrupt"
    assert "held was interrupted and ends when holds:" in outcome.said
    assert "kill -9" in outcome.said
    assert scene.start(held).value == [1, 2]
    assert scene.ledger == ["hold 1", "hold 2"]


@task
def gathers(late: bool) -> list[int]:
    try:
        return [holds(1), *holds.map([2, 3])] if late else list(holds.map([1, 2, 3], concurrency=1))
    except Exception:  # what a body makes of failures is its result
        return []


@workflow(run_id="gathered", max_workers=1)
def gathered(late: bool) -> list[int]:
    return gathers.submit(late).result()


@pytest.mark.parametrize("late", [False, True])
def test_what_an_interrupt_keeps_from_beginning_is_no_failure(scene: Scene, late: bool) -> None:
    """Ctrl-C while a submitted task waits for what it has submitted itself, or is about to: that it is not executed is
    nothing that the task could take for a failure, and a resumed run does the rest alone."""
    outcome = scene.strike(signal.SIGINT, gathered, late)
    assert not isinstance(outcome, str)
    assert outcome.error == "KeyboardInterrupt"
    assert scene.start(gathered, late).value == [1, 2, 3]
    assert sorted(scene.ledger) == ["hold 1", "hold 2", "hold 3"]


def release(result: str, name: str) -> None:
    did(f"release {name}")
    durable.state.add("released", [name])


@task(undo=release, idempotent=False, key="{name}")
def reserve(name: str, *_before: Any) -> str:
    did(f"reserve {name}")
    durable.state.add("n", 1)
    return name


@task
def pages(count: int) -> Iterator[int]:
    for number in range(count):
        did(f"page {number}")
        durable.state.add("pages", 1)
        yield number


@task
def confirm(results: list[str]) -> str:
    did("confirm")
    if os.environ.get("REFUSED"):
        raise ConnectionError
    return "-".join(results)


@workflow(run_id="everything", max_workers=2)
def everything() -> Any:
    first = reserve.submit("a")
    second = reserve.with_options(after=[first], priority=5).submit("b")
    seen = []
    for page in pages(5):
        seen.append(page)
        if page == 2:
            break
    assert durable.state["pages"] == 3
    order = [future.result() for future in durable.as_completed([first, second])]
    saved("both")
    durable.checkpoint("reserved")
    confirmed = confirm.submit([first, second]).result()
    return order, seen, confirmed, durable.state["n"], durable.state["pages"]


POINTS = ["reserve a", "page 1", "page 2", "reserve b", "both", "confirm"]
RESULT = (["a", "b"], [0, 1, 2], "a-b", 2, 3)


def _resolve() -> Any:
    """Say of a reservation in doubt what the ledger says."""
    from tests.crash.effects import effects  # noqa: PLC0415 -- in the fork

    while True:
        try:
            return everything()
        except durable.StepInDoubtError as doubt:
            name = doubt.step_key[-1]
            happened = durable.happened(name) if f"reserve {name}" in effects() else durable.did_not_happen
            durable.get_run("everything").resolve(doubt.step_key, happened)


@pytest.mark.parametrize("point", POINTS)
def test_all_at_once_killed_anywhere(scene: Scene, point: str) -> None:
    """Dependencies, a priority, a generator that is closed, state, a checkpoint and a merge: killed at each effect, every
    reservation is made once, and the result is that of a run that was not killed."""
    scene.kill(point, everything)
    found = scene.start(_resolve).value
    assert found[:3] == RESULT[:3]
    assert found[4] == 3
    # what was in doubt and decided by a person changed no state
    assert found[3] == 2 or point not in ("both", "confirm")
    assert sorted(effect for effect in scene.ledger if effect.startswith("reserve")) == ["reserve a", "reserve b"]
    assert scene.start(everything).value[:3] == RESULT[:3]


def _fork() -> Any:
    fork = durable.get_run("everything").fork(from_="reserved")
    return fork.resume()


def _snapshot() -> str:
    return json.dumps(durable.get_run("everything").snapshot())


def _hydrate(snapshot: str) -> Any:
    return everything.with_options(snapshot=json.loads(snapshot), trust_snapshot=True)()


def test_all_at_once_forked_and_hydrated(scene: Scene) -> None:
    """The same after a failure: all reservations are undone; a fork and a snapshot of a run that succeeded reserve nothing."""
    failed = scene.beside("failed")
    assert failed.start(everything, REFUSED="1").error == "ConnectionError"
    assert failed.ledger[-2:] == ["release b", "release a"]
    assert failed.start(everything).value == RESULT
    assert scene.start(everything).value == RESULT
    scene.forget()
    assert scene.start(_fork).value == RESULT
    assert [effect for effect in scene.ledger if effect.startswith("re")] == []
    snapshot = scene.start(_snapshot).value
    elsewhere = scene.beside("elsewhere")
    assert elsewhere.start(_hydrate, snapshot).value == RESULT
    assert [effect for effect in elsewhere.ledger if effect.startswith("re")] == []


@task
def tells(name: str) -> str:
    durable.send("letters", name, name)
    did(f"told {name}")
    return name


@workflow(run_id="letters", max_workers=4)
def letters() -> Any:
    told = [tells.submit(name) for name in "abc"]
    received = [durable.wait_for(name) for name in "abc"]
    saved("received")
    durable.sleep(0.01)
    reach("slept")
    return received, [future.result() for future in told], durable.wait_for("extra")


def _extra(payload: int) -> None:
    durable.send("letters", "extra", payload)


@pytest.mark.parametrize("point", ["told a", "told b", "told c", "received", "slept"])
def test_messages_of_submitted_tasks_killed_anywhere(scene: Scene, point: str) -> None:
    """Submitted tasks send to their own run, and another process sends while nobody executes it: each message comes once."""
    scene.kill(point, letters)
    scene.start(_extra, 7)
    assert scene.start(letters).value == (["a", "b", "c"], ["a", "b", "c"], 7)


@task
def counts_up(number: int) -> Iterator[int]:
    for each in range(number):
        did(f"item {number}.{each}")
        yield each


@task
def sums(number: int) -> int:
    return sum(counts_up(number))


@workflow(run_id="sums", max_workers=2)
def all_sums() -> list[int]:
    return list(sums.map([1, 2, 3]))


@pytest.mark.parametrize("point", ["item 1.0", "item 2.1", "item 3.2"])
def test_generators_in_submitted_tasks(scene: Scene, point: str) -> None:
    """Generators that are read in submitted tasks: what had ended is not executed again."""
    scene.kill(point, all_sums)
    done = [effect for effect in scene.ledger if effect[:6] != point[:6]]
    assert scene.start(all_sums).value == [0, 1, 3]
    assert scene.start(all_sums).value == [0, 1, 3]
    assert scene.ledger.count(point) <= 2 + (point in done)


@task(timeout=60)
def first_page() -> list[int]:
    found = [next(iter(pages(3)))]
    did(f"seen {durable.state['pages']}")
    return found


@workflow(run_id="closing")
async def closing() -> list[int]:
    for _ in pages(2):
        break
    did(f"seen {durable.state['pages']}")
    return [*first_page(), *first_page.with_options(executor="threads", timeout=None)()]


def _resume() -> Any:
    return durable.get_run("closing").resume()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_generator_is_closed_at_once_wherever_it_is_read(scene: Scene, resumed: bool) -> None:
    """In an async workflow, under a timeout, on an executor and in a run that is resumed: `break` closes a generator."""
    if resumed:
        scene.kill("page 0", closing)
        scene.forget()
    outcome = scene.start(_resume if resumed else closing)
    assert outcome.value == [0, 0]
    assert [effect for effect in scene.ledger if "seen" in effect] == ["seen 1", "seen 2", "seen 3"]
