"""Small programs that break a naive design; each is really killed, or fails, and is started again."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, saved
from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


class ReadTimeoutError(Exception):
    """The receiver did not answer, whatever it did."""


class CardDeclinedError(Exception):
    """The receiver did nothing."""


@task(idempotent=False, no_effect_on=(CardDeclinedError,))
def charge(cents: int) -> str:
    did(f"charge {cents}")
    if is_first_start():
        how = os.environ["HOW"]
        if how == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        raise ReadTimeoutError if how == "timeout" else CardDeclinedError
    return f"charged {cents}"


@workflow
def one_charge() -> str:
    return charge(500)


@pytest.mark.parametrize(("how", "raised"), [("timeout", "ReadTimeoutError"), ("Ctrl-C", "KeyboardInterrupt")])
def test_a_charge_without_an_answer_is_not_repeated(scene: Scene, how: str, raised: str) -> None:
    """A body that is not idempotent raises `ReadTimeoutError` or meets Ctrl-C; the same line again reports the doubt."""
    assert scene.start(one_charge, START="first", HOW=how).error == raised
    for _ in range(2):
        assert scene.start(one_charge).error == "StepInDoubtError"
    assert scene.ledger == ["charge 500"]


def test_a_declined_charge_is_tried_again(scene: Scene) -> None:
    """An exception in `no_effect_on` proves that nothing happened: the step is tried again."""
    assert scene.start(one_charge, START="first", HOW="declined").error == "CardDeclinedError"
    assert scene.start(one_charge).value == "charged 500"
    assert scene.ledger == ["charge 500", "charge 500"]


@task(idempotent=False)
def pay(cents: int, at: float) -> str:
    did(f"pay {cents}")
    return f"paid {cents}"


@workflow
def pays_at_a_time() -> str:
    return pay(500, time.time())


def test_a_payment_with_a_time_stamp_is_in_doubt(scene: Scene) -> None:
    """`pay(500, time.time())`, killed inside: the resumed run reports the doubt although the inputs differ."""
    scene.kill("pay 500", pays_at_a_time)
    assert scene.start(pays_at_a_time).error == "StepInDoubtError"
    assert scene.ledger == ["pay 500"]


@task
def next_no() -> int:
    did("number")
    return len(effects())


@task
def bill(customer: str) -> str:
    number = next_no()
    saved(f"number of {customer}")
    return f"{customer} {number}"


@workflow
def bills() -> list[str]:
    found = []
    for customer in ("ada", "bob"):
        found.append(bill(customer))
        saved(f"bill of {customer}")
    return found


@pytest.mark.parametrize("point", ["number of ada", "bill of ada"])
def test_nested_steps_without_arguments_belong_to_their_parents(scene: Scene, point: str) -> None:
    """`bill(c)` calls `next_no()`; killed in or after ada's: bob gets a number of his own, ada's is neither reused nor
    executed again."""
    scene.kill(point, bills)
    assert scene.start(bills).value == ["ada 1", "bob 2"]
    assert scene.ledger == ["number", "number"]


@task
def greet(customer: str) -> str:
    did(f"greet {customer}")
    return f"hello {customer}"


@task
def record(customer: str) -> str:
    did(f"record {customer}")
    return customer


@workflow
def signup(customer: str) -> str:
    greeting = greet(customer)
    saved(f"greeted {customer}")
    record(customer)
    return greeting


def _signup_all() -> list[str]:
    return [signup(customer) for customer in ("ada", "bob", "cy", "dan")]


def test_a_loop_over_runs_resumes_the_one_that_was_interrupted(scene: Scene) -> None:
    """`for c in customers: signup(c)`, killed in the third: the first two return their results, the third resumes."""
    scene.kill("greeted cy", _signup_all)
    scene.forget()
    outcome = scene.start(_signup_all)
    assert outcome.value == ["hello ada", "hello bob", "hello cy", "hello dan"]
    assert scene.ledger == ["record cy", "greet dan", "record dan"]
    assert outcome.said.count("returning its stored result") == 2
    assert outcome.said.count("resuming run") == 1


@task(idempotent=False)
def pay_elsewhere(customer: str, folder: str) -> str:
    did(f"pay {customer}")
    os.chdir(folder)
    return customer


@workflow
def order_elsewhere(customer: str, folder: str) -> str:
    return pay_elsewhere(customer, folder)


def _order_all() -> list[str]:
    os.environ.pop("DURABLE_DB")
    os.chdir(os.environ["FOLDER"])
    return [order_elsewhere(customer, os.environ["ELSEWHERE"]) for customer in ("ada", "bob")]


@pytest.mark.parametrize("point", ["", "pay bob"])
def test_runs_are_found_wherever_the_program_has_gone(scene: Scene, point: str) -> None:
    """A payment changes the current folder, so the next run begins in another: started again, the program finds both."""
    folders = {name: str(scene.folder / name) for name in ("FOLDER", "ELSEWHERE")}
    for folder in folders.values():
        os.mkdir(folder)
    assert scene.is_killed(_order_all, KILL_AT=point, **folders) == bool(point)
    assert scene.start(_order_all, **folders).error == ("StepInDoubtError" if point else "")
    assert scene.ledger == ["pay ada", "pay bob"]


_lost = threading.Event()


@task
def alone() -> str:
    did("alone")
    assert _lost.wait(LIMIT)
    return "result"


@workflow
def contended() -> str:
    return alone()


def _two_requests() -> list[str]:
    together = threading.Barrier(2)

    def request(_: int) -> str:
        together.wait()
        try:
            return contended()
        except durable.RunInProgressError as error:
            _lost.set()
            return type(error).__name__

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(request, range(2)))


def test_two_requests_of_one_process_start_a_run_at_once(scene: Scene) -> None:
    """Two threads start the same implicit run at once: one executes it, the other gets `RunInProgressError`."""
    assert scene.start(_two_requests).value == ["RunInProgressError", "result"]
    assert scene.ledger == ["alone"]


CONTENDED = """
import os, pathlib, sys, threading, time
from durable import task, workflow
from tests.crash.effects import did, reach

@task
def alone():
    did("alone")
    for _ in range(3000):
        if os.path.exists("released"):
            break
        time.sleep(0.01)
    reach("released")
    return "result"

@workflow
def contended():
    return alone()

print("ready", flush=True)
sys.stdin.readline()
if "RELEASE" in os.environ:
    threading.Timer(0.3, pathlib.Path("released").touch).start()
print(contended.with_options(on_running=sys.argv[1])())
"""


def test_two_processes_start_a_run_at_once(scene: Scene) -> None:
    """Two processes start the same implicit run at once: one executes it, the other refuses, a third that asked joins."""
    script = scene.folder / "contended.py"
    script.write_text(CONTENDED)
    racers = [scene.begin(script, "error"), scene.begin(script, "error")]
    joiner = scene.begin(script, "join")
    for process in (*racers, joiner):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racers:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    until(lambda: any(process.poll() is not None for process in racers))
    loser, winner = sorted(racers, key=lambda process: process.poll() is None)
    assert "RunInProgressError" in loser.communicate()[1]
    assert joiner.stdin is not None
    joiner.stdin.write("\n")
    joiner.stdin.flush()
    (scene.folder / "released").touch()
    assert winner.communicate()[0] == "result\n"
    assert joiner.communicate()[0] == "result\n"
    assert scene.ledger == ["alone"]


def test_a_process_joins_one_that_is_killed(scene: Scene) -> None:
    """A process that asked to join one that is then killed resumes the run."""
    script = scene.folder / "contended.py"
    script.write_text(CONTENDED)
    with scene.begin(script, "error", KILL_AT="released") as first:
        assert first.stdin is not None
        first.stdin.write("\n")
        first.stdin.flush()
        until(lambda: scene.ledger or first.poll() is not None)
        with scene.begin(script, "join", RELEASE="yes") as joiner:
            assert joiner.communicate("\n")[0] == "ready\nresult\n"
        assert first.wait(LIMIT) == -signal.SIGKILL
    assert scene.ledger == ["alone", "alone"]


@task(replay=False)
def create() -> str:
    did("create")
    return f"vm {effects().count('create')}"


@task(replay=False)
def delete(vm: str) -> None:
    did(f"delete {vm}")


@task
def job(vm: str) -> str:
    did(f"job on {vm}")
    if is_first_start():
        raise RuntimeError("out of memory")
    return "done"


@workflow
def on_a_machine() -> str:
    vm = create()
    try:
        return job(vm)
    finally:
        delete(vm)


def test_set_up_and_clean_up_happen_in_every_execution(scene: Scene) -> None:
    """`vm = create(); try: job(vm) finally: delete(vm)` with `replay=False`; job fails; again: a new VM, deleted again."""
    assert scene.start(on_a_machine, START="first").error == "RuntimeError"
    assert scene.start(on_a_machine).value == "done"
    assert scene.ledger == ["create", "job on vm 1", "delete vm 1", "create", "job on vm 2", "delete vm 2"]


@task
def import_row(row: int) -> int:
    did(f"import {row}")
    if row % 2 and is_first_start():
        raise ValueError(row)
    return row


@workflow(run_id="collecting")
def collects_failures() -> str:
    failed = []
    for row in range(4):
        try:
            import_row(row)
        except ValueError as error:
            failed.append(error)
    if failed:
        raise RuntimeError(f"{len(failed)} rows failed")
    return "all rows"


def test_failures_that_the_code_collected_are_replayed(scene: Scene) -> None:
    """A loop that collects exceptions and raises its own error at the end: they are replayed, the message says so, and
    `--retry-failed` tries them."""
    assert scene.start(collects_failures, START="first").error == "RuntimeError"
    again = scene.start(collects_failures)
    assert again.message == "2 rows failed"
    assert "executed nothing" in again.said
    assert "--retry-failed" in again.said
    assert scene.ledger == [f"import {row}" for row in range(4)]
    resumed = scene.cli("resume", "collecting", "--retry-failed")
    assert (resumed.returncode, resumed.stdout) == (0, '"all rows"\n')
    assert scene.ledger[4:] == ["import 1", "import 3"]


@task
def notify(text: str) -> None:
    did(f"notify {text}")


@workflow
def notifies_and_raises_another() -> str:
    try:
        return charge_once()
    except ConnectionError:
        notify("failed")
        raise RuntimeError("see the notification")  # noqa: B904 -- the context alone has to lead to the cause


@task
def charge_once() -> str:
    did("charge")
    if is_first_start():
        raise ConnectionError
    return "charged"


def test_the_step_behind_another_error_is_tried_again(scene: Scene) -> None:
    """`except E: notify(); raise RuntimeError()`: called again, the step that raised E is tried again."""
    assert scene.start(notifies_and_raises_another, START="first").error == "RuntimeError"
    assert scene.start(notifies_and_raises_another).value == "charged"
    assert scene.ledger == ["charge", "notify failed", "charge"]
