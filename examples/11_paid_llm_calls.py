"""Answers of a language model that are paid for and come word by word: a killed program does not ask again.

With the SDKs of OpenAI and Anthropic no edit is needed: `durable.patch("openai")`, or `durable run --patch openai`.

Command:

    python examples/11_paid_llm_calls.py

Expected output:

    1. killed at the third question
       Why? is a fine question
       How? is a fine question
    2. the same program again: two answers come from the store, word by word, and one is asked for
       Why? is a fine question
       How? is a fine question
       When? is a fine question
       paid for: Why?, How?, When?
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import tenacity
from paid_api import PaidAPI

import durable
from durable import task, workflow


@tenacity.retry(wait=durable.wait_retry_after(max=60), retry=tenacity.retry_if_exception_message(match=".*429"))
def ask(prompt: str) -> contextlib.closing:
    request = urllib.request.Request(
        os.environ["PAID_API"] + "/v1/answers",
        data=json.dumps({"prompt": prompt, "stream": True}).encode(),
        headers={"Content-Type": "application/json"},
    )
    return contextlib.closing(urllib.request.urlopen(request))


@task
def answer(prompt: str) -> Iterator[str]:
    if prompt == os.environ.get("KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    with ask(prompt) as lines:
        for line in lines:
            yield line.decode().strip()


@workflow
def interview(questions: list[str]) -> None:
    for question in questions:
        print("   " + " ".join(answer(question)), flush=True)


def main() -> None:
    os.environ["DURABLE_DB"] = str(Path(tempfile.mkdtemp()) / "store.db")
    with PaidAPI(Path(tempfile.mkdtemp()) / "ledger") as api:
        command, environment = [sys.executable, __file__, "ask"], {**os.environ, "PAID_API": api.url}
        print("1. killed at the third question", flush=True)
        subprocess.run(command, env={**environment, "KILL_AT": "When?"}, stderr=subprocess.DEVNULL, check=False)
        print(
            "2. the same program again: two answers come from the store, word by word, and one is asked for", flush=True
        )
        subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=True)
        print("   paid for:", ", ".join(charge["prompt"] for charge in api.charges()))


if __name__ == "__main__":
    interview(["Why?", "How?", "When?"]) if "ask" in sys.argv else main()
