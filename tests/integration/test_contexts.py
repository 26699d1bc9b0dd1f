"""`durable.context()`: a live object that whoever executes the run hands over, and that is never stored."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import durable
from durable import task, workflow

executed: list[str] = []
fails: list[bool] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()
    fails[:] = [True]


class Service:
    """Something live: it holds a lock and cannot be encoded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("never stored")


@task
def ask(question: str) -> str:
    service: Service = durable.context()
    executed.append(f"{question} {service.name}")
    if fails and question == "b":
        raise ConnectionError(question)
    return question


@task(idempotent=False, key="{order}")
def pay(order: str) -> str:
    executed.append(f"pay {order}")
    return f"{order} {durable.context().name}"


@workflow(run_id="asked")
def asking() -> list[str]:
    return [ask("a"), ask("b"), pay("c")]


def test_a_context_is_handed_over_by_whoever_resumes() -> None:
    """A run is resumed with another context; nothing of either is in the store or in a snapshot."""
    with pytest.raises(ConnectionError):
        asking.with_options(context=Service("first"))()
    run = durable.get_run("asked")
    assert "first" not in str(run.snapshot())
    fails.clear()
    assert run.resume(context=Service("second")) == ["a", "b", "c second"]
    assert executed == ["a first", "b first", "b second", "pay c"]


def test_a_run_without_its_context_says_so() -> None:
    """A resumed run that asks for its context and has none stops; no step counts as failed or as in doubt by that."""
    with pytest.raises(ConnectionError):
        asking.with_options(context=Service("first"))()
    fails.clear()
    for _ in range(4):
        with pytest.raises(
            durable.MissingContextError, match=r"with_options\(context=...\).*run.resume\(context=...\)"
        ):
            asking()
    assert asking.with_options(context=Service("second"))() == ["a", "b", "c second"]
    assert executed == ["a first", "b first", "b second", "pay c"]


@workflow(run_id="paid")
def paying() -> str:
    ask("a")
    if fails:
        raise ConnectionError
    return pay("c")


def test_a_payment_is_not_begun_without_the_context_of_its_run() -> None:
    """What is not idempotent is not begun in a run that had a context and has none now: it cannot get into doubt."""
    with pytest.raises(ConnectionError):
        paying.with_options(context=Service("first"))()
    fails.clear()
    with pytest.raises(durable.MissingContextError):
        durable.get_run("paid").resume()
    assert executed == ["a first"]
    assert paying.with_options(context=Service("second"))() == "c second"


@workflow
def outer() -> list[str]:
    return asking()


async def test_where_a_context_comes_from() -> None:
    """A workflow called in a run has the context of its caller; None is a context; outside a run there is none."""
    fails.clear()
    assert outer.with_options(context=Service("outer"))()[-1] == "c outer"
    with durable.run("block", context=None):
        assert durable.context() is None
    with pytest.raises(durable.OutsideRunError):
        durable.context()


def test_a_later_option_keeps_the_context() -> None:
    """Options that are given one after the other add up."""
    fails.clear()
    assert asking.with_options(context=Service("kept")).with_options(fresh=True)()[-1] == "c kept"
