"""Calls that found a way around the promise: by a timeout, a policy, an exception, or a function that has no own name."""

from __future__ import annotations

import functools
import operator
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.scenes import Scene

_released = threading.Event()
_body_lasts = 0.05  # seconds


@task(timeout=_body_lasts)
def get_stuck() -> str:
    did("begin")
    _released.wait()
    did("end")
    return "done"


@workflow
def handles_the_timeout() -> str:
    try:
        return get_stuck()
    except TimeoutError:
        return "timed out"


@workflow
def fails_with_the_timeout() -> str:
    return get_stuck()


def test_a_stuck_body_does_not_hold_its_run_for_ever(scene: Scene) -> None:
    """A sync body outlives its `timeout` for good: the run ends with what the workflow makes of it, and says so."""
    outcome = scene.start(handles_the_timeout)
    assert outcome.value == "timed out"
    assert [text for text in outcome.warnings if "its body still runs" in text]
    assert scene.start(handles_the_timeout).value == "timed out"
    assert scene.ledger == ["begin"]


def time_out_twice() -> str:
    def release(message: Any, *_: Any) -> None:
        if "executed again when it has ended" in str(message):
            did("the second waits")
            _released.set()

    with pytest.raises(TimeoutError):
        fails_with_the_timeout()
    did("failed")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(warnings, "showwarning", release)
    return fails_with_the_timeout()


def test_no_execution_overlaps_a_stuck_body(scene: Scene) -> None:
    """A run failed while a body of it is stuck: the step is executed again in this process when that body has ended."""
    assert scene.start(time_out_twice).value == "done"
    assert scene.ledger == ["begin", "failed", "the second waits", "end", "begin", "end"]


def logged(function: Callable[..., str]) -> Callable[..., str]:
    def inner(order: str) -> str:  # without functools.wraps
        return function(order)

    return inner


@task(idempotent=False)
@logged
def charge(order: str) -> str:
    did(f"charge {order}")
    return "receipt"


@task(idempotent=False)
@logged
def notify(order: str) -> str:
    did(f"notify {order}")
    return "mail sent"


@task
def rest() -> None:
    did("rest")


@workflow
def charges(order: str) -> list[str]:
    sent = [notify(order)] if "NOTIFY" in os.environ else []
    receipt = charge(order)
    rest()
    return [*sent, receipt]


def test_wrappers_without_names_are_not_taken_for_each_other(scene: Scene) -> None:
    """A decorator without `functools.wraps` gives two tasks one name: a charge is not replayed as a mail, nor repeated."""
    scene.kill("rest", charges, "42")
    outcome = scene.start(charges, "42", NOTIFY="1")
    assert outcome.error == "DefinitionError"
    assert "functools.wraps" in outcome.message
    assert scene.start(charges, "42").value == ["receipt"]
    assert scene.ledger == ["charge 42", "rest", "rest"]


def multiplication(factor: int) -> Callable[[int], int]:
    @task(cache=True)
    def times(number: int) -> int:
        did(f"{factor} times {number}")
        return number * factor

    return times


def sums_of(ways: list[Callable[[int], int]]) -> int:
    @workflow
    def sums() -> int:
        return sum(way(10) for way in ways)

    return sums()


def with_lambdas() -> int:
    return sums_of([task(lambda number: number + 1), task(lambda number: number * 1000)])


def with_partials() -> int:
    return sums_of([task(functools.partial(operator.add, 1)), task(functools.partial(operator.add, 100))])


def with_closures() -> int:
    return sums_of([multiplication(2), multiplication(3)])


@workflow
def with_closures_of_its_own() -> int:
    return sum(way(10) for way in [multiplication(2), multiplication(3)])


@pytest.mark.parametrize("program", [with_lambdas, with_partials, with_closures, with_closures_of_its_own])
def test_functions_without_names_are_not_taken_for_each_other(scene: Scene, program: Callable[[], int]) -> None:
    """Two lambdas, partials or closures that differ make the same call in one run: the second is refused."""
    assert scene.start(program).error == "DefinitionError"
    assert scene.ledger in ([], ["2 times 10"])


def pipeline(region: str) -> Callable[[], str]:
    @task
    def fetch() -> str:
        return f"data of {region}"

    @workflow(name=f"pipeline-{region}")
    def run() -> str:
        return fetch()

    return run


def two_pipelines() -> list[str]:
    pipelines = [pipeline("eu"), pipeline("us")]
    return [run() for run in (*pipelines, *pipelines)]


def test_functions_of_one_name_may_serve_different_runs(scene: Scene) -> None:
    """Closures of one name that never meet in a run are not confused, and not refused."""
    assert scene.start(two_pipelines).value == ["data of eu", "data of us"] * 2


def report(customer: str) -> Callable[[], str]:
    @workflow
    def run() -> str:
        return f"report of {customer}"

    return run


def two_reports() -> str:
    reports = [report("ada"), report("bob")]
    return ", ".join(run() for run in reports)


def test_workflows_without_names_are_not_taken_for_each_other(scene: Scene) -> None:
    """Two closures are workflows of one name: the second is not given the first one's result, and a later one is warned."""
    assert scene.start(two_reports).error == "DefinitionError"
    outcome = scene.start(two_reports)
    assert outcome.error == "DefinitionError"
    [warning] = scene.start(report_of, "bob").warnings
    assert "Variables do not count as inputs" in warning


def report_of(customer: str) -> str:
    return report(customer)()


def product_of(factor: int) -> int:
    times = multiplication(factor)

    @workflow(after_success="rerun")
    def one_product() -> int:
        return times(10)

    return one_product()


def test_a_cached_closure_counts_with_what_it_closes_over(scene: Scene) -> None:
    """Results shared by `cache=True` are those of the same closure over the same values."""
    assert [scene.start(product_of, factor).value for factor in (2, 3, 2)] == [20, 30, 20]
    assert scene.ledger == ["2 times 10", "3 times 10"]
