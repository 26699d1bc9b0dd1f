"""Calls that found a way around the promise: by a timeout, a policy, an exception, or a function that has no own name."""

from __future__ import annotations

import functools
import operator
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

import durable
from durable import task, workflow
from tests.crash.effects import did, effects

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


@task
def next_of_nothing() -> str:
    did("next")
    return next(iter(()))


@workflow
def child_of_nothing() -> str:
    return next_of_nothing()


@workflow
def handles_the_end(call: str) -> str:
    try:
        return child_of_nothing() if call == "child" else next_of_nothing()
    except StopIteration:
        rest()
        return "the end"


@workflow
def fails_at_the_end() -> str:
    return next_of_nothing()


@pytest.mark.parametrize("call", ["task", "child"])
def test_stop_iteration_is_an_exception_like_any_other(scene: Scene, call: str) -> None:
    """A body raises StopIteration: the workflow can handle it, and a replay raises it again."""
    scene.kill("rest", handles_the_end, call)
    assert scene.start(handles_the_end, call).value == "the end"
    assert scene.ledger == ["next", "rest", "rest"]


def hides_what_it_wraps(function: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function()

    return wrapper


@task(name="hidden")
@hides_what_it_wraps
async def hidden() -> str:
    did("hidden")
    return "awaited"


@task(name="hidden")
async def uncovered() -> str:
    did("uncovered")
    return "awaited"


@workflow(run_id="awaits")
async def awaits_what_is_hidden() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return await (uncovered() if "MENDED" in os.environ else hidden())


def test_a_coroutine_that_a_decorator_hides_is_no_result(scene: Scene) -> None:
    """A task that gives a coroutine is no success: the error names the decorator, and the mended program executes it."""
    for _ in range(2):
        outcome = scene.start(awaits_what_is_hidden)
        assert outcome.error == "DefinitionError"
        assert "a decorator between it and @task hides" in outcome.message
    assert scene.start(awaits_what_is_hidden, MENDED="1").value == "awaited"
    assert scene.ledger == ["uncovered"]


class SpeechlessError(Exception):
    def __str__(self) -> str:
        return str(self.reason)  # type: ignore[attr-defined]  # as happens


@task
def fails_without_words() -> None:
    did("speechless")
    raise SpeechlessError


@workflow(run_id="speechless")
def ends_without_words() -> None:
    fails_without_words()


def _speechless() -> tuple[str, str]:
    try:
        ends_without_words()
    except SpeechlessError:
        [run] = durable.list_runs()
        return run.status, run.message
    raise AssertionError


def test_an_exception_that_cannot_say_what_it_is_ends_a_run(scene: Scene) -> None:
    """An exception whose `__str__` raises comes to the caller, and the run has failed by it."""
    for _ in range(2):
        status, message = scene.start(_speechless).value
        assert (status, "__str__ failed" in message) == ("failed", True)
    assert scene.ledger == ["speechless"] * 2


def test_stop_iteration_may_end_a_run(scene: Scene) -> None:
    """A body raises StopIteration and nobody handles it: the caller gets it, and the step is tried again."""
    assert [scene.start(fails_at_the_end).error for _ in range(2)] == ["StopIteration"] * 2
    assert scene.ledger == ["next"] * 2


until_ready = tenacity.Retrying(
    retry=tenacity.retry_if_result(lambda found: found is None),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_none(),
)


@task(retry=until_ready)
def poll(ready_at: int) -> str | None:
    polls = [effect for effect in effects() if effect.startswith("poll")] if "LATER" in os.environ else []
    did(f"poll {len(polls) + 1}")
    return "ready" if len(polls) + 1 == ready_at else None


@workflow
def polls(ready_at: int) -> str | None:
    return poll.with_options(idempotent="ONCE" not in os.environ)(ready_at)


def test_a_result_that_will_not_do_is_asked_for_again(scene: Scene) -> None:
    """`retry_if_result` refuses a result: another attempt follows, and the count of them survives a crash."""
    scene.write_ledger([])
    scene.kill("poll 2", polls, 3, LATER="1")
    assert scene.start(polls, 3, LATER="1").value == "ready"
    assert scene.ledger == ["poll 1", "poll 2", "poll 3"]


def test_a_result_that_will_never_do_is_a_failure(scene: Scene) -> None:
    """The last attempt gives a result that `retry_if_result` refuses: `tenacity.RetryError`, as without durable."""
    assert scene.start(polls, 99).error == "RetryError"
    assert len(scene.ledger) == 3


def test_a_result_of_what_must_not_be_repeated_will_do(scene: Scene) -> None:
    """A step that is not idempotent is not executed again, whatever `retry_if_result` says of its result."""
    assert scene.start(polls, 99, ONCE="1").error == ""
    assert len(scene.ledger) == 1


@task(replay=False)
def log_in() -> str:
    return f"token {len(effects())}"


@task
def devour(token: str) -> str:
    did("devour")
    return token


@workflow
def hungry() -> str:
    return devour(log_in())


def test_a_crash_loop_with_a_new_token_each_time_ends(scene: Scene) -> None:
    """A step is killed every time and gets an argument from `replay=False`: it is blocked after three interruptions."""
    scene.write_ledger([])
    for _ in range(3):
        scene.kill("devour", hungry)
    assert scene.start(hungry).error == "CrashLoopError"
    assert scene.start(hungry).error == "CrashLoopError"
    assert scene.start(hungry, DURABLE_RETRY_FAILED="1").value == "token 3"
    assert scene.ledger == ["devour"] * 4
