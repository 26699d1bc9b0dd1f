"""What type checkers see of decorated functions; checked, never executed."""

from __future__ import annotations

from typing import assert_type

import durable
from durable import Run, Workflow, task, workflow


@task
def bare(customer: str, cents: int = 1) -> bytes:
    return customer.encode() * cents


@task(attempts=5, key="{customer}")
def called(customer: str, *, cents: int) -> int:
    return cents


@task(idempotent=False)
async def awaited(customer: str) -> float:
    return float(len(customer))


@workflow
def flow(customer: str) -> list[int]:
    assert_type(bare(customer), bytes)
    assert_type(bare.with_options(attempts=2)(customer, cents=3), bytes)
    return [called(customer, cents=2)]


@workflow(run_id="order-{order}", after_success="rerun")
async def async_flow(order: int) -> str:
    assert_type(await awaited("x"), float)
    return str(order)


class Mailer:
    @task
    def send(self, to: str) -> bool:
        return bool(to)

    @task(name="send-later")
    async def send_later(self, to: str) -> bool:
        return bool(to)

    @workflow
    def campaign(self, to: list[str]) -> int:
        return sum(self.send(each) for each in to)


def submit(requests: dict[str, int]) -> bytes:
    return bytes(requests["a"])


def ended(batch_id: bytes) -> bool:
    return bool(batch_id)


def fetch(batch_id: bytes) -> list[tuple[str, float]]:
    return [(batch_id.decode(), 1.5)]


async def submit_async(requests: dict[str, int]) -> bytes:
    return bytes(requests["a"])


async def ended_async(batch_id: bytes) -> bool:
    return bool(batch_id)


async def fetch_async(batch_id: bytes) -> dict[str, float]:
    return {batch_id.decode(): 1.5}


def check() -> None:
    assert_type(bare("a", 2), bytes)
    assert_type(called("a", cents=1), int)
    assert_type(flow("a"), list[int])
    assert_type(flow.start("a"), Run)
    assert_type(flow.with_options(run_id="x", fresh=True)("a"), list[int])
    mailer = Mailer()
    assert_type(durable.batch({"a": 1}, submit, ended, fetch), dict[str, float])
    assert_type(mailer.send("a"), bool)
    assert_type(mailer.campaign(["a"]), int)
    assert_type(mailer.campaign.start(["a"]), Run)
    bare(1)  # type: ignore[arg-type]  # the parameters are checked
    bare()  # type: ignore[call-arg]  # none is forgotten
    mailer.send()  # type: ignore[call-arg]  # methods too
    task(attempt=3)  # type: ignore[call-overload]  # options are known


async def check_async() -> None:
    assert_type(await awaited("a"), float)
    assert_type(await async_flow(1), str)
    assert_type(await Mailer().send_later("a"), bool)
    assert_type(await durable.batch({"a": 1}, submit_async, ended_async, fetch_async), dict[str, float])


__all__ = ["Workflow", "async_flow", "check", "check_async"]
