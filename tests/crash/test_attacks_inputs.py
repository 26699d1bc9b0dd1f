"""Inputs that look alike and are not: objects that count by their type, generators and files."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from durable import task, workflow
from tests.crash.effects import did

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import TextIOWrapper

    from tests.crash.scenes import Scene


class Account:
    def __init__(self, name: str) -> None:
        self.name = name

    @task(idempotent=False)
    def charge(self, cents: int) -> str:
        did(f"charge {self.name}")
        return f"receipt of {self.name}, {cents}"

    @task
    def look_up(self) -> str:
        did(f"look up {self.name}")
        return self.name

    @workflow
    def close(self) -> str:
        did(f"close {self.name}")
        return f"{self.name} is closed"

    @workflow
    def report(self) -> str:
        return f"report of {self.name}"


class NamedAccount(Account):
    def __durable_key__(self) -> str:
        return self.name


@task
def rest() -> None:
    did("rest")


@workflow
def charges(named: bool) -> list[str]:
    accounts = [(NamedAccount if named else Account)(name) for name in os.environ["NAMES"].split()]
    receipts = [accounts[0].charge(5)]
    rest()
    return [*receipts, accounts[1].charge(5)]


def test_an_object_is_not_charged_for_another(scene: Scene) -> None:
    """Two objects that count by type make one call in another order after a crash: neither is charged twice."""
    scene.kill("rest", charges, False, NAMES="ada bob")
    outcome = scene.start(charges, False, NAMES="bob ada")
    assert outcome.error == "FingerprintError"
    assert "__durable_key__" in outcome.message
    assert scene.ledger == ["charge ada", "rest", "rest"]


def test_objects_with_a_key_are_told_apart(scene: Scene) -> None:
    """The same with a `__durable_key__()`: each is charged once."""
    scene.kill("rest", charges, True, NAMES="ada bob")
    outcome = scene.start(charges, True, NAMES="bob ada", DURABLE_ON_DRIFT="run")
    assert outcome.value == ["receipt of bob, 5", "receipt of ada, 5"]
    assert [effect for effect in scene.ledger if effect != "rest"] == ["charge ada", "charge bob"]


def account_class() -> Any:
    class LocalAccount(Account):
        @task(idempotent=False)
        def charge(self, cents: int) -> str:
            did(f"charge {self.name}")
            return f"receipt of {self.name}, {cents}"

        @task(idempotent=False)
        def statements(self) -> Iterator[str]:
            did(f"read {self.name}")
            yield self.name

    return LocalAccount


@workflow
def charges_of_a_local_class() -> list[str]:
    return [account.charge(5) for account in map(account_class(), ("ada", "bob"))]


@workflow
def statements_of_a_local_class() -> list[str]:
    return [line for account in map(account_class(), ("ada", "bob")) for line in account.statements()]


@workflow
def submitted_to_a_local_class() -> list[str]:
    futures = [account.charge.submit(5) for account in map(account_class(), ("ada", "bob"))]
    return [future.result() for future in futures]


@pytest.mark.parametrize("program", [charges_of_a_local_class, statements_of_a_local_class, submitted_to_a_local_class])
def test_objects_of_a_local_class_are_not_confused(scene: Scene, program: Callable[[], list[str]]) -> None:
    """Methods of a class in a function, generators and submitted calls refuse a second object that says the same."""
    outcome = scene.start(program)
    assert outcome.error == "FingerprintError"
    assert [effect for effect in scene.ledger if "bob" in effect] == []


@workflow
def looks_up() -> list[str]:
    accounts = [Account("ada"), Account("bob")]
    return [account.look_up() for account in accounts]


def test_an_idempotent_call_of_another_object_is_warned_of(scene: Scene) -> None:
    """Two objects that count by type make one call that may be repeated: it is made, and the user told."""
    outcome = scene.start(looks_up)
    assert outcome.value == ["ada", "bob"]
    assert [text for text in outcome.warnings if "two objects of type Account" in text]


@workflow
def looks_up_the_same() -> list[str]:
    account, copy = Account("ada"), Account("ada")
    return [account.look_up(), account.look_up(), copy.look_up()]


def test_equal_objects_may_make_equal_calls(scene: Scene) -> None:
    """An object that calls twice, and another one with the same attributes, are no reason to warn."""
    assert scene.start(looks_up_the_same).warnings == []


def close_two() -> list[str]:
    return [Account(name).close() for name in ("ada", "bob")]


def close_two_with_keys() -> list[str]:
    return [NamedAccount(name).close() for name in ("ada", "bob")]


def report_on_two() -> list[str]:
    return [Account(name).report.with_options(run_id=f"report-{name}")() for name in ("ada", "bob")]


def test_a_run_that_another_object_may_have_begun(scene: Scene) -> None:
    """A workflow is a method of objects that count by type and hold data: the warning asks for a key or for a run id."""
    shared = scene.start(close_two)
    assert shared.value == ["ada is closed", "ada is closed"]
    assert [text for text in shared.warnings if "any other Account" in text and "(name)" in text and "run_id=" in text]
    for told_apart, values in (
        (close_two_with_keys, ["ada is closed", "bob is closed"]),
        (report_on_two, ["report of ada", "report of bob"]),
    ):
        outcome = scene.start(told_apart)
        assert (outcome.value, outcome.warnings) == (values, [])


class Service:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.results: list[int] = []
        self._requests = 0

    @workflow
    def serve(self, day: int) -> int:
        self._requests += 1
        return day


def serve_twice() -> list[int]:
    service = Service()
    return [service.serve(1), service.serve(2)]


def test_an_object_without_data_counts_by_its_type(scene: Scene) -> None:
    """A workflow may be a method of an object that holds nothing but live objects and private attributes."""
    assert scene.start(serve_twice).value == [1, 2]


@workflow
def total(rows: Iterator[int]) -> int:
    return sum(rows)


@workflow
def load(file: TextIOWrapper) -> str:
    return file.read()


@workflow
def write(file: TextIOWrapper, _rows: Iterator[int]) -> int:
    return file.write(f"{sum(_rows)}")


def total_of_a_generator() -> int:
    return total(number for number in (1, 2, 3))


def load_a_file() -> str:
    with open(__file__) as file:
        return load(file)


def write_a_file() -> int:
    with open(os.devnull, "w") as file:
        return write(file, (number for number in (1, 2, 3)))


@pytest.mark.parametrize("program", [total_of_a_generator, load_a_file])
def test_data_without_a_value_names_a_run(scene: Scene, program: Callable[[], object]) -> None:
    """A generator, or a file that is read, counts by its type among the inputs of a workflow, which a warning says."""
    outcome = scene.start(program)
    assert outcome.error == ""
    assert [text for text in outcome.warnings if "counts by its type alone" in text and "run_id=" in text]


def test_live_objects_are_inputs(scene: Scene) -> None:
    """A file that is written, and what a name with an underscore says not to matter, count by their type."""
    outcome = scene.start(write_a_file)
    assert (outcome.value, outcome.warnings) == (1, [])
