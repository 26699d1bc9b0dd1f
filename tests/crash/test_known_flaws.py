"""Situations that durable-execution libraries are known to get wrong, each as a program that is really killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from durable import task, workflow
from tests.crash.effects import did, effects, is_first_start, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task
async def fetch(name: str) -> str:
    did(f"fetch {name}")
    return f"text of {name}"


@task
async def summarize(name: str, text: str) -> str:
    did(f"summarize {name}")
    return f"summary of {text}"


@workflow
async def two_chains() -> list[str]:
    is_through = asyncio.Event()

    async def chain(name: str) -> str:
        text = await fetch(name)
        if (name == "a") == is_first_start():  # b is first at first, then a
            await is_through.wait()
        summary = await summarize(name, text)
        saved(f"chain {name}")
        is_through.set()
        return summary

    return list(await asyncio.gather(chain("a"), chain("b")))


def test_chains_in_gather_keep_their_own_results(scene: Scene) -> None:
    """`gather(chain("a"), chain("b"))`, killed when one chain is through: every result belongs to its own chain."""
    scene.kill("chain b", two_chains, START="first")
    outcome = scene.start(two_chains)
    assert outcome.value == ["summary of text of a", "summary of text of b"]
    assert sorted(scene.ledger) == ["fetch a", "fetch b", "summarize a", "summarize b"]


@task
def work(name: str) -> str:
    did(name)
    return f"result of {name}"


@workflow
def over_items() -> dict[str, str]:
    found = {}
    for name in ("a", "b", "c") if is_first_start() else ("c", "b", "a"):
        found[name] = work(name)
        saved(f"after {name}")
    return found


def test_items_in_another_order_keep_their_own_results(scene: Scene) -> None:
    """A loop over a, b, c crashes after b and is restarted as c, b, a: each item gets its own result, c executes once."""
    scene.kill("after b", over_items, START="first")
    outcome = scene.start(over_items)
    assert outcome.value == {name: f"result of {name}" for name in "abc"}
    assert scene.ledger == ["a", "b", "c"]


@workflow(run_id="one-id")
def with_one_id(name: str) -> str:
    return work(name)


def test_other_arguments_under_the_same_run_id_are_an_error(scene: Scene) -> None:
    """The same run id with other arguments is an error that names the argument, not the first call's result."""
    assert scene.start(with_one_id, "ada").value == "result of ada"
    outcome = scene.start(with_one_id, "bob")
    assert (outcome.error, scene.ledger) == ("InputsChangedError", ["ada"])
    assert "'name'" in outcome.message


@task(idempotent=False)
def pay(name: str) -> str:
    did(name)
    return f"paid {name}"


@workflow
def in_a_thread_pool(paid: bool) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(pay if paid else work, ["a", "b"]))


def test_steps_in_a_thread_pool_are_not_silently_undurable(scene: Scene) -> None:
    """Tasks called through a `ThreadPoolExecutor` warn that they are not recorded; one that is not idempotent refuses."""
    outcome = scene.start(in_a_thread_pool, False)
    assert outcome.value == ["result of a", "result of b"]
    assert len(outcome.warnings) == 1
    assert "work" in outcome.warnings[0]
    scene.forget()
    outcome = scene.start(in_a_thread_pool, True)
    assert (outcome.error, scene.ledger) == ("OutsideRunError", [])


@task
def interrupted(name: str) -> str:
    did(name)
    if len(effects()) == 2:
        signal.raise_signal(signal.SIGINT)
    return name


@workflow
def interrupted_once() -> list[str]:
    return [work("a"), interrupted("b")]


def _call_twice() -> list[str]:
    with contextlib.suppress(KeyboardInterrupt):
        interrupted_once()
        raise AssertionError("Ctrl-C was swallowed")
    return interrupted_once()


def test_the_same_call_after_ctrl_c_resumes_at_once(scene: Scene) -> None:
    """Ctrl-C in the second step, then the same call in the same process: it resumes and repeats only that step."""
    outcome = scene.start(_call_twice)
    assert outcome.value == ["result of a", "b"]
    assert scene.ledger == ["a", "b", "b"]


EDITED = """
from durable import task, workflow
from tests.crash.effects import did, saved

@task
def load():
    did("load")
    return {loaded}

@task
def store(value):
    did(f"store {{value}}")
    return value

@workflow
def job():
    value = load()
    saved("loaded")
    return store(value)

print(job())
"""


def test_source_edited_between_crash_and_restart(scene: Scene) -> None:
    """The script is edited between crash and restart: it resumes, finished steps are kept, and one warning says so."""
    script = scene.folder / "job.py"
    script.write_text(EDITED.format(loaded=1))
    assert scene.python(script, KILL_AT="loaded").returncode == -signal.SIGKILL
    script.write_text("# a new first line\n" + EDITED.format(loaded="1 + 1"))
    again = scene.python(script)
    assert again.stdout == "1\n"
    assert scene.ledger == ["load", "store 1"]
    assert again.stderr.count("DurableWarning") == 1
    assert "load" in again.stderr


MAILING = """
import sys
from durable import task, workflow
from tests.crash.effects import did

@task(idempotent=False)
def send_email(to):
    did(f"mail {to}")
    print("sending", flush=True)
    sys.stdin.read(1)

@workflow
def job():
    send_email("ada")
    return "sent"

print(job())
"""


def test_a_second_process_during_an_email(scene: Scene) -> None:
    """A second process started while the first is inside `send_email` refuses: one e-mail."""
    script = scene.folder / "mailing.py"
    script.write_text(MAILING)
    with scene.begin(script) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "sending\n"
        second = scene.python(script)
        assert second.returncode == 1
        assert "RunInProgressError: Run " in second.stderr
        assert str(first.pid) in second.stderr
        out, _ = first.communicate("\n")
    assert out == "sent\n"
    assert scene.python(script).stdout == "sent\n"
    assert scene.ledger == ["mail ada"]


@task
def connect() -> dict[str, Any]:
    did("connect")
    return {"name": "db", "conn": [socket.socket()]}


@workflow
def with_unstorable_result() -> str:
    return str(connect())


def test_an_unserializable_result_is_not_executed_again(scene: Scene) -> None:
    """A result that cannot be stored after the effect: an error with the path to the culprit, and never executed again."""
    for _ in range(3):
        outcome = scene.start(with_unstorable_result)
        assert outcome.error == "NotSerializableError"
        assert "result['conn'][0]" in outcome.message
    assert scene.ledger == ["connect"]


class QuotaError(Exception):
    """Takes other arguments than it hands on."""

    def __init__(self, user: str, *, limit: int) -> None:
        super().__init__(f"{user} is over {limit}")
        self.user, self.limit = user, limit


@task
def check(user: str) -> None:
    did(f"check {user}")
    raise QuotaError(user, limit=3)


@workflow
def catches_quota(user: str) -> str:
    try:
        check(user)
    except QuotaError as error:
        saved("caught")
        work("after")
        saved("later")
        return f"{error.user} {error.limit} {error}"
    return "unreachable"


def test_an_exception_with_its_own_init_is_raised_again(scene: Scene) -> None:
    """An exception with an `__init__` of its own is stored, and on resume `except` on its class matches."""
    scene.kill("later", catches_quota, "ada")
    assert scene.start(catches_quota, "ada").value == "ada 3 ada is over 3"
    assert scene.ledger == ["check ada", "after"]


PLAIN = """
from durable import task, workflow
from tests.crash.effects import did

@task
def part(number):
    did(f"part {number}")
    return number

@workflow
def job():
    return [part(number) for number in range(4)]

print(job())
"""


def test_a_plain_rerun_of_a_script_resumes(scene: Scene) -> None:
    """Running the same script again, without any id, resumes the unfinished run and says so."""
    script = scene.folder / "plain.py"
    script.write_text(PLAIN)
    assert scene.python(script, KILL_AT="part 2").returncode == -signal.SIGKILL
    again = scene.python(script)
    assert again.stdout == "[0, 1, 2, 3]\n"
    assert "resuming run" in again.stderr
    assert scene.python(script).stdout == "[0, 1, 2, 3]\n"
    assert scene.ledger == ["part 0", "part 1", "part 2", "part 2", "part 3"]


@task
def unreliable() -> str:
    did("unreliable")
    if is_first_start():
        raise ConnectionError("refused")
    return "reached"


@workflow
def fails_at_first() -> list[str]:
    return [work("a"), unreliable(), work("b")]


def test_a_failed_run_goes_on_at_the_step_that_failed(scene: Scene) -> None:
    """A failed run called again goes on at the step that failed."""
    assert scene.start(fails_at_first, START="first").error == "ConnectionError"
    assert scene.start(fails_at_first).value == ["result of a", "reached", "result of b"]
    assert scene.ledger == ["a", "unreliable", "unreliable", "b"]


class Client:
    """What SDKs hand out: settings, a connection and a lock."""

    def __init__(self) -> None:
        self._url = "https://api"
        self._lock = threading.Lock()
        self._socket = socket.socket()


@task
def ask(client: object, question: str) -> str:
    did(question)
    return f"answer to {question}"


@workflow
def with_clients(client: object, connection: object) -> list[str]:
    answers = []
    for number, asked in enumerate((client, connection)):
        answers.append(ask(asked, f"question {number}"))
        saved(f"answered {number}")
    return answers


def _with_new_clients() -> list[str]:
    return with_clients(Client(), HTTPConnection("localhost", os.getpid()))


def test_clients_count_by_their_type(scene: Scene) -> None:
    """Connections and SDK objects that hold some are arguments like others: their like in a new process resumes the run."""
    scene.kill("answered 0", _with_new_clients)
    assert scene.start(_with_new_clients).value == ["answer to question 0", "answer to question 1"]
    assert scene.ledger == ["question 0", "question 1"]
