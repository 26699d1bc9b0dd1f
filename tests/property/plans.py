"""Workflows made from a generated plan: what they do is data, so that two processes do the same.

A plan is a tree of tuples. Every task's result follows from its arguments, so a run has one right outcome; only
`token` gives something new each time, which the ledger keeps an eye on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tenacity

import durable
from durable import task, workflow
from tests.crash.plays import Play

if TYPE_CHECKING:
    from collections.abc import Coroutine

Plan = tuple[Any, ...]

play: Play
_thrice = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none(), reraise=True)


@task
async def job(letter: str) -> str:
    play.begin(f"job {letter}", letter)
    await play.pause()
    return letter


@task
def sync_job(letter: str) -> str:
    play.begin(f"sync_job {letter}", letter)
    play.point()
    return letter


@task
async def token() -> str:
    value = play.token()
    play.begin("token", value)
    await play.pause()
    return value


@task
def sync_token() -> str:
    value = play.token()
    play.begin("token", value)
    return value


@task(idempotent=False, key="{place}")
async def pay(place: str) -> str:
    play.begin(f"pay {place}", place)
    await play.pause()
    return place


@task(idempotent=False, key="{place}")
def sync_pay(place: str) -> str:
    play.begin(f"pay {place}", place)
    return place


@task
async def fail(letter: str) -> str:
    play.begin(f"fail {letter}", letter)
    await play.pause()
    raise ValueError(letter)


@task
def sync_fail(letter: str) -> str:
    play.begin(f"fail {letter}", letter)
    raise ValueError(letter)


@task(retry=_thrice)
async def try_often(letter: str, failures: int) -> str:
    play.begin(f"try_often {letter}", letter)
    await play.pause()
    if durable.current().attempt <= failures:
        raise ValueError(letter)
    return letter


@task(retry=_thrice)
def sync_try_often(letter: str, failures: int) -> str:
    play.begin(f"try_often {letter}", letter)
    if durable.current().attempt <= failures:
        raise ValueError(letter)
    return letter


@task
async def outer(plan: Plan, place: str) -> Any:
    return await follow(plan, place, is_async=True)


@task
def sync_outer(plan: Plan, place: str) -> Any:
    return run_through(follow(plan, place, is_async=False))


def run_through(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Take a coroutine that awaits nothing to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a sync plan does not wait")


async def follow(plan: Plan, place: str, *, is_async: bool) -> Any:
    """Do what a plan says; `place` tells this part of it from all others."""
    kind, *parts = plan
    if is_async and kind != "seq":
        await play.pause()
    match kind:
        case "job":
            return await job(*parts) if is_async else sync_job(*parts)
        case "sync":
            return sync_job(*parts)
        case "token":
            value = await token() if is_async else sync_token()
            play.write("ack", place, value)
            return "token"
        case "pay":
            return await pay(place) if is_async else sync_pay(place)
        case "fail":
            return await fail(*parts) if is_async else sync_fail(*parts)
        case "attempts":
            return await try_often(*parts) if is_async else sync_try_often(*parts)
        case "outer":
            return await outer(parts[0], place) if is_async else sync_outer(parts[0], place)
        case "caught":
            try:
                return await follow(parts[0], f"{place}.try", is_async=is_async)
            except ValueError as error:
                return str(error), await follow(parts[1], f"{place}.except", is_async=is_async)
        case "branch":
            chosen = await job(parts[0]) if is_async else sync_job(parts[0])
            return await follow(parts[1 if chosen < "b" else 2], f"{place}.{chosen}", is_async=is_async)
        case "loop":
            return [await follow(parts[1], f"{place}.{n}", is_async=is_async) for n in range(parts[0])]
        case "scope":
            with durable.scope(parts[0]):
                return await follow(parts[1], place, is_async=is_async)
        case "seq":
            return [await follow(part, f"{place}.{n}", is_async=is_async) for n, part in enumerate(parts)]
        case "gather" if is_async:
            branches = [follow(part, f"{place}.{n}", is_async=True) for n, part in enumerate(parts)]
            outcomes = await asyncio.gather(*branches, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            return outcomes
        case "gather":
            return [await follow(part, f"{place}.{n}", is_async=False) for n, part in enumerate(parts)]
    raise AssertionError(plan)


@workflow(run_id="{name}")
async def async_program(plan: Plan, name: str) -> Any:
    return await follow(plan, "at", is_async=True)


@workflow(run_id="{name}")
def sync_program(plan: Plan, name: str) -> Any:
    return run_through(follow(plan, "at", is_async=False))


@dataclass(frozen=True)
class Stage:
    """Where a plan is followed."""

    folder: str
    name: str
    plan: Plan
    is_async: bool

    @property
    def ledger(self) -> str:
        return f"{self.folder}/{self.name}.ledger"


def perform(stage: Stage, number: int, kill_at: int) -> Any:
    """Follow the plan to its end and give the outcome, unless this process is killed."""
    global play
    play = Play(stage.ledger, f"{stage.name}:{number}", kill_at)

    def call() -> Any:
        try:
            if stage.is_async:
                return asyncio.run(async_program(stage.plan, stage.name))
            return sync_program(stage.plan, stage.name)
        except ValueError as error:
            if isinstance(error, durable.DurableError):
                raise
            return "raised", str(error)

    return play.perform(f"{stage.folder}/durable.db", stage.name, call)
