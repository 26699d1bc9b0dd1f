"""Programs that act on what finishes first, with a ledger of everything that their tasks did.

Each function in `SHAPES` is the body of a run. It calls `work(name)`, whose names are unique within a run, and
`token(branch)`, a task without arguments that gives something new each time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from durable import task, workflow
from tests.crash.plays import Play
from tests.crash.steady_loops import SteadyLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

play: Play
is_paid = False


@task
async def job(name: str) -> str:
    play.begin(name, name)
    await play.pause()
    return name


@task
def sync_job(name: str) -> str:
    play.begin(name, name)
    play.point()
    return name


@task
async def give_token() -> str:
    value = play.token()
    play.begin("give_token", value)
    await play.pause()
    return value


_paid_job = job.with_options(idempotent=False, key="{name}")
_paid_sync_job = sync_job.with_options(idempotent=False, key="{name}")
_paid_token = give_token.with_options(idempotent=False, key="token")


async def work(name: str) -> str:
    await play.pause()
    value = await (_paid_job if is_paid else job)(name)
    assert value == name
    play.point()
    return value


def sync_work(name: str) -> str:
    value = (_paid_sync_job if is_paid else sync_job)(name)
    assert value == name
    return value


async def token(branch: str) -> None:
    value = await (_paid_token if is_paid else give_token)()
    play.write("ack", branch, value)
    play.point()


async def as_completed_loop() -> list[str]:
    """Call a further task for each result in the order of arrival."""
    stored = []

    async def chain(n: int) -> int:
        await work(f"fetch {n}")
        return n

    for arrived in asyncio.as_completed([chain(n) for n in range(6)]):
        stored.append(await work(f"store {await arrived}"))
    return sorted(stored)


async def first_completed_loop() -> list[str]:
    """Start what follows each result while the others are still under way."""
    found = []
    pending = {asyncio.create_task(work(f"0 {n}")) for n in range(4)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for finished in done:
            found.append(await finished)
            depth, n = finished.result().split()
            if depth != "2":
                pending.add(asyncio.create_task(work(f"{int(depth) + 1} {n}")))
    return sorted(found)


async def queue_of_work() -> list[str]:
    """Let producers and consumers share a queue; consumers are told apart by nothing."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(2)
    used = []

    async def produce(producer: int) -> None:
        for n in range(3):
            await queue.put(await work(f"make {producer}.{n}"))

    async def consume() -> None:
        while (item := await queue.get()) is not None:
            await play.pause()
            used.append(await work(item.replace("make", "use")))

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    await asyncio.gather(*(produce(n) for n in range(2)))
    for _ in consumers:
        await queue.put(None)
    await asyncio.gather(*consumers)
    return sorted(used)


async def _leaf(group: int, n: int) -> str:
    await token(f"{group}.{n}")
    value = await work(f"leaf {group}.{n}")
    sync_work(f"note {group}.{n}")
    await token(f"{group}.{n} again")
    return value


async def nested_groups() -> list[str]:
    """Nest task groups whose branches call the same tasks without arguments."""

    async def group(number: int) -> list[str]:
        async with asyncio.TaskGroup() as inner:
            leaves = [inner.create_task(_leaf(number, n)) for n in range(2)]
        await work(f"close {number}")
        return [leaf.result() for leaf in leaves]

    async with asyncio.TaskGroup() as outer:
        groups = [outer.create_task(group(number)) for number in range(2)]
    return sorted(value for each in groups for value in each.result())


async def anyio_groups() -> list[str]:
    """Use anyio's task groups and streams, whose children all run one wrapper coroutine."""
    done: list[str] = []
    send, receive = anyio.create_memory_object_stream[str](1)

    async def group(number: int) -> None:
        async with anyio.create_task_group() as inner:
            for n in range(2):
                inner.start_soon(pass_on, number, n)

    async def pass_on(number: int, n: int) -> None:
        await send.send(await _leaf(number, n))

    async def collect() -> None:
        async with receive:
            async for value in receive:
                done.append(await work(value.replace("leaf", "collect")))

    async with anyio.create_task_group() as outer:
        outer.start_soon(collect)
        async with send, anyio.create_task_group() as groups:
            for number in range(2):
                groups.start_soon(group, number)
    return sorted(done)


class _Client:
    """What HTTP clients do: a limited pool, waiters, shielded connects, time-outs and helper tasks of their own."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(2)
        self._helpers: set[asyncio.Task[Any]] = set()

    async def request(self, name: str) -> str:
        async with self._slots:
            await asyncio.shield(self._help(asyncio.sleep(0)))
            async with asyncio.timeout(5):
                return await asyncio.wait_for(self._exchange(name), 5)

    async def _exchange(self, name: str) -> str:
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._help(self._read(name, answered))
        return await answered

    async def _read(self, name: str, answered: asyncio.Future[str]) -> None:
        try:
            answered.set_result(await work(name))
        except BaseException as error:
            if not answered.done():
                answered.set_exception(error)
            raise

    def _help(self, coroutine: Any) -> asyncio.Task[Any]:
        helper: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coroutine)
        self._helpers.add(helper)
        helper.add_done_callback(self._forget)
        return helper

    def _forget(self, helper: asyncio.Task[Any]) -> None:
        self._helpers.discard(helper)
        if not helper.cancelled():
            helper.exception()


async def client_with_helpers() -> list[str]:
    """Call tasks from tasks that a library made."""
    client = _Client()

    async def crawl(page: int) -> str:
        await client.request(f"page {page}")
        return await client.request(f"image {page}")

    return sorted(await asyncio.gather(*(crawl(page) for page in range(4))))


async def set_of_branches() -> list[str]:
    """Start branches in the order of a set, which depends on memory addresses."""
    branches = {_leaf(0, n) for n in range(5)}
    return sorted(await asyncio.gather(*branches))


async def ranking() -> list[str]:
    """Make what is called depend on the order of arrival."""
    ranks = []
    for rank, arrived in enumerate(asyncio.as_completed([work(f"run {n}") for n in range(5)])):
        ranks.append(await work(f"rank {rank} {await arrived}"))
    return sorted(name.split()[1] for name in ranks)


SHAPES: dict[str, Callable[[], Awaitable[list[str]]]] = {
    shape.__name__: shape
    for shape in (
        as_completed_loop,
        first_completed_loop,
        queue_of_work,
        nested_groups,
        anyio_groups,
        client_with_helpers,
        set_of_branches,
        ranking,
    )
}
POINTS = {  # where an undisturbed execution can be killed
    "as_completed_loop": 72,
    "first_completed_loop": 72,
    "queue_of_work": 72,
    "nested_groups": 58,
    "anyio_groups": 68,
    "client_with_helpers": 40,
    "set_of_branches": 60,
    "ranking": 50,
}


@workflow(run_id="{shape}-{is_paid}-{seed}")
async def program(shape: str, is_paid: bool, seed: int) -> list[str]:
    return await SHAPES[shape]()


@dataclass(frozen=True)
class Stage:
    """Where a run is played."""

    folder: str
    shape: str
    is_paid: bool
    seed: int
    is_steady: bool = False

    @property
    def run_id(self) -> str:
        return f"{self.shape}-{self.is_paid}-{self.seed}"

    @property
    def ledger(self) -> str:
        return f"{self.folder}/{self.run_id}.ledger"


def perform(stages: list[Stage], number: int, kill_at: int) -> list[Any]:
    """Call the workflow until it succeeds or this process is killed, for each of the runs."""
    return [_perform(stage, number, kill_at) for stage in stages]


def _perform(stage: Stage, number: int, kill_at: int) -> Any:
    global play, is_paid
    play, is_paid = Play(stage.ledger, f"{stage.seed}:{number}", kill_at), stage.is_paid
    return play.perform(
        f"{stage.folder}/durable.db",
        stage.run_id,
        lambda: _run(stage),
    )


def _run(stage: Stage) -> list[str]:
    with asyncio.Runner(loop_factory=SteadyLoop if stage.is_steady else None) as runner:
        return runner.run(program(stage.shape, stage.is_paid, stage.seed))


def is_unique(name: str) -> bool:
    """Whether a name stands for one call in the run."""
    return name != "give_token"
