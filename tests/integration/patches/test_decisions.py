"""What happened to a request decides whether a resumed run makes it again; where nobody can know, it says so."""

from __future__ import annotations

import io
import subprocess
import threading
import warnings
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import httpx
import pytest
import requests

import durable
from durable import task, workflow
from durable.patches import honours_idempotency_key
from tests.integration.patches.senders import ERRORS, each_library
from tests.receivers import Ledger, web_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.cli.command_line import CommandLine
    from tests.integration.patches.senders import Send


@each_library
def test_a_failed_get_is_made_again(send: Send, web: str, ledger: Ledger) -> None:
    """An error status that ended the run is asked for again when the run is resumed."""

    @workflow
    def run() -> Any:
        return send("GET", f"{web}/a?status=503,200")

    with pytest.raises(ERRORS):
        run()
    assert run()["number"] == 2
    assert len(ledger.entries) == 2


@each_library
def test_a_post_with_an_unknown_outcome_is_in_doubt(send: Send, web: str, ledger: Ledger) -> None:
    """A 5xx answer to a POST that ended the run blocks it, until somebody decides what happened."""

    @workflow
    def run() -> Any:
        return send("POST", f"{web}/pay?status=500,200", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    for _ in range(2):
        with pytest.raises(durable.StepInDoubtError) as doubt:
            run()
    assert len(ledger.entries) == 1
    durable.get_run(doubt.value.run_id).resolve(doubt.value.step_key, durable.did_not_happen)
    assert run()["number"] == 2


@each_library
def test_somebody_says_what_the_answer_was(send: Send, web: str, ledger: Ledger) -> None:
    """A request that was cut off is in doubt, which tells what it was; the JSON that it is resolved with is the body of its
    response."""

    @workflow(run_id="cut")
    def run() -> Any:
        return send("POST", f"{web}/pay?drop=1", {"cents": 5, "api_key": "quiet"})

    with pytest.raises(ERRORS):
        run()
    said = r"method='POST', url='http.*/pay\?drop=1'.*cents=5, (json.)?api_key=…"
    with pytest.raises(durable.StepInDoubtError, match=said) as doubt:
        run()
    durable.get_run("cut").resolve(doubt.value.step_key, durable.happened({"paid": True}))
    assert run() == {"paid": True}
    assert len(ledger.entries) == 1


@each_library
@pytest.mark.parametrize("answer", [[1, 2], None], ids=str)
def test_whatever_json_the_answer_was(
    send: Send, answer: object, web: str, ledger: Ledger, durable_command: CommandLine
) -> None:
    """Any JSON can be the body of the answer that somebody tells: a list of numbers, and nothing at all."""

    @workflow(run_id="cut")
    def run() -> Any:
        answered = send("POST", f"{web}/pay?drop=1", {"cents": 5})
        if not told:
            raise ValueError
        return answered

    told: list[bool] = []
    with pytest.raises(ERRORS):
        run()
    [step] = durable.get_run("cut").steps
    durable.get_run("cut").resolve(step.key, durable.happened(answer))
    with pytest.raises(ValueError, match="^$"):
        run()
    assert durable_command("explain", "cut", step.key, "--json").data["verdict"] == "replayed"
    told.append(True)
    assert run() == answer
    assert len(ledger.entries) == 1


@each_library
def test_a_refused_post_is_made_again(send: Send, web: str, ledger: Ledger) -> None:
    """A 4xx answer says that nothing happened: the resumed run tries again without a question."""

    @workflow
    def run() -> Any:
        return send("POST", f"{web}/pay?status=429,200", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    assert run()["number"] == 2
    assert len(ledger.entries) == 2


@each_library
def test_nothing_was_sent_where_nobody_listens(send: Send, port: int) -> None:
    """A refused connection proves that nothing happened."""
    ledger = Ledger()

    @workflow
    def run() -> Any:
        return send("POST", f"http://127.0.0.1:{port}/pay", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    with web_server(ledger, port):
        assert run()["number"] == 1


@each_library
def test_a_redirected_post_is_in_doubt(send: Send, web: str, port: int, ledger: Ledger) -> None:
    """The first server may have done what was asked, although the one that it named refuses connections."""

    @workflow
    def run() -> Any:
        return send("POST", f"{web}/pay?status=303&to=http://127.0.0.1:{port}/", {"cents": 5})

    with pytest.raises(ERRORS):
        run()
    with pytest.raises(durable.StepInDoubtError):
        run()
    assert len(ledger.entries) == 1


@each_library
def test_a_post_under_a_key_of_the_caller_is_repeated_under_this_key_only(send: Send, web: str, ledger: Ledger) -> None:
    """The idempotency header makes a POST repeatable; another key in its place does not."""
    keys = ["one", "one", "two"]

    @workflow(run_id="key")
    def run() -> Any:
        return send("POST", f"{web}/pay?drop=2", {"cents": 5}, {"Idempotency-Key": keys.pop(0)})

    for _ in range(2):
        with pytest.raises(ERRORS):
            run()
    with pytest.raises(durable.StepInDoubtError):
        run()
    assert [each.headers["Idempotency-Key"] for each in ledger.entries] == ["one", "one"]


@each_library
def test_a_host_that_honours_keys_gets_that_of_the_step(send: Send, web: str, ledger: Ledger) -> None:
    """The step's idempotency key is sent, and the request made again when its outcome is unknown."""
    honours_idempotency_key(web.removeprefix("http://"), header="X-Once")

    @workflow(run_id="once")
    def run() -> Any:
        return [send("POST", f"{web}/pay?drop=1", {"cents": 5}) for _ in range(2)]

    with pytest.raises(ERRORS):
        run()
    assert [each["number"] for each in run()] == [2, 3]
    first, second = durable.get_run("once").steps
    sent = [{name.lower(): value for name, value in each.headers.items()}["x-once"] for each in ledger.entries]
    assert sent == [first.idempotency_key, first.idempotency_key, second.idempotency_key]


@each_library
def test_a_changed_body_is_refused(send: Send, web: str, ledger: Ledger) -> None:
    """A POST whose body differs after a restart may be the same call: it is not made, and the error says what changed."""
    bodies = [{"cents": 5}, {"cents": 6}]

    @workflow
    def run() -> None:
        send("POST", f"{web}/pay", bodies.pop(0))
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        run()
    with pytest.raises(durable.InputsChangedError, match="body: recorded"):
        run()
    assert len(ledger.entries) == 1


@each_library
def test_credentials_do_not_count(send: Send, web: str, ledger: Ledger) -> None:
    """A restarted program that has got new tokens makes the same calls."""
    tokens = ["first", "second"]

    @workflow
    def run() -> None:
        token = tokens.pop(0)
        headers = {"Authorization": f"Bearer {token}", "X-Api-Key": token, "Cookie": f"a={token}"}
        send("POST", f"{web}/pay?access_token={token}", {"cents": 5}, headers)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert len(ledger.entries) == 1


@each_library
def test_a_handled_failure_is_replayed(send: Send, web: str, ledger: Ledger) -> None:
    """An error that the code handled stays what it was, so the same branch is taken."""

    @workflow
    def run() -> None:
        try:
            send("POST", f"{web}/a?status=500,200", {})
        except ERRORS:
            send("POST", f"{web}/instead?status=200", {})
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert [each.path.partition("?")[0] for each in ledger.entries] == ["/a", "/instead"]


@each_library
def test_calls_in_a_task_are_steps_below_it(send: Send, web: str, ledger: Ledger) -> None:
    """The attempts of a task around it ask a failing server again, and a finished request is made once."""

    @task(name="outer", attempts=3)
    def outer() -> Any:
        send("POST", f"{web}/first", {})
        return send("GET", f"{web}/second?status=200,500,200")

    @workflow(run_id="below")
    def run() -> Any:
        return outer()

    assert run()["number"] == 3
    assert [each.method for each in ledger.entries] == ["POST", "GET", "GET"]
    assert len(durable.get_run("below").steps) == 3


def test_two_equal_posts_are_two_steps(web: str, ledger: Ledger) -> None:
    """Equal calls are told apart by their order, sent as a prepared request or not."""
    request = requests.Request("POST", f"{web}/pay", json={"cents": 5}).prepare()

    @workflow
    def run() -> None:
        with requests.Session() as session:
            session.send(request)
            session.send(request)
            session.post(f"{web}/pay", json={"cents": 5})
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert len(ledger.entries) == 3


def test_a_stream_that_is_read_further_is_asked_for_again(web: str, ledger: Ledger) -> None:
    """A consumer that failed in the middle of a stream gets the rest from another request, to the byte."""
    reads = [45, 0]

    @workflow
    def run() -> bytes:
        with requests.get(f"{web}/s?pieces=40&same=1", stream=True, timeout=60) as response:
            if count := reads.pop(0):
                response.raw.read(count)
                raise ValueError
            return b"".join(response.iter_content(11))

    with pytest.raises(ValueError, match="^$"):
        run()
    lines = run().decode().splitlines()
    assert [line.split()[-1] for line in lines] == [str(number) for number in range(40)]
    assert len(ledger.entries) == 2


def test_a_large_body_is_kept(web: str, ledger: Ledger, tmp_path: Path) -> None:
    """A body of more than a megabyte is read again from beside the database."""
    sizes = []

    @workflow
    def run() -> None:
        sizes.append(len(requests.get(f"{web}/s?pieces=60000", timeout=60).content))
        with httpx.stream("GET", f"{web}/s?pieces=60000", verify=False) as response:
            sizes.append(sum(map(len, response.iter_bytes())))
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError, match="^$"):
            run()
    assert sizes == [1_200_000] * 4
    assert len(ledger.entries) == 2
    assert any(path.stat().st_size >= 1_200_000 for path in tmp_path.rglob("*") if "blob" in str(path.parent))


@pytest.mark.parametrize(("library", "is_read"), [("requests", False), ("urllib", False), ("httpx", True)])
def test_uploads_count_by_what_can_be_read_twice(library: str, is_read: bool, web: str, ledger: Ledger) -> None:
    """Another content of an upload is another call, but for iterators that are not read before they are sent."""
    sends: dict[str, Callable[[Any], object]] = {
        "requests": lambda body: requests.post(f"{web}/a", data=body, timeout=60),
        "urllib": lambda body: urlopen(Request(f"{web}/a", body)).close(),
        "httpx": lambda body: httpx.post(f"{web}/a", content=body, verify=False),
    }
    contents = [b"one"]

    @workflow(run_id="{kind}")
    def run(kind: str) -> None:
        sends[library](io.BytesIO(contents[-1]) if kind == "file" else iter([contents[-1]]))
        raise ValueError

    for kind, is_another in (("file", True), ("iterator", is_read)):
        contents[:] = [b"one"]
        with pytest.raises(ValueError, match="^$"):
            run(kind)
        contents.append(b"two")
        with pytest.raises(durable.InputsChangedError if is_another else ValueError):
            run(kind)
    assert [entry.body for entry in ledger.entries] == [b"one", b"one"]


def test_a_thread_without_the_run_is_warned_of(web: str, ledger: Ledger) -> None:
    """A POST that cannot be recorded while a run is active is made, and says so once; other calls say nothing."""

    def work() -> None:
        requests.get(f"{web}/a", timeout=60)
        requests.post(f"{web}/b", timeout=60)
        requests.post(f"{web}/b", timeout=60)

    @workflow
    def run() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    assert [str(each.message).partition(" was called")[0] for each in caught] == ["'requests.post'"]
    assert len(ledger.entries) == 3


@each_library
def test_what_is_explained_is_what_happens(send: Send, web: str, ledger: Ledger, durable_command: CommandLine) -> None:
    """`durable explain` says of an answer that ended the run whether it is asked for again, in doubt, or replayed."""

    @workflow(run_id="{method}-{status}")
    def run(method: str, status: int) -> Any:
        send("GET", f"{web}/before?status=200")
        return send(method, f"{web}/a?status={status}")

    verdicts = {("GET", 503): "tried again", ("POST", 429): "tried again", ("POST", 500): "refused: in doubt"}
    for (method, status), verdict in verdicts.items():
        with pytest.raises(ERRORS):
            run(method, status)
        before, after = durable.get_run(f"{method}-{status}").steps
        assert durable_command("explain", f"{method}-{status}", before.key, "--json").data["verdict"] == "replayed"
        assert durable_command("explain", f"{method}-{status}", after.key, "--json").data["verdict"] == verdict
    for (method, status), verdict in verdicts.items():
        count = len(ledger.entries)
        with pytest.raises((durable.StepInDoubtError, *ERRORS)):
            run(method, status)
        assert (len(ledger.entries) > count) == (verdict == "tried again")


def test_a_program_that_failed_is_explained(durable_command: CommandLine) -> None:
    """A program whose failure ended the run is in doubt, one whose code nobody asked about is not."""
    durable.patch("subprocess")

    @workflow(run_id="programs")
    def run() -> None:
        subprocess.run(["false"], check=False)
        subprocess.run(["false"], input=b"", check=True)

    with pytest.raises(subprocess.CalledProcessError):
        run()
    keys = [step.key for step in durable.get_run("programs").steps]
    told = [durable_command("explain", "programs", key, "--json").data["verdict"] for key in keys]
    assert told == ["replayed", "refused: in doubt"]
