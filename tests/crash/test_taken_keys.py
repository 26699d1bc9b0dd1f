"""A call that takes the record of an equal one leaves it a key of its own, and records below a step are looked for as well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import durable
from durable import task, workflow
from tests.crash.effects import did, is_first_start, saved

if TYPE_CHECKING:
    from tests.crash.scenes import Scene


@task
async def token() -> str:
    did(durable.idempotency_key())
    return durable.idempotency_key()


@workflow(run_id="branches")
async def branches() -> list[str]:
    a_has_one = asyncio.Event()

    async def a() -> str:
        if is_first_start():
            await asyncio.Event().wait()
        found = await token()
        a_has_one.set()
        return found

    async def b() -> str:
        if not is_first_start():
            await a_has_one.wait()
        found = await token()
        saved("b has one")
        return found

    found = list(await asyncio.gather(a(), b()))
    saved("both have one")
    return found


def test_a_key_is_given_once(scene: Scene) -> None:
    """A branch takes what an equal call in another one recorded, before that makes its call: that has a key of its own then,
    so that no receiver takes the two for one, and both keep their results."""
    scene.kill("b has one", branches, START="first")
    scene.kill("both have one", branches)
    assert len(set(scene.ledger)) == len(scene.ledger) == 2
    assert scene.start(branches).value == scene.ledger
    assert len(scene.ledger) == 2


@task
def added() -> None:
    did("added")


@task(idempotent=False)
def pay(when: str) -> None:
    did(f"pay {when}")


@task
def outer() -> None:
    pay("first" if is_first_start() else "later")
    saved("paid")


@workflow(run_id="nested")
def nested() -> None:
    if not is_first_start():
        added()
    outer()


def test_other_inputs_below_a_step_are_found_behind_a_new_call(scene: Scene) -> None:
    """A payment below a step that was interrupted is refused with other inputs, also behind a call that is new."""
    scene.kill("paid", nested, START="first")
    assert scene.start(nested).error == "InputsChangedError"
    assert scene.ledger == ["pay first", "added"]
