"""Forks and hydration that are killed half-way: there is a whole new run or none, and the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, reach
from tests.crash.killing_stores import KillingStore
from tests.crash.zygote import KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.scenes import Outcome, Scene


@task
def prepare(name: str) -> dict[str, Any]:
    durable.state.add("steps", 1)
    did(f"prepare {name}")
    return {"name": name, "pages": [1, 2.5, None, True]}


@task(idempotent=False, key="{name}")
def pay(name: str) -> tuple[str, int]:
    durable.state.add("steps", 1)
    did(f"pay {name} {durable.idempotency_key()}")
    reach("paying")
    return name, 5


@task
def finish(prepared: dict[str, Any], paid: tuple[str, int]) -> str:
    durable.state.add("steps", 1)
    did("finish")
    if is_first_start():
        raise ConnectionError(prepared["name"])
    return f"{prepared['name']} {prepared['pages']} {paid}"


@workflow
def order(name: str) -> list[Any]:
    prepared = prepare(name)
    durable.checkpoint("prepared")
    paid = pay(name)
    durable.checkpoint("paid")
    reach("paid")
    return [finish(prepared, paid), durable.state["steps"]]


RESULT = ["a [1, 2.5, None, True] ('a', 5)", 3]


def _take() -> str:
    return json.dumps(durable.list_runs()[-1].snapshot())


def _killing(when: str, commit: int) -> None:
    durable.configure(KillingStore(os.environ["DURABLE_DB"], when, commit))


def _fork(name: str, when: str = "", commit: int = 0) -> list[Any]:
    _killing(when, commit)
    source = durable.list_runs()[-1]
    before = source.snapshot()
    forks = [run for run in durable.list_runs() if run.forked_from == source.id]
    fork = forks[0] if forks else source.fork(from_=name)
    result: list[Any] = fork.resume()
    assert source.snapshot() == before
    assert len([run for run in durable.list_runs() if run.forked_from]) == 1
    return result


def _commits(scene: Scene, program: Any, *args: Any) -> list[tuple[Outcome, list[str]]]:
    """Let a program be killed before and after each of its commits and start again; what came of it, and its effects."""
    found = []
    for when in ("before", "after"):
        for commit in count(1):
            there = scene.beside(f"{when}-{commit}")
            there.write_ledger([])
            if scene.db.exists():
                shutil.copytree(scene.db.parent, there.db.parent)
            if there.risk(program, *args, when, commit) != KILLED:
                break
            found.append((there.start(program, *args), there.ledger))
    return found


@pytest.mark.parametrize(("name", "again"), [("prepared", ["pay a", "finish"]), ("paid", ["finish"])])
def test_a_fork_killed_half_way(scene: Scene, name: str, again: list[str]) -> None:
    """A fork killed at any commit is there as a whole or not at all; what it keeps is never executed, the source never
    changed, and what it executes again has new idempotency keys."""
    assert scene.start(order, "a", START="first").error == "ConnectionError"
    [key] = [line.split()[2] for line in scene.ledger if line.startswith("pay")]
    outcomes = _commits(scene, _fork, name)
    assert len(outcomes) >= 6
    for outcome, ledger in outcomes:
        assert (outcome.value, outcome.error) in [(RESULT, ""), (None, "StepInDoubtError")], outcome
        assert not any(line.startswith("prepare") or key in line for line in ledger)
        kinds = [" ".join(line.split()[:2]) for line in ledger]
        assert kinds.count("pay a") <= ("pay a" in again)
        if not outcome.error:
            assert set(kinds) == set(again)


def _hydrate(snapshot: str, when: str = "", commit: int = 0) -> list[Any]:
    _killing(when, commit)
    return order.with_options(snapshot=json.loads(snapshot), trust_snapshot=True)("a")


def test_hydration_killed_half_way(scene: Scene) -> None:
    """Hydration killed at any commit goes on when the same command is given again: finished steps are never executed."""
    source, target = scene.beside("source"), scene.beside("target")
    assert source.start(order, "a", START="first").error == "ConnectionError"
    snapshot = source.start(_take).value
    outcomes = _commits(target, _hydrate, snapshot)
    assert len(outcomes) >= 4
    for outcome, ledger in outcomes:
        assert (outcome.value, set(ledger)) == (RESULT, {"finish"}), outcome


SCRIPT = """
import json, sys
from durable import task, workflow, list_runs
from tests.crash.effects import did

@task
def first(x):
    did("first")
    return [x]

@task(version=2)
def second(given):
    did("second")
    if sys.argv[1:] == ["fail"]:
        raise ConnectionError
    return given

@workflow
def inside(x):
    return first(x)

@workflow
def chain(x):
    return second(first(inside(x)))

if sys.argv[1:] == ["fail"]:
    try:
        chain(1)
    except ConnectionError:
        json.dump(list_runs()[-1].snapshot(), sys.stdout)
else:
    print(chain.with_options(snapshot=json.loads(sys.argv[1]))(1))
"""


def test_a_script_goes_on_in_a_store_that_lies_elsewhere(scene: Scene) -> None:
    """A script is named by where it lies beside its store; in a store that lies elsewhere its steps are known all the
    same, and the script of another name is another one."""
    script = scene.folder / "script.py"
    script.write_text(SCRIPT)
    snapshot = scene.python(script, "fail").stdout
    scene.forget()
    there = str(scene.folder / "far" / "away" / "durable.db")
    other = scene.folder / "other.py"
    other.write_text(SCRIPT)
    refused = scene.python(other, snapshot, DURABLE_DB=there)
    assert "SnapshotError" in refused.stderr
    done = scene.python(script, snapshot, DURABLE_DB=there)
    assert done.stdout == "[[1]]\n", done.stderr
    assert scene.ledger == ["second"]


def _try_order(snapshot: str) -> tuple[str, list[str]]:
    try:
        order.with_options(snapshot=json.loads(snapshot))("a")
    except durable.StepInDoubtError as doubt:
        return doubt.idempotency_key, effects()
    raise AssertionError("there was a doubt")


def test_a_payment_in_doubt_is_in_doubt_elsewhere(scene: Scene) -> None:
    """Killed inside a payment: the hydrated run reports the doubt under the same idempotency key, and pays nothing."""
    source, target = scene.beside("source"), scene.beside("target")
    source.kill("paying", order, "a")
    [key] = [line.split()[2] for line in source.ledger if line.startswith("pay")]
    snapshot = source.start(_take).value
    assert list(json.loads(snapshot)["doubts"]) == ["pay:a"]
    target.write_ledger([])
    assert target.start(_try_order, snapshot).value == (key, [])


@workflow
def paid_for(name: str) -> list[Any]:
    return [*pay(name)]


@workflow(run_id="paying")
def pays_in_a_child(name: str) -> list[Any]:
    return [*paid_for(name), "done"]


def _pay_in_a_child(name: str, commit: int) -> list[Any]:
    _killing("after", commit)
    return pays_in_a_child(name)


def _go_on_elsewhere(snapshot: str) -> list[Any]:
    return pays_in_a_child.with_options(snapshot=json.loads(snapshot), trust_snapshot=True)("a")


def test_what_a_called_run_had_finished_is_not_executed_elsewhere(scene: Scene) -> None:
    """Killed at any commit, also when a workflow that was called has succeeded and its caller does not know: hydrated, the
    run pays once, or says that nobody knows whether it did."""
    for commit in count(1):
        source, target = scene.beside(f"{commit}"), scene.beside(f"{commit}-elsewhere")
        if source.risk(_pay_in_a_child, "a", commit) != KILLED:
            break
        snapshot = source.start(_take).value
        target.write_ledger(source.ledger)
        outcome = target.start(_go_on_elsewhere, snapshot)
        assert outcome.error == "StepInDoubtError" or (outcome.value, len(target.ledger)) == (["a", 5, "done"], 1)
    assert commit > 4


@task
def pages(count: int) -> Iterator[int]:
    did("pages")
    yield from range(count)


@task(idempotent=False)
def tickets(count: int) -> Iterator[int]:
    did("tickets")
    yield from range(count)


@workflow(run_id="reads-{paid}")
def reads(paid: bool) -> int:
    found = sum((tickets if paid else pages)(4))
    durable.checkpoint("read")
    return found


def fork_after_reading(paid: bool) -> object:
    return durable.get_run(f"reads-{paid}").fork(from_="read").resume()


def snapshot_of_reading(paid: bool) -> object:
    return durable.get_run(f"reads-{paid}").snapshot()


def test_generators_are_executed_again_in_a_fork(scene: Scene) -> None:
    """The items of a generator are not copied: a fork executes it again, or is refused if it is not idempotent."""
    assert scene.start(reads, False).value == 6
    assert scene.start(fork_after_reading, False).value == 6
    assert scene.ledger == ["pages", "pages"]
    assert scene.start(reads, True).value == 6
    for copying in (fork_after_reading, snapshot_of_reading):
        refused = scene.start(copying, True)
        assert refused.error == "ConfigurationError"
        assert "tickets" in refused.message
    assert scene.ledger == ["pages", "pages", "tickets"]


def refund(receipt: str, cents: int) -> None:
    did(f"refund {receipt}, {cents}")


@task(undo=refund)
def charge(cents: int) -> str:
    did("charge")
    return f"R-{cents}"


@task
def ship() -> None:
    did("ship")
    if not is_first_start():
        raise OSError("no lorry")


@workflow(run_id="sale")
def sale() -> None:
    charge(500)
    durable.checkpoint("paid")
    ship()


def fork_after_paying() -> object:
    return durable.get_run("sale").fork(from_="paid").resume()


def test_a_fork_that_fails_undoes_what_it_was_given(scene: Scene) -> None:
    """A step that a fork keeps is undone with the arguments of its call when the fork fails."""
    assert scene.start(sale, START="first").error == ""
    assert scene.start(fork_after_paying).error == "OSError"
    assert scene.ledger == ["charge", "ship", "ship", "refund R-500, 500"]
