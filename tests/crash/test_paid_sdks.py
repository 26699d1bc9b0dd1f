"""Programs that call paid services by their SDKs, patched and not edited, killed around every request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
import stripe

import durable
from durable import workflow
from durable.runs import sessions
from tests.crash.effects import did, reach
from tests.paid_services import WORDS, PaidServices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.scenes import Scene

RUN = "paid"
DAY = 24 * 3600
ASKED: Any = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[PaidServices]:
    with PaidServices(tmp_path / "api") as api:
        yield api


def answer() -> str:
    with openai.OpenAI(api_key="k", base_url=f"{os.environ['PAID_API']}/v1") as client:
        return client.chat.completions.create(**ASKED).choices[0].message.content or ""


def read() -> str:
    client = anthropic.Anthropic(api_key="k", base_url=os.environ["PAID_API"])
    with client, client.messages.stream(**ASKED) as events:
        words = []
        for text in events.text_stream:
            words.append(text.strip())
            if text.strip() == os.environ.get("KILL_WORD"):
                os.kill(os.getpid(), signal.SIGKILL)
        return " ".join(words)


async def read_async() -> str:
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{os.environ['PAID_API']}/v1") as client:
        chunks = await client.chat.completions.create(**ASKED, stream=True)
        return " ".join([(chunk.choices[0].delta.content or "").strip() async for chunk in chunks])


def pay() -> str:
    client = stripe.StripeClient("sk_test", base_addresses={"api": os.environ["PAID_API"]})
    return client.v1.payment_intents.create({"amount": 5, "currency": "eur"}).id


def start_program() -> int:
    note = "import os; f = open(os.environ['LEDGER'], 'a'); f.write('started\\n'); f.close()"
    return subprocess.run([sys.executable, "-c", note], check=True).returncode


@workflow(run_id=RUN)
def everything() -> list[Any]:
    found: list[Any] = []
    for call in (answer, read, pay, start_program):
        found.append(call())
        reach(call.__name__)
    return found


@workflow(run_id=RUN)
async def everything_async() -> str:
    words = await read_async()
    reach("read_async")
    return words


@workflow(run_id=RUN)
def payment() -> str:
    return pay()


def patched(program: str, late: float = 0, kill_in: str = "") -> Any:
    """Start a program as `durable run --patch` does, killed when a request has been answered."""
    durable.patch("openai", "anthropic", "stripe", "subprocess")
    begun = time.time()
    sessions.clock = lambda: begun + late
    if kill_in:
        module, _, name = kill_in.rpartition(".")
        holder = stripe._http_client.RequestsClient if module == "stripe" else subprocess
        original = getattr(holder, name)

        def answered(*args: Any, **kwargs: Any) -> Any:
            original(*args, **kwargs)
            did("answered")
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(holder, name, answered)
    programs: dict[str, Any] = {"everything": everything, "async": everything_async, "payment": payment}
    return programs.get(program, program_alone)()


@workflow(run_id=RUN)
def program_alone() -> int:
    return start_program()


def resolve(value: Any) -> None:
    [step] = durable.get_run(RUN).steps
    durable.get_run(RUN).resolve(step.key, durable.happened(value))


def charged(api: PaidServices) -> list[str]:
    return [charge["path"] for charge in api.charges()]


PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/payment_intents"]


@pytest.mark.parametrize("point", ["answer", "read", "pay", "start_program"])
def test_what_is_paid_for_is_not_asked_again(scene: Scene, api: PaidServices, point: str) -> None:
    """A program that is killed after any of its calls asks, pays and starts once, and gets what it got."""
    scene.kill(point, patched, "everything", PAID_API=api.url)
    assert scene.start(patched, "everything", PAID_API=api.url).value == [" ".join(WORDS)] * 2 + ["pi_3", 0]
    assert charged(api) == PATHS
    assert scene.ledger == ["started"]


def test_an_async_stream_is_not_asked_for_again(scene: Scene, api: PaidServices) -> None:
    """An async program that is killed after it has read a stream reads the recorded one."""
    scene.kill("read_async", patched, "async", PAID_API=api.url)
    assert scene.start(patched, "async", PAID_API=api.url).value == " ".join(WORDS)
    assert charged(api) == PATHS[:1]


def test_a_stream_that_was_cut_is_asked_for_again(scene: Scene, api: PaidServices) -> None:
    """A program that is killed in the middle of a stream asks again, and says so."""
    assert scene.is_killed(patched, "everything", PAID_API=api.url, KILL_WORD="upon")
    outcome = scene.start(patched, "everything", PAID_API=api.url)
    assert outcome.value == [" ".join(WORDS)] * 2 + ["pi_4", 0]
    assert charged(api) == [PATHS[0], PATHS[1], PATHS[1], PATHS[2]]
    assert [text for text in outcome.warnings if "anthropic.messages" in text and "executed again" in text]


def test_a_payment_is_sent_again_under_its_key(scene: Scene, api: PaidServices) -> None:
    """A payment whose answer never arrived is sent again under the same key within a day, and charged once."""
    assert scene.is_killed(patched, "payment", 0, "stripe.request", PAID_API=api.url)
    assert scene.start(patched, "payment", DAY - 60, PAID_API=api.url).value == "pi_1"
    assert charged(api) == PATHS[2:]
    assert api.requests == 2


def test_a_payment_whose_key_is_forgotten_is_in_doubt(scene: Scene, api: PaidServices) -> None:
    """After a day Stripe may have forgotten the key: the payment is in doubt, and the resolution is Stripe's own object."""
    assert scene.is_killed(patched, "payment", 0, "stripe.request", PAID_API=api.url)
    outcome = scene.start(patched, "payment", DAY + 60, PAID_API=api.url)
    assert outcome.error == "StepInDoubtError"
    assert "until the receiver forgot its idempotency key" in outcome.message
    scene.start(resolve, {"id": "pi_1", "object": "payment_intent"})
    assert scene.start(patched, "payment", DAY + 60, PAID_API=api.url).value == "pi_1"
    assert api.requests == 1


def test_a_program_that_may_have_been_started_is_in_doubt(scene: Scene, api: PaidServices) -> None:
    """A program is not started a second time on a guess."""
    assert scene.is_killed(patched, "program", 0, "subprocess.Popen", PAID_API=api.url)
    assert scene.start(patched, "program", PAID_API=api.url).error == "StepInDoubtError"
    scene.start(resolve, {"returncode": 0})
    assert scene.start(patched, "program", PAID_API=api.url).value == 0
