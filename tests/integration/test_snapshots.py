"""`Run.snapshot()` and hydration: what a run has finished goes to another store as JSON, and nothing is done twice."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

executed: list[str] = []
fails: set[str] = set()
keys: list[str] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()
    fails.clear()
    keys.clear()


def elsewhere() -> None:
    """Go on with an empty store, and a new page of effects."""
    durable.configure(MemoryStore())
    executed.clear()
    fails.clear()


def numbers() -> Iterator[int]:
    yield 1


def do(name: str) -> None:
    executed.append(name)
    if name in fails:
        raise ConnectionError(name)


@task
def first(x: int) -> dict[str, Any]:
    do("first")
    durable.state.add("n", x)
    return {"x": x, "deep": [1.0, None, "é", {"rows": list(range(2000))}]}


@task
def second(given: dict[str, Any]) -> list[Any]:
    do("second")
    return [given["x"], given["deep"][:3], len(given["deep"][3]["rows"]), durable.state["n"]]


@workflow
def chain(x: int) -> list[Any]:
    return second(first(x))


RESULT = [3, [1.0, None, "é"], 2000, 3]


def snapshot_of_a_failure(call: Callable[[], Any], failing: str) -> dict[str, Any]:
    fails.add(failing)
    with pytest.raises(Exception, match=failing):
        call()
    taken: dict[str, Any] = json.loads(json.dumps(durable.list_runs()[-1].snapshot()))
    elsewhere()
    return taken


def test_a_fresh_store_goes_on_from_a_snapshot() -> None:
    """A succeeded and B failed: from the snapshot A is executed never, B once, with A's result and state."""
    taken = snapshot_of_a_failure(lambda: chain(3), "second")
    statuses = {key.partition(":")[0]: (step["status"], step["result"]) for key, step in taken["steps"].items()}
    assert statuses["first"][0] == "succeeded"
    assert statuses["first"][1]["x"] == 3
    assert statuses["second"] == ("failed", None)
    assert chain.with_options(snapshot=taken)(3) == RESULT
    assert executed == ["second"]
    [run] = durable.list_runs()
    assert (run.status, run.state) == ("succeeded", {"n": 3})


def test_hydrating_twice() -> None:
    """The same snapshot again means the same run; a run that is there for another reason is never mixed with one."""
    taken = snapshot_of_a_failure(lambda: chain(3), "second")
    fails.add("second")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            chain.with_options(snapshot=taken)(3)
    fails.clear()
    hydrated = chain.with_options(snapshot=taken)
    assert hydrated(3) == hydrated(3) == RESULT
    assert executed == ["second"] * 3
    elsewhere()
    fails.add("second")
    with pytest.raises(ConnectionError):
        chain(3)
    fails.clear()
    executed.clear()
    with pytest.raises(durable.SnapshotError, match=r"in this store already \(failed\).*fresh=True"):
        hydrated(3)
    assert executed == []
    assert hydrated.with_options(run_id="beside")(3) == RESULT
    assert hydrated.with_options(fresh=True)(3) == RESULT
    assert executed == ["second"] * 2


@task
async def slow(name: str) -> str:
    executed.append(name)
    while name == "waits" and "waits" in fails:
        await asyncio.sleep(0)
    return name


@workflow
async def concurrent() -> list[str]:
    return list(await asyncio.gather(slow("a"), slow("waits"), slow("b")))


async def test_a_snapshot_of_a_running_run() -> None:
    """A snapshot is taken while the run goes on; what has not finished is executed where it is hydrated."""
    fails.add("waits")
    run = concurrent.start()
    while len(taken := run.snapshot()["steps"]) < 2:
        await asyncio.sleep(0)
    assert all(step["status"] == "succeeded" for step in taken.values())
    snapshot = json.loads(json.dumps(run.snapshot()))
    fails.clear()
    await run.wait()
    elsewhere()
    assert await concurrent.with_options(snapshot=snapshot)() == ["a", "waits", "b"]
    assert executed == ["waits"]


@task(idempotent=False, no_effect_on=ConnectionError)
def declined(name: str) -> str:
    do(name)
    return name


@workflow
def declining() -> list[str]:
    found = []
    for name in ("a", "b", "c"):
        try:
            found.append(declined(name))
        except ConnectionError:
            found.append("declined")
        durable.checkpoint(name)
    do("end")
    return found


def test_failed_steps_are_evaluated_again() -> None:
    """A failure that was handled is evaluated again in its old place, whatever stands beside it; nothing drifts."""
    fails.add("b")
    taken = snapshot_of_a_failure(declining, "end")
    assert declining.with_options(snapshot=taken)() == ["a", "b", "c"]
    assert executed == ["b", "end"]


@dataclasses.dataclass
class Page:
    number: int
    tags: frozenset[str]


@task
def page(number: int) -> Page:
    do("page")
    durable.state["page"] = Page(number, frozenset())
    return Page(number, frozenset("ab"))


@task
def show(given: Page) -> str:
    do("show")
    return f"{given.number} {sorted(given.tags)} {durable.state['page'].number}"


@workflow
def shown(number: int) -> str:
    return show(page(number))


def test_values_beyond_json_are_signed_or_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pickled value is refused unless the snapshot is signed with a key of this process, or trusted in so many words."""
    taken = snapshot_of_a_failure(lambda: shown(2), "show")
    with pytest.raises(durable.SnapshotError, match=r"page:.*is pickled.*DURABLE_SECRET_KEY.*trust_snapshot=True"):
        shown.with_options(snapshot=taken)(2)
    assert (executed, durable.list_runs()) == ([], [])
    assert shown.with_options(snapshot=taken, trust_snapshot=True)(2) == "2 ['a', 'b'] 2"
    assert executed == ["show"]

    monkeypatch.setenv("DURABLE_SECRET_KEY", "first")
    durable.configure(tmp_path / "sealed.db")
    signed = snapshot_of_a_failure(lambda: shown(2), "show")
    for secret, is_trusted in (("new,first", True), ("other", False)):
        monkeypatch.setenv("DURABLE_SECRET_KEY", secret)
        durable.configure(tmp_path / f"{secret}.db")
        executed.clear()
        if is_trusted:
            assert shown.with_options(snapshot=signed)(2) == "2 ['a', 'b'] 2"
        else:
            with pytest.raises(durable.SnapshotError, match="is pickled"):
                shown.with_options(snapshot=signed)(2)
        assert executed == ["show"] * is_trusted


@task(idempotent=False, key="{order}")
def pay(order: str) -> str:
    keys.append(durable.idempotency_key())
    do("pay")
    return f"paid {order}"


@task
def outer(order: str) -> str:
    first(1)
    return pay(order)


@workflow(run_id="{order}")
def checkout(order: str) -> str:
    return outer(order)


@workflow
def buying(order: str) -> str:
    first(7)
    return inner(order)


@workflow
def inner(order: str) -> str:
    first(8)
    return pay(order)


@pytest.mark.parametrize("call", [checkout, buying], ids=["step", "workflow"])
@pytest.mark.parametrize("run_id", [None, "another-id"])
def test_a_doubt_travels(call: Any, run_id: str | None) -> None:
    """A payment that may have happened, in a step or a workflow that has not finished, is in doubt where it is hydrated,
    under its old key, and its finished neighbours are kept; what is decided there is done."""
    taken = snapshot_of_a_failure(lambda: call("x"), "pay")
    hydrated = call.with_options(snapshot=taken, run_id=run_id)
    with pytest.raises(durable.StepInDoubtError) as raised:
        hydrated("x")
    assert (executed, raised.value.idempotency_key) == ([], keys[0])
    durable.get_run(raised.value.run_id).resolve(raised.value.step_key, durable.did_not_happen)
    assert hydrated("x") == "paid x"
    assert executed == ["pay"]
    assert keys == [keys[0]] * 2


@task
def give_a_generator() -> Any:
    do("generator")
    return numbers()


@workflow
def unstorable() -> None:
    try:
        give_a_generator()
    finally:
        do("end")


def test_a_result_that_could_not_be_stored_is_not_made_again() -> None:
    """A step whose result could not be stored is not executed again elsewhere: the caller gets the same error."""
    taken = snapshot_of_a_failure(unstorable, "cannot be stored")
    with pytest.raises(durable.NotSerializableError, match="cannot be stored"):
        unstorable.with_options(snapshot=taken)()
    assert executed == ["end"]


@workflow
def another(x: int) -> int:
    return x


def spoiled(taken: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(taken))
    change(copy)
    return copy


def sealed_again(taken: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Change a snapshot as somebody would who knows how it is made."""
    from durable.runs.snapshots import _canonical, _digest  # noqa: PLC0415 -- what an attacker has at hand

    copy = spoiled(taken, change)
    return copy | {"digest": _digest(_canonical({k: v for k, v in copy.items() if k not in ("digest", "signature")}))}


def a_step(taken: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = next(iter(taken["steps"].values()))
    return step


def _change_changes(bad: Any, copy: dict[str, Any]) -> None:
    a_step(copy)["changes"] = bad


BAD_CHANGES: list[Any] = [5, [5], [[]], [["x"]], [["x", "set"]], [["x", "lose", 1]], [[1, "set", 1]]]


def test_snapshots_that_cannot_be_used() -> None:
    """What is damaged, made up, newer, no JSON, of another workflow or of other inputs is refused before anything is
    executed or recorded."""
    taken = snapshot_of_a_failure(lambda: chain(3), "second")
    refused = [
        spoiled(taken, lambda copy: a_step(copy).update(result=5)),
        spoiled(taken, lambda copy: copy.pop("doubts")),
        spoiled(taken, lambda copy: copy.pop("digest")),
        spoiled(taken, lambda copy: copy.update(format="1")),
        spoiled(taken, lambda copy: copy.update(format=2)),
        {},
        taken | {"steps": {1, 2}},
        taken | {"steps": float("nan")},
        sealed_again(taken, lambda copy: copy.pop("doubts")),
        sealed_again(taken, lambda copy: copy.update(steps=[])),
        sealed_again(taken, lambda copy: copy.update(children={"a": 1})),
        sealed_again(taken, lambda copy: a_step(copy).pop("record")),
        sealed_again(taken, lambda copy: a_step(copy).update(status="happy")),
        sealed_again(taken, lambda copy: a_step(copy)["record"].update(seq="1")),
        sealed_again(taken, lambda copy: a_step(copy)["record"].update(seq=True)),
        sealed_again(taken, lambda copy: a_step(copy)["record"].update(parent=-1)),
        sealed_again(taken, lambda copy: a_step(copy)["record"].update(content="zz")),
        sealed_again(taken, lambda copy: a_step(copy)["record"].update(details="{")),
        sealed_again(taken, lambda copy: a_step(copy).update(payload="\0")),
        sealed_again(taken, lambda copy: a_step(copy).update(payload="")),
        *(sealed_again(taken, partial(_change_changes, bad)) for bad in BAD_CHANGES),
    ]
    for snapshot in refused:
        with pytest.raises(durable.SnapshotError, match="damaged|newer|format 2|JSON only|pickled"):
            chain.with_options(snapshot=snapshot)(3)
    with pytest.raises(durable.SnapshotError, match=r"one of workflow .*chain.*aliases="):
        another.with_options(snapshot=taken)(3)
    with pytest.raises(durable.InputsChangedError, match="'x' differ"):
        chain.with_options(snapshot=taken)(4)
    for value in ("text", 5, [taken]):
        with pytest.raises(durable.DefinitionError):
            chain.with_options(snapshot=value)  # type: ignore[arg-type]  # the mistake under test
    assert (executed, durable.list_runs()) == ([], [])
