"""A program that hands secrets around in every way that there is, each of them one that can be told from all others."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import durable
from durable import task, workflow
from tests.crash.effects import did, is_first_start, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_arguments, _results = iter(range(500)), iter(range(500, 900))


def secret() -> str:
    """Make a secret that does not look like one; the same in each start of the program."""
    return f"canary{next(_arguments):03}!"


def fresh() -> str:
    """Make a secret in a body."""
    return f"canary{next(_results):03}!"


class RefusedError(Exception):
    """Says why, and what it was."""

    def __init__(self, message: str, detail: object = None) -> None:
        super().__init__(message, detail)
        self.detail = detail


class Client:
    """Holds credentials and counts by its type."""

    def __init__(self) -> None:
        self.api_key = secret()
        self.headers = {"Authorization": f"Bearer {secret()}", "X-Other": secret()}

    @task
    def get(self, path: str) -> int:
        return len(path)

    @task(undo=lambda _result, _client, _path: None)
    def put(self, path: str) -> int:
        return len(path)


@dataclass(frozen=True)
class Account:
    """Holds credentials and counts by its value."""

    user: str
    password: str

    @task
    def log_in(self) -> None: ...


@task(sensitive=True)
def quiet(first: str, *, second: Any = None) -> Any:
    return [first, {"second": second, "third": fresh()}]


@task(sensitive=True, key="{name}")
def keyed(name: str) -> str:
    durable.state["given"] = fresh()
    return "x" * 300_000 + name + fresh()


@task(sensitive=True)
async def quiet_async(first: str) -> bytes:
    return f"{first} {fresh()}".encode()


@task(sensitive=True)
def items(first: str) -> Iterator[str]:
    yield first
    yield fresh()


@task(sensitive=True)
async def items_async(first: str) -> AsyncIterator[str]:
    yield first
    yield fresh()


@task(sensitive=True, undo=lambda result, first: None)
def undoable(first: str) -> str:
    return fresh()


@task(sensitive=True, cache=True)
def cached(first: str) -> str:
    return fresh()


@task(sensitive=True, idempotent=False, attempts=2, no_effect_on=RefusedError)
def refused(first: str) -> None:
    error = RefusedError(f"{first} is wrong, not {fresh()}", {"detail": fresh()})
    error.add_note(fresh())
    raise error from ValueError(fresh())


@task(sensitive=True, cost=lambda result: result)
def unpriced(first: str) -> str:
    return fresh()


@task
def by_name(
    user: str, password: str, api_key: bytes, auth_token: str, headers: dict[str, str], *, authorization: str, pin: int
) -> str:
    return user


@task(key="{user}/{token}")
def by_key(user: str, token: str) -> str:
    return user


@task
def fetch(url: str, config: dict[str, Any], bearer: str = "") -> str:
    return url.partition(":")[0]


@task
def fails_with_it(access_token: str, headers: dict[str, str]) -> None:
    raise RefusedError(f"401: {access_token} was not accepted", detail=[access_token])


@task
def outer(name: str) -> int:
    quiet(f"canary9{len(name):02}!", second="canary900!")
    return len(name)


@workflow
def child(password: str, config: dict[str, str]) -> int:
    by_name("ada", password, fresh().encode(), fresh(), config, authorization=fresh(), pin=4711)
    keyed(fresh())
    return 1


@workflow
def child_fails(api_key: str) -> None:
    raise RefusedError(f"no account for {api_key}")


def calls(context: dict[str, str]) -> None:
    """Call everything, and survive what is raised."""
    assert durable.context() is context
    client = Client()
    for number in range(8):
        quiet(secret(), second={"deep": [secret(), secret().encode()]})
        keyed(secret())
        list(items(secret()))
        next(iter(items(secret())))
        undoable(secret())
        cached(secret())
        client.get(f"a{number}")
        client.put(f"b{number}")
        Account(f"ada{number}", secret()).log_in()
        headers = {"Authorization": secret(), "Cookie": secret()}
        by_name("ada", secret(), secret().encode(), secret(), headers, authorization=secret(), pin=1)
        by_key("ada", secret())
        fetch(f"https://{secret()}:{secret()}@host/?token={secret()}&q=1", {"api_key": secret()}, secret())
        outer(f"x{number}")
        durable.state["api_token"] = secret()
    for call in (
        lambda: refused(secret()),
        lambda: unpriced(secret()),
        lambda: fails_with_it(secret(), {"x": secret()}),
    ):
        try:
            call()
        except (RefusedError, durable.UnknownCostError, durable.StepInDoubtError):
            did("refused")
    child(secret(), {"api_key": secret()})
    try:
        child_fails(secret())
    except RefusedError:
        did("refused")


@workflow(run_id="main")
def main(password: str, config: dict[str, Any]) -> str:
    context = durable.context()
    calls(context)
    futures = [quiet.submit(secret()), *(quiet.map([secret() for _ in range(5)]).futures)]
    durable.wait(futures)
    saved("before the end")
    if is_first_start():
        raise RefusedError(f"{password} expired", detail=password)
    return "done"


@workflow(run_id="async")
async def main_async(token: str) -> None:
    await asyncio.gather(*(quiet_async(secret()) for _ in range(5)))
    async for _ in items_async(secret()):
        pass
    raise RefusedError(f"{token} expired")


def play() -> list[str]:
    """Execute it all, in a process that may be killed; gives how many secrets there were, and what the API shows."""
    logging.basicConfig(level=1, filename=os.environ["LOG"], force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("always")
    shown: list[str] = []
    context = {"secret": secret()}
    for call in (
        lambda: main.with_options(context=context)(secret(), {"nested": {"password": secret()}}),
        lambda: asyncio.run(_awaited(main_async(secret()))),
    ):
        try:
            call()
        except (RefusedError, durable.DurableError) as error:
            shown.append(type(error).__name__)
    durable.configure(None)
    for run in durable.list_runs():
        shown += [repr(run), run.message, run.graph(), run.graph("dot"), str(run.steps)]
        try:
            shown.append(json.dumps(run.snapshot()))
        except durable.ConfigurationError as error:
            shown.append(str(error))
    fork = durable.get_run("main").fork(from_=durable.get_run("main").steps[-3].key)
    shown += [repr(fork), str(fork.steps)]
    return [str(next(_arguments)), *shown]


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


if __name__ == "__main__":
    print("\n".join(play()), file=sys.stdout)
