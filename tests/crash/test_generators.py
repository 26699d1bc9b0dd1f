"""Generators are steps: what they gave is given again, and what was interrupted is not taken for the whole."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from tests.crash.scenes import Scene


@task
def page(number: int) -> int:
    did(f"page {number}")
    return number * 10


@task
def rows(count: int) -> Generator[int, None, str]:
    try:
        did("open")
        for number in range(count):
            yield page(number)
            if os.environ.get("FAIL") == f"rows {number}":
                raise ConnectionError(number)
        return "all"
    finally:
        did("close")


@task
async def async_rows(count: int) -> AsyncIterator[int]:
    try:
        did("open")
        for number in range(count):
            await asyncio.sleep(0)
            yield page(number)
            if os.environ.get("FAIL") == f"rows {number}":
                raise ConnectionError(number)
    finally:
        did("close")


@task
def use(row: int) -> int:
    did(f"use {row}")
    if os.environ.get("FAIL") == f"use {row}":
        raise ConnectionError(row)
    return row + 1


@workflow(run_id="sync")
def sync_flow(count: int, until: int = 99) -> list[int]:
    used = []
    for row in rows(count):
        used.append(use(row))
        if row == until:
            break
    saved("read")
    return [*used, use(100)]


@workflow(run_id="async")
async def async_flow(count: int, until: int = 99) -> list[int]:
    used = []
    async with contextlib.aclosing(async_rows(count)) as found:  # type: ignore[type-var]  # it is an async generator
        async for row in found:
            used.append(use(row))
            if row == until:
                break
    saved("read")
    return [*used, use(100)]


FLOWS = [pytest.param(sync_flow, id="sync"), pytest.param(async_flow, id="async")]
ALL = ["open", "page 0", "use 0", "page 1", "use 10", "page 2", "use 20", "close"]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_finished_generator_gives_its_items_again(scene: Scene, flow: Any) -> None:
    """Killed after a generator was read to its end: its items are given again, and nothing of it is executed."""
    scene.kill("read", flow, 3)
    assert scene.ledger == ALL
    assert scene.start(flow, 3).value == [1, 11, 21, 101]
    assert scene.ledger == [*ALL, "use 100"]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_generator_that_was_closed_gives_what_it_gave(scene: Scene, flow: Any) -> None:
    """Closed by `break`, a generator cleans up at once; a replay gives the same items."""
    scene.kill("read", flow, 9, 10)
    assert scene.ledger == [*ALL[:5], "close"]
    assert scene.start(flow, 9, 10).value == [1, 11, 101]
    assert scene.ledger == [*ALL[:5], "close", "use 100"]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_generator_that_was_killed_begins_again(scene: Scene, flow: Any) -> None:
    """Killed in the middle, an idempotent generator is executed again from its start under the same key, with a warning;
    steps below it, and what was done with its items, are not repeated."""
    scene.kill("use 10", flow, 3)
    outcome = scene.start(flow, 3)
    assert outcome.value == [1, 11, 21, 101]
    assert [text for text in outcome.warnings if "executed again with the same idempotency key" in text]
    assert scene.ledger == [*ALL[:5], "open", "use 10", *ALL[5:], "use 100"]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_generator_whose_consumer_fails_goes_on(scene: Scene, flow: Any) -> None:
    """The step that an item was for fails and ends the run: called again, the generator gives what it gave, and is
    executed again for the rest instead of ending where it was left."""
    assert scene.start(flow, 3, FAIL="use 10").error == "ConnectionError"
    assert scene.ledger == [*ALL[:5], "close"]
    assert scene.start(flow, 3).value == [1, 11, 21, 101]
    assert scene.ledger == [*ALL[:5], "close", "use 10", "open", *ALL[5:], "use 100"]


@workflow(run_id="handled")
def handles_the_failure() -> list[object]:
    found: list[object] = []
    try:
        for row in rows(3):
            found.append(row)  # noqa: PERF402 -- those before the failure count
    except ConnectionError as error:
        found.append(repr(error))
    use(100)
    saved("read")
    return found


def test_a_generator_that_failed_fails_again_after_its_items(scene: Scene) -> None:
    """A failure that the code handled is replayed after the items that came before it."""
    assert scene.is_killed(handles_the_failure, FAIL="rows 1", KILL_AT="read")
    before = scene.ledger
    assert scene.start(handles_the_failure).value == [0, 10, "ConnectionError(1)"]
    assert scene.ledger == before


@task
def changing() -> Iterator[str]:
    for number in range(3):
        yield f"{number} {os.environ.get('FAIL')}"


@workflow(run_id="changing")
def reads_what_changes() -> list[str]:
    found = []
    for row in changing():
        found.append(row)
        use(len(found))
    return found


def test_a_generator_that_gives_other_items_says_so(scene: Scene) -> None:
    """Executed again for the rest, a generator that does not give what it gave before is reported."""
    scene.start(reads_what_changes, FAIL="use 2")
    outcome = scene.start(reads_what_changes)
    assert outcome.value == ["0 use 2", "1 use 2", "2 None"]
    assert [text for text in outcome.warnings if "gives other items" in text]


@task(idempotent=False)
def codes() -> Iterator[str]:
    for number in range(3):
        did(f"code {number}")
        yield f"c{number}"


@workflow(run_id="codes")
def takes_codes() -> list[str]:
    found = []
    for code in codes():
        use(int(code[1]))
        found.append(code)
    return found


@pytest.mark.parametrize("how", ["killed", "consumer"])
def test_a_generator_that_is_not_idempotent_is_in_doubt(scene: Scene, how: str) -> None:
    """Interrupted by a kill or by its run's failure, a generator that is not idempotent is not executed again; what it
    gave can be said."""
    if how == "killed":
        scene.kill("code 1", takes_codes)
    else:
        assert scene.start(takes_codes, FAIL="use 1").error == "ConnectionError"
    for _ in range(2):
        assert scene.start(takes_codes).error == "StepInDoubtError"
    scene.start(_resolve)
    assert scene.start(takes_codes).value == ["c0", "c1", "c2"]
    assert [effect for effect in scene.ledger if effect.startswith("code")] == ["code 0", "code 1"]


def _resolve() -> None:
    [step] = [step for step in durable.get_run("codes").steps if step.in_doubt]
    durable.get_run("codes").resolve(step.key, durable.happened(["c0", "c1", "c2"]))


@task
def many() -> Iterator[dict[str, Any]]:
    did("many")
    item: dict[str, Any] = {}
    for number in range(2000):
        item["number"] = number
        yield item


@workflow(run_id="many")
def reads_many() -> tuple[int, int]:
    total, seen = 0, 0
    for item in many():
        total += item["number"]
        seen += 1
    saved("read")
    return total, seen


def test_items_are_recorded_as_they_were(scene: Scene) -> None:
    """Thousands of items come back, each as it was when it was given, whatever became of the object; they are one step."""
    scene.kill("read", reads_many)
    assert scene.start(reads_many).value == (1999000, 2000)
    assert scene.ledger == ["many"]
    assert scene.start(_steps, "many").value == [("many", "succeeded")]


def _steps(run_id: str) -> list[tuple[str, str]]:
    return [(step.key.partition(":")[0], step.status) for step in durable.get_run(run_id).steps]


@task
def live() -> Iterator[Any]:
    did("live")
    yield 1
    yield (number for number in range(3))


@workflow(run_id="live")
def reads_live() -> list[Any]:
    return list(live())


def test_an_item_that_cannot_be_stored(scene: Scene) -> None:
    """An item that cannot be stored is an error, now and in every later execution, and the body is not executed again."""
    for _ in range(2):
        assert scene.start(reads_live).error == "NotSerializableError"
    assert scene.ledger == ["live"]


@workflow(run_id="odd")
def uses_it_oddly() -> list[object]:
    found: list[object] = []
    generator = rows(3)
    found.append(next(generator))
    try:
        generator.send(5)  # type: ignore[arg-type]  # that is the mistake
    except durable.ConfigurationError:
        found.append("refused")
    thrown = rows(4)
    next(thrown)
    try:
        thrown.throw(KeyError("x"))
    except KeyError:
        found.append("thrown")
    kept.append(rows(5))
    found.extend((next(kept[0]), (yield_all(3))))
    return found


def yield_all(count: int) -> object:
    def outer() -> Generator[int, None, None]:
        returned.append((yield from rows(count)))

    return list(outer()), returned[-1]


kept: list[Any] = []
returned: list[str] = []


def _uses_it_oddly() -> list[object]:
    found = uses_it_oddly()
    try:
        next(kept[0])
    except (durable.RunEndedError, StopIteration) as error:
        found.append(type(error).__name__)
    return found


def test_a_generator_used_oddly(scene: Scene) -> None:
    """`send` is refused, `throw` closes, `yield from` gives the returned value, and one that is left open ends with its
    run."""
    outcome = scene.start(_uses_it_oddly)
    assert outcome.value[:4] == [0, "refused", "thrown", 0], outcome
    assert tuple(outcome.value[4]) == ([0, 10, 20], "all")
    assert scene.ledger.count("open") == scene.ledger.count("close") == 4
    assert {status for _, status in scene.start(_steps, "odd").value} == {"succeeded"}


@workflow(run_id="collected")
def is_collected() -> str:
    for number in range(50):
        generator = rows(number)
        cycle: list[Any] = [generator]
        cycle.append(cycle)
        next(generator, None)
        del generator, cycle
        use(number)
    return "done"


def _is_collected() -> str:
    gc.set_threshold(1)
    return is_collected()


def test_generators_that_are_collected_anywhere(scene: Scene) -> None:
    """Generators that the garbage collector closes in the middle of anything neither hang a run nor disturb it."""
    assert scene.start(_is_collected).value == "done"
    assert scene.start(is_collected).value == "done"
    assert scene.ledger.count("open") == 50


def test_a_generator_outside_a_run() -> None:
    """Outside a run a generator is a plain one, with a warning."""
    with pytest.warns(durable.DurableWarning, match="outside a run"):
        assert list(changing()) == ["0 None", "1 None", "2 None"]


@pytest.mark.parametrize("option", [{"attempts": 2}, {"timeout": 1}, {"cache": True}, {"undo": page}])
def test_options_that_a_generator_cannot_keep(option: dict[str, Any]) -> None:
    """Options that would repeat or take back what was handed out are refused."""
    with pytest.raises(durable.DefinitionError, match="is a generator"):
        live.with_options(**option)


@task(idempotent=False)
def payments_one_by_one(count: int) -> Iterator[int]:
    for number in range(count):
        did(f"pay {number}")
        yield number


_left_open: list[Iterator[int]] = []


@workflow
async def leaves_payments_open() -> int:
    _left_open.append(payments_one_by_one(9))
    return next(_left_open[0])


def test_a_sync_generator_left_open_in_an_async_run_is_closed(scene: Scene) -> None:
    """A sync generator that an async workflow keeps unfinished succeeds, closed after what it gave, when the run ends."""
    outcome = scene.start(leaves_payments_open)
    assert (outcome.value, outcome.warnings) == (0, [])
    assert scene.start(statuses).value == ["succeeded"]
    assert scene.ledger == ["pay 0"]


def statuses() -> list[str]:
    return [step.status for run in durable.list_runs() for step in run.steps]
