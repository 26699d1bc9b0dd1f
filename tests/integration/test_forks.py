"""Checkpoints, and runs that begin again at one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from tests.integration.cli.command_line import CommandLine

executed: list[str] = []
fails: list[str] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()
    fails.clear()


@task
def work(name: str) -> str:
    executed.append(name)
    if name in fails:
        raise ConnectionError(name)
    durable.state.add("done", [name])
    return name.upper()


@task(idempotent=False, key="{name}")
def pay(name: str) -> str:
    executed.append(f"pay {name}")
    keys.append(durable.idempotency_key())
    if "pay" in fails:
        raise TimeoutError(name)
    return durable.idempotency_key()


keys: list[str] = []


@workflow(run_id="order")
def order() -> list[Any]:
    found = [work("a")]
    durable.checkpoint("after a")
    found.append(work("b"))
    try:
        work("handled")
    except ConnectionError:
        found.append("handled")
    pay("x")
    for batch in range(2):
        durable.checkpoint(f"batch-{batch}")
        found.append(work(f"batch {batch}"))
    return [*found, durable.state["done"]]


def test_a_fork_begins_at_a_checkpoint() -> None:
    """What was finished before the checkpoint is kept, handled failures and the state with it; the rest is executed again
    under new idempotency keys, and the run that it comes from stays as it is."""
    fails[:] = ["handled"]
    keys.clear()
    result = order()
    run = durable.get_run("order")
    before = run.snapshot()
    executed.clear()
    fork = run.fork(from_="batch-1")
    assert (fork.status, fork.forked_from, fork.state["done"]) == ("pending", "order", ["a", "b", "batch 0"])
    assert fork.resume() == result
    assert executed == ["batch 1"]
    assert (run.snapshot(), fork.state) == (before, run.state)
    executed.clear()
    again = run.fork(from_="after a")
    assert again.id != fork.id
    assert again.resume() == result
    assert executed == ["b", "handled", "pay x", "batch 0", "batch 1"]
    assert len(set(keys)) == 2
    assert order() == result
    assert run.snapshot() == before


def test_what_a_fork_keeps_has_the_keys_that_it_had() -> None:
    """A kept step has the idempotency key under which the outside world knows it, in a fork of a fork too."""
    order()
    fork = durable.get_run("order").fork(from_="batch-1")
    fork.resume()
    known = {
        step.key: step.idempotency_key for step in fork.fork(from_="work:" + fork.steps[-1].key.split(":")[1]).steps
    }
    assert known["pay:x"] == keys[-1]


def test_a_doubt_stays_a_doubt_in_a_fork() -> None:
    """A payment in doubt before the fork is in doubt in the fork, under its old key; from the payment on it is made anew."""
    fails[:] = ["pay"]
    with pytest.raises(TimeoutError):
        order()
    run = durable.get_run("order")
    later = run.fork(from_="pay:x")
    fails.clear()
    executed.clear()
    assert later.resume()[0] == "A"
    assert executed[0] == "pay x"
    fails[:] = ["pay"]
    with pytest.raises(TimeoutError):
        at_once()
    fork = durable.get_run("at-once").fork(from_="work")
    known = keys.copy()
    with pytest.raises(durable.StepInDoubtError) as raised:
        asyncio.run(_awaited(fork.resume()))
    assert raised.value.idempotency_key == known[-1]
    assert keys == known


@workflow(run_id="at-once")
async def at_once_async() -> None:
    await asyncio.gather(pay_slowly("x"), work_slowly())


async def work_slowly() -> None:
    work("work")


@task(idempotent=False, key="{name}")
async def pay_slowly(name: str) -> None:
    keys.append(durable.idempotency_key())
    await asyncio.sleep(0.01)
    if "pay" in fails:
        raise TimeoutError(name)


def at_once() -> None:
    asyncio.run(_awaited(at_once_async()))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


@task
def outer() -> list[str]:
    found = [work("in 1")]
    durable.checkpoint("inside")
    return [*found, work("in 2")]


@workflow(run_id="nested")
def nested() -> list[str]:
    return [*outer(), work("after")]


def test_a_fork_inside_a_step() -> None:
    """From a checkpoint inside a step the step is executed again, and what was finished in it is not."""
    nested()
    executed.clear()
    assert durable.get_run("nested").fork(from_="inside").resume() == ["IN 1", "IN 2", "AFTER"]
    assert executed == ["in 2", "after"]


def test_steps_after_the_last_checkpoint_are_kept() -> None:
    """Steps that succeeded after the last checkpoint are not executed again, with or without checkpoints."""
    fails[:] = ["batch 1"]
    with pytest.raises(ConnectionError):
        order()
    fails.clear()
    executed.clear()
    order()
    assert executed == ["batch 1"]


def test_the_command_forks(durable_command: CommandLine) -> None:
    """`fork` prints the new run's id, says what it keeps and what is done twice; `show` lists checkpoints and the origin."""
    order()
    done = durable_command("fork", "order", "--from", "after a")
    assert (done.code, done.out) == (0, "order-fork-1\n")
    assert "with 1 of its steps" in done.err
    assert "not idempotent: pay:x" in done.err
    assert "durable resume order-fork-1" in done.err
    shown = durable_command("show", "order-fork-1")
    assert "forked from run order, before step durable.checkpoint:after a" in shown.out
    assert "durable resume order-fork-1" in shown.err
    assert json.loads(durable_command("show", "order-fork-1", "--json").out)["forked_from"] == "order"
    assert durable_command("resume", "order-fork-1").code == 0
    keys_shown = [step["key"] for step in json.loads(durable_command("show", "order", "--json").out)["steps"]]
    assert [key for key in keys_shown if "checkpoint" in key] == [
        "durable.checkpoint:after a",
        "durable.checkpoint:batch-0",
        "durable.checkpoint:batch-1",
    ]


@workflow
def paying(name: str) -> str:
    return pay(name)


@workflow(run_id="receipt-{name}")
def paying_by_name(name: str) -> str:
    return pay(name)


@workflow
def calling(name: str) -> str:
    return paying(name)


@workflow(run_id="caller")
def caller() -> list[str]:
    durable.checkpoint("begun")
    return [paying_by_name("by name"), calling("below")]


def test_what_a_fork_does_again_in_workflows_is_told(durable_command: CommandLine) -> None:
    """`fork` names what workflows that are called again will do again; one that is named by its inputs is not begun again."""
    caller()
    told = durable_command("fork", "caller", "--from", "begun").err
    [below] = durable.list_runs(workflow=f"{__name__}.paying")
    assert f"it will do again what is not idempotent: pay:below of run {below.id}\n" in told
    executed.clear()
    durable.get_run("caller-fork-1").resume()
    assert executed == ["pay below"]


@pytest.mark.parametrize("name", ["nothing", "", "durable.checkpoint:", 5])
def test_a_fork_from_nowhere(name: Any, durable_command: CommandLine) -> None:
    """A fork from a step that is not there, or from one of several, is an error that lists steps; no run is made."""
    order()
    run = durable.get_run("order")
    with pytest.raises((durable.NotFoundError, durable.ConfigurationError), match="latest steps|ambiguous|not at 5"):
        run.fork(from_=name)
    assert len(durable.list_runs()) == 1
    assert durable_command("fork", "order", "--from", str(name)).code == 2


def test_checkpoints_that_have_no_name_or_no_run() -> None:
    """A checkpoint without a name is an error before anything is recorded; outside a run it does nothing and says so."""
    for name in ("", None, 5):
        with durable.run("named") as run, pytest.raises(durable.ConfigurationError, match="has a name"):
            durable.checkpoint(name)  # type: ignore[arg-type]  # the mistake under test
    assert run.steps == []
    with pytest.warns(durable.DurableWarning, match="outside a run"):
        durable.checkpoint("alone")
