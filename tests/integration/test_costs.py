"""What steps cost: what counts, what is recorded, and what a replay does not spend again."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.runs import sessions
from durable.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

done: list[str] = []
prices: dict[str, Any] = {}
failing: set[str] = set()


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Iterator[None]:
    """A store of its own for each test."""
    for each in (done, prices, failing):
        each.clear()
    opened = open_store(tmp_path / "durable.db")
    durable.configure(opened)
    yield
    durable.configure(None)
    opened.close()


def fail_once(name: str) -> None:
    if name not in failing:
        failing.add(name)
        raise ConnectionError(name)


@task
def buy(item: str, usd: float = 0.1) -> str:
    done.append(item)
    durable.spend(usd=usd)
    return item


@task(cost=lambda result: prices[result])
def ask(question: str) -> str:
    done.append(question)
    return question


def run_of(workflow_name: str) -> durable.Run:
    [run] = [run for run in durable.list_runs() if run.workflow.endswith(workflow_name)]
    return run


def test_amounts_of_several_calls_add_up_exactly() -> None:
    """What a body reports adds up to the last digit, whatever numbers it is given in."""

    @task
    def work() -> None:
        for _ in range(3):
            durable.spend(usd=0.1)
        durable.spend(usd=Decimal("1e-30"), tokens_in=512, pages=Decimal("0.5"))
        durable.spend(usd=2, tokens_in=10**20)

    @workflow(name="adds")
    def adds() -> None:
        work()
        work.with_options(key="other")()

    adds()
    cost = run_of("adds").cost
    assert cost.usd == Decimal("4.600000000000000000000000000002")
    assert cost.units == {"tokens_in": 2 * (10**20 + 512), "pages": 1}
    assert cost.unknown == 0
    assert {step.cost.usd for step in run_of("adds").steps} == {Decimal("2.300000000000000000000000000001")}


def test_a_price_is_put_on_the_result() -> None:
    """`cost=` gives dollars, or dollars and units, and is added to what the body reported."""

    @task(cost=lambda result: {"usd": result / 10, "tokens": result})
    def work(number: int) -> int:
        durable.spend(usd=1)
        return number

    @workflow(name="prices")
    def price() -> list[int]:
        return [work(1), work(2)]

    assert price() == [1, 2]
    cost = run_of("prices").cost
    assert cost == durable.Cost(Decimal("2.3"), {"tokens": Decimal(3)})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"usd": -1}, "usd=-1"),
        ({"usd": float("nan")}, "usd=nan"),
        ({"usd": float("inf")}, "usd=inf"),
        ({"usd": Decimal("sNaN")}, "usd="),
        ({"usd": "1"}, "usd='1'"),
        ({"usd": True}, "usd=True"),
        ({"tokens": None}, "tokens=None"),
        ({"usd": 10**400}, "1e300"),
        ({}, "no amount"),
    ],
)
def test_what_is_no_amount_is_refused(arguments: dict[str, Any], named: str) -> None:
    """Wrong amounts are an error in the body that reports them, and its cost counts as unknown."""

    @task
    def work() -> None:
        durable.spend(**arguments)

    @workflow(name="wrong")
    def wrong() -> None:
        work()

    with pytest.raises(durable.ConfigurationError, match="counted nothing") as caught:
        wrong()
    assert named in str(caught.value)
    assert run_of("wrong").cost == durable.Cost(unknown=1)


def test_the_workflow_itself_spends_nothing() -> None:
    """What is executed again on resume must not count twice, so it is refused."""

    @workflow(name="itself")
    def itself() -> None:
        durable.spend(usd=1)

    with pytest.raises(durable.OutsideRunError, match="body of a @task"):
        itself()


def test_outside_a_run_a_task_is_a_plain_function() -> None:
    """A task that spends is called outside a run with a warning; in a foreign thread of a run that is an error."""
    with pytest.warns(durable.DurableWarning) as warned:
        assert buy("apple") == "apple"
    assert any("amount is not recorded" in str(each.message) for each in warned)

    @task
    def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(durable.spend, 1).result()

    @workflow(name="foreign")
    def foreign() -> None:
        work()

    with pytest.raises(durable.OutsideRunError, match="no run context"):
        foreign()


@pytest.mark.parametrize("options", [{"cost": 5}, {"cost": "usd"}, {"cost": time.sleep, "wrong": 1}])
def test_wrong_options_of_a_task(options: dict[str, Any]) -> None:
    """What is no function is refused where the task is decorated."""
    with pytest.raises(durable.DefinitionError):
        task(**options)(lambda: None)


def test_async_prices_and_prices_of_generators_are_refused() -> None:
    """`cost=` is a plain function of one result."""

    async def price(_: object) -> float:
        return 1.0

    with pytest.raises(durable.DefinitionError, match="plain function"):
        task(cost=price)(lambda: None)  # type: ignore[arg-type]  # that is the mistake

    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(durable.DefinitionError, match="generator"):
        task(cost=lambda _: 1)(items)


def test_failed_attempts_count() -> None:
    """Money that an attempt spent before it failed is spent: within one execution and over several."""

    @task(attempts=2)
    def work() -> str:
        durable.spend(usd=1, calls=1)
        fail_once("first")
        fail_once("second")
        fail_once("third")
        return "done"

    @workflow(name="fails")
    def fails() -> str:
        return work()

    with pytest.raises(ConnectionError):
        fails()
    assert run_of("fails").cost == durable.Cost(Decimal(2), {"calls": Decimal(2)})
    assert fails() == "done"
    [step] = run_of("fails").steps
    assert (step.cost.usd, step.attempts, run_of("fails").cost.usd) == (Decimal(4), 4, Decimal(4))


def test_nested_steps_and_called_runs_count_once() -> None:
    """A step's own amounts are its own; the run counts all below it, and the runs that it called."""

    @workflow(name="child")
    def child() -> str:
        return buy("in child", 5.0)

    @task
    def outer() -> None:
        durable.spend(usd=1)
        buy("below", 0.25)

    @workflow(name="parent")
    def parent() -> str:
        outer()
        return child()

    parent()
    run = run_of("parent")
    assert run.cost.usd == Decimal("6.25")
    assert run_of("child").cost.usd == 5
    assert sum(step.cost.usd for step in run.steps) == Decimal("6.25")
    run_of("child").delete()
    assert run.cost.usd == Decimal("6.25")


def test_a_replay_costs_nothing_and_says_what_it_saved(capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run spends on what it executes alone; steps, money and time that are not spent again are counted exactly."""

    @workflow(name="resumes")
    def resumes() -> list[str]:
        bought = [buy(str(number), 1.5) for number in range(4)]
        fail_once("once")
        return [*bought, buy("last", 2.0)]

    with pytest.raises(ConnectionError):
        resumes()
    assert "run resumes-" in capsys.readouterr().err
    assert len(resumes()) == 5
    said = capsys.readouterr().err
    assert "succeeded: 4 replayed, 1 executed, $2.00 spent, $6.00 not spent again." in said
    assert run_of("resumes").cost.usd == 8
    assert resumes()[-1] == "last"
    assert "nothing is executed: $8.00 not spent again" in capsys.readouterr().err
    assert done == ["0", "1", "2", "3", "last"]


def test_the_time_of_replayed_steps_is_what_was_recorded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time saved is the recorded durations of the replayed steps; of steps below a replayed one nothing is added."""
    now = [1_000_000.0]
    monkeypatch.setattr(sessions, "clock", lambda: now[0])

    @task
    def inner() -> None:
        now[0] += 1800

    @task
    def outer() -> None:
        now[0] += 60
        inner()

    @task
    def handled() -> None:
        now[0] += 1200
        raise ValueError

    @workflow(name="timed")
    def timed() -> None:
        durable.now()
        outer()
        with pytest.raises(ValueError):  # noqa: PT011 -- it says nothing
            handled()
        fail_once("once")

    with pytest.raises(ConnectionError):
        timed()
    capsys.readouterr()
    timed()
    assert "succeeded: 2 replayed, 0 executed, 51 min not spent again." in capsys.readouterr().err


def test_fresh_runs_without_costs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A new run that nothing disturbs and that spends nothing is quiet; of those that spend the first ones speak."""

    @task
    def free() -> None: ...

    @workflow(name="quiet")
    def quiet() -> None:
        free()

    @workflow(name="loud")
    def loud(number: int) -> None:
        buy(str(number), 1)

    quiet()
    assert capsys.readouterr().err == ""
    for number in range(9):
        loud(number)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].endswith("succeeded: 1 executed, $1.00 spent.")
    assert "no further lines" in said[-1]


def test_calls_that_are_not_made_again_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """What the run recorded and does not ask for any more is not replayed, so it saves nothing."""
    asked = ["a", "b", "c"]

    @task
    def outer(names: int) -> None:
        for name in asked[:names]:
            buy(name, 1)
        fail_once(f"outer {names}")

    @workflow(name="changes")
    def changes() -> None:
        for name in asked:
            buy(name, 1)
        outer(2)

    with pytest.raises(ConnectionError):
        changes()
    asked[:] = ["a"]
    capsys.readouterr()
    changes()
    assert "succeeded: 2 replayed, 1 executed, $2.00 not spent again." in capsys.readouterr().err


@pytest.mark.parametrize(
    "price", [None, -1, float("nan"), "free", {"usd": None}, {"usd": -2}, {}, [], {3: 1}, ValueError]
)
def test_an_unknown_price_is_an_error_that_loses_nothing(price: Any) -> None:
    """A paid call whose `cost=` gives no amount keeps its result, raises, and is asked for its price again: never executed."""

    def cost(result: str) -> Any:
        if price is ValueError and "q" not in prices:
            raise ValueError("no usage")
        return prices.get("q", price)

    @task(cost=cost, idempotent=False)
    def pay(question: str) -> str:
        done.append(question)
        return question.upper()

    @workflow(name="asks")
    def asks() -> str:
        return pay("q")

    for _ in range(2):
        with pytest.raises(durable.UnknownCostError, match=r"pay:\w+.*cost= gave no amount"):
            asks()
        [step] = run_of("asks").steps
        assert (step.status, step.cost.unknown, run_of("asks").cost.unknown) == ("succeeded", 1, 1)
    prices["q"] = {"usd": 2, "tokens": 7}
    assert asks() == "Q"
    assert done == ["q"]
    assert run_of("asks").cost == durable.Cost(Decimal(2), {"tokens": Decimal(7)})
    assert asks() == "Q"


def test_a_budget_is_checked_before_a_body_starts() -> None:
    """Once the recorded spend has reached the budget no body starts; a higher budget goes on where it stood."""

    @workflow(name="bounded", budget=0.3)
    def bounded() -> list[str]:
        return [buy(str(number), 0.1) for number in range(6)]

    for _ in range(2):
        with pytest.raises(durable.BudgetExceededError, match=r"spent \$0.30 of its budget of \$0.30") as caught:
            bounded()
        assert (caught.value.spent, caught.value.budget) == (Decimal("0.3"), Decimal("0.3"))
        assert run_of("bounded").status == "failed"
        assert done == ["0", "1", "2"]
    with pytest.raises(durable.BudgetExceededError):
        bounded.with_options(budget=Decimal("0.5"))()
    assert done == ["0", "1", "2", "3", "4"]
    run = run_of("bounded")
    with pytest.raises(durable.BudgetExceededError, match=r"\$0.50"):
        run.resume()
    assert run.resume(budget=20) == ["0", "1", "2", "3", "4", "5"]
    assert run.cost.usd == Decimal("0.6")


def test_what_the_code_swallows_does_not_go_on() -> None:
    """A spent budget ends the run whatever the workflow does about it, and undoes nothing."""
    undone: list[str] = []

    @task(undo=undone.append)
    def book(item: str) -> str:
        durable.spend(usd=1)
        return item

    @workflow(name="swallows", budget=1)
    def swallows() -> str:
        try:
            return book("a") + book("b")
        except BaseException:
            return book("c")

    with pytest.raises(durable.BudgetExceededError):
        swallows()
    assert undone == []
    assert [step.status for step in run_of("swallows").steps] == ["succeeded"]
    assert swallows.with_options(budget=9)() == "ab"


def test_called_runs_count_towards_the_budget() -> None:
    """What a called run spends is spent by its caller; its own budget holds for it alone."""

    @workflow(name="child", budget=2)
    def child(name: str, count: int) -> int:
        for number in range(count):
            buy(f"{name}{number}", 1)
        return count

    @workflow(name="parent", budget=3)
    def parent(count: int) -> None:
        child("a", count)
        child("b", count)
        buy("own", 1)

    with pytest.raises(durable.BudgetExceededError, match="Run parent-"):
        parent(2)
    assert done == ["a0", "a1", "b0"]
    with pytest.raises(durable.BudgetExceededError, match="Run parent-"):
        parent(2)
    assert done == ["a0", "a1", "b0"]
    with pytest.raises(durable.BudgetExceededError, match="Run child-"):
        parent.with_options(budget=99)(3)


def test_threads_keep_to_the_budget() -> None:
    """Submitted tasks that have not started when the budget is spent do not start; those under way end and are recorded."""
    both = threading.Barrier(2)

    @task
    def work(number: int) -> int:
        if number < 2:
            both.wait(30)
        done.append(str(number))
        durable.spend(usd=1)
        return number

    @workflow(name="threads", budget=2, max_workers=2)
    def threads() -> list[int]:
        return list(work.map(range(8)))

    with pytest.raises(durable.BudgetExceededError):
        threads()
    assert sorted(done) == ["0", "1"]
    assert run_of("threads").cost.usd == 2
    assert threads.with_options(budget=100)() == list(range(8))
    assert run_of("threads").cost.usd == 8


def test_costs_of_a_fork_and_of_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    """A fork did not pay for what it keeps, and says that it need not; a run that moves keeps its amounts and its budget."""

    @workflow(name="moves", budget=3)
    def moves() -> list[str]:
        return [buy(name, 1) for name in "abcd"]

    with pytest.raises(durable.BudgetExceededError):
        moves()
    run = run_of("moves")
    snapshot = json.loads(json.dumps(run.snapshot()))
    fork = run.fork(from_="#5")
    assert fork.cost == durable.Cost()
    capsys.readouterr()
    assert fork.resume() == ["a", "b", "c", "d"]
    assert fork.cost.usd == 2
    assert "2 replayed, 2 executed, $2.00 spent, $2.00 not spent again" in capsys.readouterr().err
    durable.configure("memory:")
    with pytest.raises(durable.BudgetExceededError):
        moves.with_options(snapshot=snapshot)()
    assert run_of("moves").cost.usd == 3


def test_a_cached_result_costs_nothing() -> None:
    """A result that another run has paid for costs this one nothing, and is no reason for an unknown price."""

    @task(cost=lambda _: 1, cache=True, name="cached")
    def look_up(word: str) -> str:
        done.append(word)
        return word

    @workflow(name="looks")
    def looks(number: int) -> str:
        return look_up("same")

    assert looks(1) == looks(2) == "same"
    assert done == ["same"]
    assert sorted(run.cost.usd for run in durable.list_runs()) == [0, 1]


def test_generators_spend_what_they_report() -> None:
    """A generator reports while it gives items; the amounts are recorded with its end, also if its consumer leaves."""

    @task
    def chunks() -> Iterator[int]:
        for number in range(3):
            durable.spend(usd=1)
            yield number

    @workflow(name="streams")
    def streams() -> list[int]:
        first = next(iter(chunks()))
        return [first, *chunks()]

    assert streams() == [0, 0, 1, 2]
    assert sorted(step.cost.usd for step in run_of("streams").steps) == [1, 3]


def test_a_resolved_step_has_the_price_of_what_it_is_said_to_have_given() -> None:
    """The price is asked for when the step is replayed; if what a person said has none, it counts as unknown."""

    @task(cost=lambda result: result["usd"], idempotent=False, key="{name}", name="pay")
    def pay(name: str) -> dict[str, float]:
        fail_once(name)
        return {"usd": 1.0}

    @workflow(name="decides", after_success="rerun")
    def decides(name: str) -> Any:
        return pay(name)

    for name, given, cost in (("a", {"usd": 2.0}, durable.Cost(Decimal(2))), ("b", "paid", durable.Cost(unknown=1))):
        with pytest.raises(ConnectionError):
            decides(name)
        with pytest.raises(durable.StepInDoubtError):
            decides(name)
        [run] = durable.list_runs(status="blocked")
        run.resolve(f"pay:{name}", durable.happened(given))
        assert decides(name) == given
        assert run.cost == cost


def test_compensations_are_paid_for_in_any_case() -> None:
    """What undoes a failed run is executed although its budget is spent, and its amounts count."""

    @task
    def refund(result: str) -> None:
        durable.spend(usd=0.5)
        done.append(f"refund {result}")

    @task(undo=refund)
    def book(item: str) -> str:
        durable.spend(usd=1)
        return item

    @workflow(name="undoes", budget=1)
    def undoes() -> None:
        book("a")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        undoes()
    assert done == ["refund a"]
    assert run_of("undoes").cost.usd == Decimal("1.5")


@task(executor="processes")
def buy_elsewhere(item: str) -> str:
    durable.spend(usd=1, items=1)
    if item == "bad":
        raise ConnectionError(item)
    return item


def test_bodies_in_other_processes_report_what_they_spend() -> None:
    """What a body spends in a worker process is recorded with its step here, also if it fails there."""

    @workflow(name="elsewhere")
    def elsewhere() -> str:
        with pytest.raises(ConnectionError, match="bad"):
            buy_elsewhere.submit("bad").result()
        return buy_elsewhere.submit("good").result()

    assert elsewhere() == "good"
    assert [step.cost for step in run_of("elsewhere").steps] == 2 * [durable.Cost(Decimal(1), {"items": Decimal(1)})]


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf"), "5", True])
def test_wrong_budgets_are_refused(budget: Any) -> None:
    """A budget is a positive number, wherever it is given."""

    @workflow(name="any")
    def any_workflow() -> None: ...

    with pytest.raises(durable.DefinitionError, match="budget"):
        workflow(budget=budget)(lambda: None)
    with pytest.raises(durable.DefinitionError, match="budget"):
        any_workflow.with_options(budget=budget)
    with pytest.raises(durable.DefinitionError, match="budget"), durable.run("block", budget=budget):
        raise AssertionError("it began")


def test_a_block_has_a_budget() -> None:
    """`durable.run(..., budget=)` holds for the block."""
    with pytest.raises(durable.BudgetExceededError), durable.run("block", budget=1):
        buy("a", 1)
        buy("b", 1)
    assert done == ["a"]


def test_an_amount_after_a_timeout_is_not_lost() -> None:
    """A body in a thread that goes on after its timeout may still say what it spent: it is recorded with the step."""
    timed_out, spent = threading.Event(), threading.Event()

    @task(timeout=0.05)
    def slow() -> None:
        timed_out.wait(30)
        durable.spend(usd=1)
        spent.set()

    @workflow(name="late")
    def late() -> None:
        try:
            slow()
        except TimeoutError:
            timed_out.set()
            spent.wait(30)

    late()
    [step] = run_of("late").steps
    assert (step.status, step.cost.usd) == ("failed", Decimal(1))
