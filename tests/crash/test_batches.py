"""Batches whose service is a ledger: it counts what was submitted, asked and fetched, by processes that are killed."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, reach, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.crash.scenes import Scene

untyped: Any = durable.batch  # as programs call it that nobody checks
RUN = "batches"
REQUESTS = {"b": "two", "a": "one", "c": "three"}
DONE = {name: text.upper() for name, text in REQUESTS.items()}
both_kinds = pytest.mark.parametrize("kind", ["sync", "async"])


def submit(requests: dict[str, str]) -> str:
    number = (
        1 + sum(effect.startswith("submitted") for effect in effects()) if os.path.exists(os.environ["LEDGER"]) else 1
    )
    did(f"submitted batch-{number}")
    return f"batch-{number}"


def poll(batch_id: str) -> bool:
    did(f"asked {batch_id} {sum(effect.startswith('asked') for effect in effects()) + 1}")
    if os.environ.get("FAILS") == batch_id:
        raise durable.BatchFailedError(f"{batch_id} has expired")
    if os.environ.get("BREAKS") == batch_id:
        raise ConnectionError("no answer")
    return effects()[-1].endswith(os.environ.get("ENDS", "3"))


def fetch(batch_id: str) -> Iterator[tuple[str, str]]:
    did(f"fetched {batch_id}")
    for name in sorted(REQUESTS):
        reach(f"fetching {name}")
        yield name, DONE[name]


async def submit_async(requests: dict[str, str]) -> str:
    return submit(requests)


async def poll_async(batch_id: str) -> bool:
    return poll(batch_id)


async def fetch_async(batch_id: str) -> AsyncIterator[tuple[str, str]]:
    for pair in fetch(batch_id):
        yield pair


@workflow(run_id=RUN)
def translate(timeout: float | None = None) -> dict[str, str]:
    found: dict[str, str] = durable.batch(REQUESTS, submit, poll, fetch, every=0.001, timeout=timeout)
    if "DURABLE_DISABLE" not in os.environ:
        saved("recorded")
    return found


@workflow(run_id=RUN)
async def translate_async(timeout: float | None = None) -> dict[str, str]:
    functions: Any = submit_async, poll_async, fetch_async
    found: dict[str, str] = await durable.batch(REQUESTS, *functions, every=0.001, timeout=timeout)
    if "DURABLE_DISABLE" not in os.environ:
        saved("recorded")
    return found


@workflow(run_id=RUN)
def translate_stubbornly() -> dict[str, str]:
    for _ in range(3):
        try:
            return durable.batch(REQUESTS, submit, poll, fetch, every=0.001)
        except durable.BatchFailedError:
            continue
    return {}


def start(kind: str) -> Any:
    return translate_async() if kind == "async" else translate()


def start_in_time(kind: str) -> Any:
    return translate_async(60) if kind == "async" else translate(60)


def start_for_a_moment(kind: str) -> Any:
    return translate_async(0.002) if kind == "async" else translate(0.002)


def steps() -> list[str]:
    return [step.key for step in durable.get_run(RUN).steps]


def status() -> str:
    return str(durable.get_run(RUN).status)


def say_that_it_was_submitted(key: str) -> None:
    durable.get_run(RUN).resolve(key, durable.happened("batch-1"))


def done(scene: Scene, what: str) -> list[str]:
    return [effect for effect in scene.ledger if effect.startswith(what)]


@both_kinds
def test_a_batch_is_submitted_once_and_its_results_are_steps(scene: Scene, kind: str) -> None:
    """The results come in the order of the requests, each is a step, asking is none, and a replay does nothing."""
    outcome = scene.start(start, kind)
    assert list(outcome.value.items()) == list(DONE.items())
    keys = scene.start(steps).value
    assert keys[0].startswith("submit")
    assert keys[1:] == ["durable.batch:batch-1", *(f"durable.batch_result:batch-1%2F{name}" for name in REQUESTS)]
    ledger = scene.ledger
    assert scene.start(start, kind).value == DONE
    assert scene.ledger == ledger
    assert len(ledger) == 5


@both_kinds
@pytest.mark.parametrize("point", ["asked batch-1 1", "asked batch-1 2", "fetched batch-1", "fetching b", "recorded"])
def test_a_batch_that_was_submitted_is_gone_on_with(scene: Scene, kind: str, point: str) -> None:
    """A run that is killed while it waits or fetches goes on with its batch."""
    scene.kill(point, start, kind)
    assert scene.start(start, kind).value == DONE
    assert done(scene, "submitted") == ["submitted batch-1"]
    assert len(done(scene, "fetched")) == (2 if point.startswith("fetch") else 1)


@both_kinds
def test_a_submission_that_was_interrupted_is_in_doubt(scene: Scene, kind: str) -> None:
    """A run that is killed while it submits does not submit again; the id is what its resolution takes."""
    scene.kill("submitted batch-1", start, kind)
    assert scene.start(start, kind).error == "StepInDoubtError"
    [key] = scene.start(steps).value
    scene.start(say_that_it_was_submitted, key)
    assert scene.start(start, kind).value == DONE
    assert done(scene, "submitted") == ["submitted batch-1"]


@both_kinds
def test_a_batch_that_failed_is_submitted_again_by_the_next_execution(scene: Scene, kind: str) -> None:
    """A batch whose failure ended the run is set aside when the run is called again; what asked about it is not lost."""
    assert scene.start(start, kind, FAILS="batch-1").error == "BatchFailedError"
    assert scene.start(start, kind, FAILS="batch-2").error == "BatchFailedError"
    scene.kill("fetching b", start, kind, ENDS="")
    assert scene.start(start, kind).value == DONE
    assert done(scene, "submitted") == [f"submitted batch-{number}" for number in (1, 2, 3)]


def test_a_failure_that_was_handled_is_replayed(scene: Scene) -> None:
    """Code that submits again by itself, killed later, goes on with the second batch."""
    scene.kill("fetching b", translate_stubbornly, FAILS="batch-1", ENDS="")
    assert scene.start(translate_stubbornly, FAILS="batch-1").value == DONE
    assert done(scene, "submitted") == ["submitted batch-1", "submitted batch-2"]


@both_kinds
def test_another_error_of_poll_loses_nothing(scene: Scene, kind: str) -> None:
    """An error while asking ends the run, and the next execution goes on with the same batch."""
    assert scene.start(start, kind, BREAKS="batch-1").error == "ConnectionError"
    assert scene.start(start, kind).value == DONE
    assert done(scene, "submitted") == ["submitted batch-1"]


@both_kinds
def test_a_batch_that_takes_too_long(scene: Scene, kind: str) -> None:
    """A wait that is over is a typed error, and the next execution goes on waiting for the same batch."""
    outcome = scene.start(start_for_a_moment, kind, ENDS="never")
    assert outcome.error == "WaitTimeoutError"
    assert "Batch batch-1 did not end within 0.002 s" in outcome.message
    assert scene.start(start_for_a_moment, kind, ENDS="").value == DONE
    assert done(scene, "submitted") == ["submitted batch-1"]


@both_kinds
def test_a_batch_in_time(scene: Scene, kind: str) -> None:
    """A limit that is not reached changes nothing."""
    assert scene.start(start_in_time, kind).value == DONE


def test_a_run_is_waiting_meanwhile(scene: Scene) -> None:
    """While a run waits for a batch its status says so."""
    scene.kill("asked batch-1 2", start, "sync")
    assert scene.start(status).value in {"waiting", "running"}


@both_kinds
def test_a_batch_without_a_store(scene: Scene, kind: str) -> None:
    """With DURABLE_DISABLE a batch is submitted, asked about and fetched, and nothing is recorded."""
    assert scene.start(start_in_time, kind, DURABLE_DISABLE="1").value == DONE
    assert len(scene.ledger) == 5
    assert scene.start(start_for_a_moment, kind, DURABLE_DISABLE="1", ENDS="never").error == "WaitTimeoutError"


class Service:
    """Functions as methods, one of them a task of its own."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __durable_key__(self) -> str:
        return "service"

    @task(idempotent=True, key="words")
    def submit(self, requests: dict[str, str]) -> str:
        self.said.append("submitted")
        return "batch-7"

    def poll(self, batch_id: str) -> str:
        self.said.append(f"asked {batch_id}")
        return "ended"

    @task
    def fetch(self, batch_id: str) -> dict[str, str]:
        return {name: text.upper() for name, text in REQUESTS.items()}


def test_methods_and_tasks(memory: None) -> None:
    """Methods do, also of tasks: submit keeps its options, poll and fetch are not recorded."""
    service = Service()
    with durable.run("methods") as run:
        assert durable.batch(REQUESTS, service.submit, service.poll, service.fetch) == DONE
    keys = [step.key.rpartition("/")[2] for step in run.steps]
    assert keys[:2] == ["Service.submit:words", "durable.batch:batch-7"]
    assert len(run.steps) == 5
    assert service.said == ["submitted", "asked batch-7"]


def test_no_requests_are_no_batch(memory: None) -> None:
    """Nothing is submitted for nothing."""
    with durable.run("empty") as run:
        assert durable.batch({}, submit, poll, fetch) == {}
    assert run.steps == []


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"a": 1, "b": 2}, "no result for the 3 requests: 'c'"),
        ({**DONE, "d": 1}, "a result for what is not among the 3 requests: 'd'"),
        (7, "int, which is no mapping"),
        (["ab", "cde"], "list, which is no mapping"),
    ],
)
def test_results_that_do_not_fit_are_refused(memory: None, results: Any, said: str) -> None:
    """Results that are missing, too many or without names are a typed error; none of them is recorded."""
    with pytest.raises(durable.BatchFailedError, match=said), durable.run("wrong"):
        durable.batch(REQUESTS, lambda requests: "batch-1", lambda batch_id: True, lambda batch_id: results)
    assert len(durable.get_run("wrong").steps) == 2


@pytest.fixture
def memory() -> Iterator[None]:
    durable.configure("memory:")
    yield
    durable.configure(None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: untyped(["one"], submit, poll, fetch), "mapping"),
        (lambda: untyped({1: "one"}, submit, poll, fetch), "strings"),
        (lambda: untyped(REQUESTS, "submit", poll, fetch), "submit is a function"),
        (lambda: untyped(REQUESTS, fetch, poll, fetch), "submit is a generator"),
        (lambda: untyped(REQUESTS, submit, poll_async, fetch), "here only poll"),
        (lambda: untyped(REQUESTS, submit, poll, fetch, every=0), "positive"),
        (lambda: untyped(REQUESTS, submit, poll, fetch, every=timedelta(-1)), "not negative"),
        (lambda: untyped(REQUESTS, submit, poll, fetch, timeout=float("nan")), "seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused(memory: None, call: Callable[[], Any], said: str) -> None:
    """Requests, functions and times that cannot be meant are typed errors before anything is executed."""
    with pytest.raises(durable.ConfigurationError, match=said), durable.run("refused"):
        call()
    assert durable.get_run("refused").steps == []


def test_a_batch_needs_a_run() -> None:
    """Outside a run there is nothing that a batch could be recorded in."""
    with pytest.raises(durable.OutsideRunError):
        untyped(REQUESTS, submit, poll, fetch)
