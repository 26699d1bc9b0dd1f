"""Submitted tasks: dependencies, limits, priorities, failures and their order, sync and async."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from tests.patience import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

executed: list[Any] = []
broken: set[Any] = set()
gate = threading.Event()
both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed or broken yet."""
    executed.clear()
    broken.clear()
    gate.clear()


class Peak:
    """How many bodies are under execution at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.highest = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.highest = max(self.highest, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


def _do(name: Any) -> Any:
    executed.append(name)
    if name in broken:
        raise ValueError(name)
    return name


@task
def work(name: Any) -> Any:
    return _do(name)


@task
async def async_work(name: Any) -> Any:
    await asyncio.sleep(0)
    return _do(name)


@task
def join(*parts: Any) -> str:
    executed.append("join")
    return "".join(map(str, parts))


@task
def total(numbers: list[int]) -> int:
    executed.append("total")
    return sum(numbers)


@task
def wait_for_gate(name: str) -> str:
    executed.append(name)
    assert gate.wait(LIMIT)
    return name


@workflow
def diamond() -> str:
    a = work.submit("a")
    b, c = join.submit(a, "b"), join.submit(a, "c")
    return join.submit(b, c).result()


@workflow
async def async_diamond() -> str:
    a = async_work.submit("a")
    b, c = join.submit(a, "b"), join.submit(a, "c")
    return await join.submit(b, c)


@both_kinds
def test_results_of_dependencies_are_passed(is_async: bool) -> None:
    """Futures among the arguments are dependencies whose results are passed; the finished run is not executed again."""
    for _ in range(2):
        assert (asyncio.run(async_diamond()) if is_async else diamond()) == "abac"
    assert executed == ["a", "join", "join", "join"]


def test_futures_in_containers_are_dependencies() -> None:
    """Futures inside lists, tuples and dicts are replaced by their results."""

    @workflow
    def fan_in() -> tuple[int, str]:
        parts = [work.submit(number) for number in (1, 2, 3)]
        return total.submit(parts).result(), join.submit({"x": (parts[0], 5)}).result()

    assert fan_in() == (6, "{'x': (1, 5)}")


@both_kinds
def test_a_failed_dependency_skips_its_dependants(is_async: bool) -> None:
    """What depends on a failure is skipped and not called, its error names the culprit; independent branches go on, and a
    resume executes what failed and what was skipped, and nothing else."""

    async def follow(a: Any) -> list[Any]:
        one = async_work.submit("one") if is_async else work.submit("one")
        two, three = join.submit(one, "two"), None
        three = join.submit(two, "three")
        other = work.submit("other")
        return [await future for future in (other, three)] if a else [other.result(), three.result()]

    @workflow(run_id="graph")
    def graph() -> Any:
        return _through(follow(False))

    @workflow(run_id="graph")
    async def async_graph() -> list[Any]:
        return await follow(True)

    def call() -> Any:
        return asyncio.run(async_graph()) if is_async else graph()

    broken.add("one")
    with pytest.raises(durable.UpstreamFailedError, match=r"work:\w+', which failed with ValueError: one") as raised:
        call()
    assert raised.value.step_key.startswith("join:")
    assert raised.value.culprit.partition(":")[0].endswith("work")
    assert isinstance(raised.value.__cause__, ValueError)
    [run] = durable.list_runs()
    assert [step.status for step in run.steps if step.name.endswith("join")] == ["skipped", "skipped"]
    assert sorted(executed) == ["one", "other"]
    broken.clear()
    executed.clear()
    assert call() == ["other", "onetwothree"]
    assert executed == ["one", "join", "join"]
    assert {step.status for step in durable.get_run("graph").steps} == {"succeeded"}


def _through(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it does not wait")


def test_a_failure_that_the_code_looked_at_is_no_failure_of_the_run() -> None:
    """Continue on error: after `exception()` the run goes on, and its end is a success."""

    @workflow
    def tolerant() -> list[Any]:
        futures = [work.submit(name) for name in "abc"]
        return [future.result() for future in futures if future.exception() is None]

    broken.add("b")
    assert tolerant() == ["a", "c"]
    assert sorted(executed) == ["a", "b", "c"]


@both_kinds
def test_a_failure_that_nobody_looked_at_fails_the_run(is_async: bool) -> None:
    """What was never awaited is waited for at the end; its failures end the run as a group and are tried again."""

    @workflow(run_id="forgotten")
    def forgotten() -> str:
        for name in "abc":
            work.submit(name)
        return "ended"

    @workflow(run_id="forgotten")
    async def async_forgotten() -> str:
        for name in "abc":
            async_work.submit(name)
        return "ended"

    broken.update("ab")
    for _ in range(2):
        with pytest.raises(ExceptionGroup, match="nobody asked for their results: (async_)?work:") as raised:
            asyncio.run(async_forgotten()) if is_async else forgotten()
        assert sorted(str(error) for error in raised.value.exceptions) == ["a", "b"]
    broken.clear()
    assert (asyncio.run(async_forgotten()) if is_async else forgotten()) == "ended"
    assert sorted(executed) == ["a", "a", "a", "b", "b", "b", "c"]


def test_a_failure_below_a_step_fails_the_step() -> None:
    """What a task submits and does not look at is waited for at its end, and fails it."""

    @task
    def outer() -> str:
        work.submit("inner")
        return "outer"

    @workflow
    def program() -> str:
        return outer()

    broken.add("inner")
    with pytest.raises(ExceptionGroup):
        program()
    broken.clear()
    assert program() == "outer"
    assert executed == ["inner", "inner"]


@both_kinds
def test_a_clean_up_runs_always(is_async: bool) -> None:
    """`when="always"` is executed after its dependencies whether they succeeded, failed or were skipped."""
    clean_up = work.with_options(replay=False)

    @workflow(run_id="always")
    async def program() -> Any:
        vm = work.submit("vm")
        job = join.submit(work.submit("job"), vm)
        removed = clean_up.with_options(after=[job], when="always").submit("clean-up")
        if is_async:
            await removed
            return await job
        assert removed.result() == "clean-up"
        return job.result()

    @workflow(run_id="always")
    def sync_program() -> Any:
        return _through(program.__wrapped__())

    broken.add("job")
    with pytest.raises(durable.UpstreamFailedError):
        asyncio.run(program()) if is_async else sync_program()
    assert executed[-1] == "clean-up"
    broken.clear()
    assert (asyncio.run(program()) if is_async else sync_program()) == "jobvm"
    assert executed[-2:] == ["join", "clean-up"]
    assert executed.count("vm") == 1


@both_kinds
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_at_once_than_the_limit(is_async: bool, limit: int) -> None:
    """At most `concurrency` items of a map are under execution at once, and results come in the order of the items."""
    peak = Peak()

    @task
    def item(number: int) -> int:
        with peak:
            threading.Event().wait(0.001)
        return number

    @task
    async def async_item(number: int) -> int:
        with peak:
            await asyncio.sleep(0.001)
        return number

    @workflow
    def program() -> list[int]:
        return list(item.map(range(20), concurrency=limit))

    @workflow
    async def async_program() -> list[int]:
        return await async_item.map(range(20), concurrency=limit)

    assert (asyncio.run(async_program()) if is_async else program()) == list(range(20))
    assert peak.highest <= limit


def test_as_many_at_once_as_allowed() -> None:
    """Bodies that wait for each other meet: two places are two bodies at once."""
    barrier = threading.Barrier(2)

    @task
    def meet(number: int) -> int:
        barrier.wait(LIMIT)
        return number

    @workflow(max_workers=3)
    def program() -> list[int]:
        return list(meet.map(range(6), concurrency=2))

    assert program() == list(range(6))


@both_kinds
def test_priorities_decide_who_is_next(is_async: bool) -> None:
    """Of the tasks that wait for the only place the largest priority is next, and equal ones go first-in first-out."""
    priorities = {"low": 0, "high": 10, "middle": 5, "also high": 10, "also low": 0}

    @task
    def hold() -> None:
        assert gate.wait(LIMIT)

    @workflow(max_workers=1)
    def program() -> None:
        hold.submit()
        for name, priority in priorities.items():
            work.with_options(priority=priority).submit(name)
        gate.set()

    @workflow(max_workers=1)
    async def async_program() -> None:
        for name, priority in priorities.items():
            async_work.with_options(priority=priority).submit(name)

    asyncio.run(async_program()) if is_async else program()
    assert executed == ["high", "also high", "middle", "low", "also low"]


@both_kinds
def test_bodies_that_wait_for_bodies_do_not_block_each_other(is_async: bool) -> None:
    """Tasks that submit tasks and wait for them need no more places than there are."""

    @task
    def tree(depth: int) -> int:
        return sum(tree.map([depth - 1] * 2)) if depth else 1

    @task
    async def async_tree(depth: int) -> int:
        return sum(await async_tree.map([depth - 1] * 2)) if depth else 1

    @workflow(max_workers=1)
    def program() -> int:
        return tree.submit(3).result()

    @workflow(max_workers=1)
    async def async_program() -> int:
        return await async_tree.submit(3)

    assert (asyncio.run(async_program()) if is_async else program()) == 8


@both_kinds
def test_completion_order_is_replayed(is_async: bool) -> None:
    """`as_completed`, `wait` and an unordered map give a resumed run the order that the first execution saw."""
    events = {name: threading.Event() for name in "abcde"}
    seen: list[list[str]] = []

    @task
    def after(name: str, other: str) -> str:
        assert not other or events[other].wait(LIMIT)
        executed.append(name)
        return name

    @task
    async def async_after(name: str, other: str) -> str:
        while other and not events[other].is_set():
            await asyncio.sleep(0)
        executed.append(name)
        return name

    order = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "")]

    @workflow(run_id="order")
    def program() -> None:
        futures = [after.submit(*pair) for pair in order]
        seen.append([])
        for future in durable.as_completed(futures):
            seen[-1].append(future.result())
            events[future.result()].set()
        first = durable.wait(futures, return_when="FIRST_COMPLETED")
        seen[-1] += [future.result() for future in first.done]
        assert len(first.not_done) == 4
        seen[-1] += list(after.map("ab", ["", ""], ordered=False))
        work("end")

    @workflow(run_id="order")
    async def async_program() -> None:
        futures = [async_after.submit(*pair) for pair in order]
        seen.append([])
        async for future in durable.as_completed(futures):
            seen[-1].append(future.result())
            events[future.result()].set()
        first = await durable.wait_async(futures, return_when="FIRST_COMPLETED")
        seen[-1] += [future.result() for future in first.done]
        seen[-1] += [each async for each in async_after.map("ab", ["", ""], ordered=False)]
        work("end")

    broken.add("end")
    for _ in range(2):
        with pytest.raises(ValueError, match="end"):
            asyncio.run(async_program()) if is_async else program()
    broken.clear()
    asyncio.run(async_program()) if is_async else program()
    assert seen[0][:6] == ["e", "d", "c", "b", "a", "e"]
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


def test_what_was_executed_out_of_order_is_no_drift() -> None:
    """Records in another order than that of the submissions, as priorities make them, are found on resume: nothing that
    is not idempotent is taken for a call whose inputs changed."""

    @task(idempotent=False)
    def pay(cents: int) -> int:
        executed.append(cents)
        return cents

    @workflow(max_workers=1)
    def program() -> int:
        held = wait_for_gate.with_options(priority=100).submit("held")
        futures = [pay.with_options(priority=cents).submit(cents) for cents in range(6)]
        stop = work.with_options(priority=2.5).submit("stop")
        gate.set()
        assert (held.result(), stop.result()) == ("held", "stop")
        if broken:
            [run] = durable.list_runs()
            run.cancel()
        return sum(future.result() for future in futures)

    broken.add("run")
    with pytest.raises(durable.RunCancelledError):
        program()
    assert executed[:5] == ["held", 5, 4, 3, "stop"]
    broken.clear()
    assert program() == 15
    assert sorted(map(str, executed)) == ["0", "1", "2", "3", "4", "5", "held", "stop"]


def test_wait_for_the_first_failure() -> None:
    """`wait(return_when="FIRST_EXCEPTION")` gives what completed up to the first failure, that one included."""

    @workflow
    def program() -> tuple[list[str], int]:
        a = work.submit("a")
        b = work.with_options(after=[a]).submit("b")
        c = work.with_options(after=[b], when="always").submit("c")
        done, left = durable.wait([c, b, a], return_when="FIRST_EXCEPTION")
        return [str(future.exception() or future.result()) for future in done], len(left)

    broken.add("b")
    assert program() == (["a", "b"], 1)


def test_a_dependant_follows_a_dependency_that_gave_something_else() -> None:
    """A dependency that is executed again and gives another result has what depends on it executed again."""
    numbers = iter(range(10))

    @task(replay=False)
    def fresh() -> int:
        return next(numbers)

    @workflow
    def program() -> Any:
        return join.submit(fresh.submit(), work.submit("x")).result() + work("y")

    broken.add("y")
    with pytest.raises(ValueError, match="y"):
        program()
    broken.clear()
    with pytest.warns(durable.DurableWarning, match="other results of the tasks that it depends on"):
        assert program() == "1xy"


def test_shared_results_are_shared_by_value() -> None:
    """`cache=True` shares by what the dependencies gave, not by which step gave it."""

    @task(cache=True)
    def double(number: int) -> int:
        executed.append("double")
        return 2 * number

    @workflow
    def program(number: int) -> int:
        return double.submit(work.submit(number)).result()

    @workflow(version=2)
    def again(number: int) -> int:
        return double.submit(work.submit(number)).result()

    assert [program(1), program(2), again(2), again(1)] == [2, 4, 4, 2]
    assert executed.count("double") == 2


def test_a_timeout_is_a_failure_and_is_executed_again() -> None:
    """A submitted task that exceeds its timeout fails; a resume executes it again."""

    @task(timeout=0.05)
    def slow() -> str:
        executed.append("slow")
        assert gate.wait(LIMIT)
        return "done"

    @workflow
    def program() -> str:
        future = (slow.with_options(timeout=LIMIT) if gate.is_set() else slow).submit()
        try:
            return future.result()
        finally:
            gate.set()

    with pytest.raises(TimeoutError):
        program()
    assert program() == "done"
    assert executed == ["slow", "slow"]


def test_a_run_that_failed_ends_only_when_all_bodies_have_ended() -> None:
    """What was submitted is executed to its end although the workflow has failed by then; a resume executes nothing of
    it again."""
    openers: list[threading.Timer] = []

    @workflow
    def program() -> None:
        work.with_options(after=[wait_for_gate.submit("held")]).submit("after")
        openers.append(threading.Timer(0.02, gate.set))
        openers[-1].start()
        work("direct")

    broken.add("direct")
    with pytest.raises(ValueError, match="direct"):
        program()
    assert "after" in executed
    broken.clear()
    executed.clear()
    program()
    assert executed == ["direct"]
    for opener in openers:  # else it opens the gate of the next test
        opener.join()


def test_cancelling_gives_up_what_has_not_begun() -> None:
    """A cancelled run executes nothing more of its queue; a resume executes all of that."""

    @workflow(max_workers=1)
    def program() -> list[str]:
        work("first")
        held = wait_for_gate.submit("held")
        futures = [work.submit(name) for name in waiting]
        [run] = durable.list_runs(status="running")
        run.cancel()
        gate.set()
        return [future.result() for future in (held, *futures)]

    waiting = {"given up", "given up, too", "given up as well"}
    with pytest.raises(durable.RunCancelledError):
        program()
    assert not waiting & set(executed)
    [run] = durable.list_runs()
    assert run.status == "cancelled"
    assert not [step for step in run.steps if step.status == "skipped"]


def test_run_context_and_context_variables_reach_the_threads() -> None:
    """A submitted body sees the run, its own step and the context variables of the code that submitted it."""
    variable = contextvars.ContextVar("variable", default="unset")

    @task
    def look() -> tuple[str, bool, str]:
        here = durable.current()
        return here.run_id, here.step_key.startswith("test_run"), variable.get()

    @workflow(run_id="context")
    def program() -> tuple[str, bool, str]:
        variable.set("set")
        return look.submit().result()

    assert program() == ("context", True, "set")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_bodies_do_not_see_each_others_context_variables(is_async: bool) -> None:
    """What one item of a map sets in its context is not seen by the next, which sees that of the code that submitted it."""
    variable = contextvars.ContextVar("variable", default="unset")

    @task
    def look(item: int) -> str:
        seen = variable.get()
        variable.set(f"set by {item}")
        return seen

    @task
    async def look_async(item: int) -> str:
        seen = variable.get()
        variable.set(f"set by {item}")
        return seen

    @workflow
    def program() -> list[str]:
        variable.set("submitted")
        return list(look.map(range(5), concurrency=1))

    @workflow
    async def async_program() -> list[str]:
        variable.set("submitted")
        return await look_async.map(range(5), concurrency=1)

    assert (asyncio.run(async_program()) if is_async else program()) == ["submitted"] * 5


def test_identical_calls_are_two_steps() -> None:
    """Two deliberate identical submissions are two steps, in the order of their submission."""

    @workflow
    def program() -> list[str]:
        futures = [work.submit("same"), work.submit("same")]
        return [future.step_key for future in futures]

    first, second = program()
    assert second == f"{first}~2"
    assert executed == ["same", "same"]


def test_methods_are_submitted_with_their_object() -> None:
    """A task that is a method can be submitted and mapped."""

    class Shop:
        @task
        def price(self, item: str, factor: int = 2) -> str:
            return item * factor

    @workflow
    def program() -> list[str]:
        shop = Shop()
        return [shop.price.submit("a").result(), *shop.price.map("bc", [1, 3])]

    assert program() == ["aa", "b", "ccc"]


def test_an_async_task_of_a_sync_workflow() -> None:
    """A sync workflow may submit async tasks: each runs in a thread of the run with a loop of its own."""

    @workflow
    def program() -> list[str]:
        return [async_work.submit("a").result(), *async_work.map("bc")]

    assert program() == ["a", "b", "c"]


def test_waiting_for_oneself_is_an_error() -> None:
    """A body that waits for its own future, or a loop's thread that blocks for an async task, is told so."""
    own: list[Any] = []

    @task
    def narcissus() -> None:
        assert gate.wait(LIMIT)
        own[0].result()

    @workflow
    def program() -> None:
        own.append(narcissus.submit())
        gate.set()
        own[0].result()

    @workflow
    async def async_program() -> None:
        async_work.submit("a").result()

    with pytest.raises(durable.WouldDeadlockError, match="waited for by itself"):
        program()
    with pytest.raises(durable.WouldDeadlockError, match="await the future"):
        asyncio.run(async_program())


def test_a_wait_with_a_limit() -> None:
    """`result(timeout)` gives up waiting, and the task goes on."""

    @workflow
    def program() -> str:
        future = wait_for_gate.submit("held")
        with pytest.raises(TimeoutError, match="did not end within 0.01 s"):
            future.result(0.01)
        gate.set()
        return future.result()

    assert program() == "held"


def test_doubt_in_a_submitted_task_ends_the_run() -> None:
    """A submitted step that is not idempotent and failed is in doubt when the run is resumed: it is not executed again,
    and what depends on it is not recorded as skipped."""

    @task(idempotent=False)
    def pay(cents: int) -> int:
        executed.append("pay")
        raise TimeoutError

    @workflow
    def program() -> None:
        receipt = pay.submit(5)
        join.submit(receipt).result()

    with pytest.raises(durable.UpstreamFailedError):
        program()
    for _ in range(2):
        with pytest.raises(durable.StepInDoubtError):
            program()
    assert executed == ["pay"]
    [run] = durable.list_runs()
    run.resolve(run.steps[0].key, durable.happened(7))
    program()
    assert executed == ["pay", "join"]


def test_a_split_run_is_pending_with_exactly_the_rest() -> None:
    """A fan-out of three that is stopped after the first leaves exactly two to be executed."""

    @workflow(max_workers=1)
    def program() -> list[Any]:
        return list(work.map([1, 2, 3], concurrency=1))

    broken.add(2)
    with pytest.raises(ValueError, match="2"):
        program()
    broken.clear()
    executed.clear()
    assert program() == [1, 2, 3]
    assert executed == [2]


@task
def items_of(count: int) -> Iterator[int]:
    executed.append(count)
    yield from range(count)


def _submit_wrong(kind: str) -> None:
    other: list[Any] = []

    @workflow(run_id="other")
    def other_run() -> None:
        other.append(work.submit("other"))

    other_run()
    executed.clear()

    @workflow
    def program() -> None:
        match kind:
            case "foreign argument":
                work.submit(other[0])
            case "foreign after":
                work.with_options(after=other).submit(1)
            case "after":
                work.with_options(after=[5])  # type: ignore[list-item]  # the mistake under test
            case "when":
                work.with_options(when="sometimes")  # type: ignore[arg-type]  # as above
            case "priority":
                work.with_options(priority="high")  # type: ignore[arg-type]  # as above
            case "concurrency":
                work.map([1, 2], concurrency=-1)
            case "no iterable":
                work.map()
            case "plain call":
                work.with_options(priority=1)(5)
            case "return_when":
                durable.wait([], return_when="SOME")  # type: ignore[arg-type]  # what is wrong is what is tested
            case "no future":
                durable.as_completed([1])  # type: ignore[arg-type]  # as above
            case "generator":
                items_of.submit(1)
            case "mapped generator":
                items_of.map([1])

    program()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("foreign argument", durable.ConfigurationError),
        ("foreign after", durable.ConfigurationError),
        ("after", durable.DefinitionError),
        ("when", durable.DefinitionError),
        ("priority", durable.DefinitionError),
        ("concurrency", durable.ConfigurationError),
        ("no iterable", durable.ConfigurationError),
        ("plain call", durable.ConfigurationError),
        ("return_when", durable.ConfigurationError),
        ("no future", durable.ConfigurationError),
        ("generator", durable.ConfigurationError),
        ("mapped generator", durable.ConfigurationError),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: str, error: type[Exception]) -> None:
    """Wrong dependencies, options and limits are typed errors before anything is executed."""
    with pytest.raises(error):
        _submit_wrong(kind)
    assert executed == []


@task
def hands_on() -> Any:
    return {"later": work.submit(1)}


def test_futures_where_results_are_meant() -> None:
    """A future in a plain call, in a result or in the state is an error that says what to pass in its place."""

    @workflow(run_id="{kind}")
    def misuses(kind: str) -> Any:
        future = work.submit(kind)
        match kind:
            case "plain":
                work([future])
            case "state":
                durable.state["later"] = [future]
            case "result":
                hands_on()

    for kind, place in (("plain", r"name\[0\]"), ("state", r"value\[0\]"), ("result", r"result\['later'\]")):
        with pytest.raises(durable.DurableError, match=rf"{place} is .*ass future.result\(\)") as raised:
            misuses(kind)
        assert "_submission" not in str(raised.value)


def test_an_argument_without_a_value_is_refused_before_any_item() -> None:
    """All calls of a map are checked before the first is executed; a future has no value in a plain call."""

    class Opaque:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("no value")

    @workflow
    def items() -> None:
        work.map([1, 2, Opaque()], concurrency=1)

    @workflow
    def plain() -> None:
        future = wait_for_gate.submit("held")
        try:
            join(future)
        finally:
            gate.set()

    with pytest.raises(durable.FingerprintError):
        items()
    assert executed == []
    with pytest.raises(durable.FingerprintError, match="future of a submitted task"):
        plain()
    assert executed == ["held"]


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"max_workers": "2"}, {"executor": "gpu"}, {"executor": 5}])
def test_wrong_options_of_a_workflow(options: dict[str, Any]) -> None:
    """A workflow needs at least one worker, and an executor that is one."""
    with pytest.raises(durable.DefinitionError):
        workflow(**options)(lambda: None)


def test_outside_a_run_nothing_is_submitted() -> None:
    """`submit` and `map` outside a run are errors that say where to call them, and nothing is executed."""
    with pytest.raises(durable.OutsideRunError, match=r"submit\(...\) was called outside a run"):
        work.submit(1)
    with pytest.raises(durable.OutsideRunError, match=r"map\(...\) was called outside a run"):
        work.map([1])
    assert executed == []


def test_a_task_called_in_a_foreign_thread_warns() -> None:
    """A thread that the library did not start carries no run context: a task called there says so."""

    @task
    def stray() -> str:
        return "stray"

    @workflow
    def program() -> None:
        thread = threading.Thread(target=stray)
        thread.start()
        thread.join()

    with pytest.warns(durable.DurableWarning, match=r"no run context while a run is active.*copy_context\(\).run"):
        program()
