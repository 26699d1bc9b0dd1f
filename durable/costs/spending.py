"""How amounts come in: from bodies, which call `spend`, and from results, which `cost=` puts a price on.

A step whose price is not known has its result all the same: it is recorded before the error is raised, and each replay
asks again, so that a mended `cost=` repairs the record and no body is executed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable.costs.costs import ELSEWHERE, USD, added, amounts_of, packed, unpacked
from durable.costs.ledgers import ledger_of
from durable.errors import ConfigurationError, OutsideRunError, UnknownCostError
from durable.records import StepFlag
from durable.runs import sessions
from durable.runs.execution import FRAME, warn_once
from durable.steps.details import Details
from durable.steps.effects import Durable
from durable.steps.failures import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from decimal import Decimal

    from durable.costs.costs import Amounts
    from durable.declarations.definitions import TaskDefinition
    from durable.records import StepRecord
    from durable.runs.execution import Execution
    from durable.steps.attempts import Attempts
    from durable.steps.effects import Effect
    from durable.steps.matching import Match


def spend(usd: float | Decimal | None = None, **units: float | Decimal) -> None:
    """Report what the current step spends: US dollars, and whatever else is counted, as `tokens_in=512`.

    Called in the body of a task, as often as something is spent; the amounts add up, exactly. They are recorded with the
    step's result, in the same write, also if the attempt fails then; of an attempt that is killed nobody knows them. A
    replay spends nothing. Amounts are int, float or Decimal, finite and not negative.

    Raises `ConfigurationError` for other amounts, which count as unknown then, and `OutsideRunError` in the workflow
    itself, which is executed again on resume, and in threads that carry no run context.
    """
    frame = FRAME.get()
    try:
        amounts = amounts_of(usd, units)
    except ValueError as error:
        if frame is not None and frame.body.seq:
            ledger_of(frame.body.execution).note_unknown(frame.body.seq)
        raise ConfigurationError(f"durable.spend(...) counted nothing: {error}.") from None
    if frame is None:
        if (reported := ELSEWHERE.get()) is not None:
            reported.append(amounts)
            return
        _refuse_or_warn()
        return
    body = frame.body
    if not body.seq:
        raise OutsideRunError(
            "durable.spend(...) belongs to a step: call it in the body of a @task. The workflow itself is executed again when "
            "its run is resumed, and would count the amount once more."
        )
    if body.execution.ended:
        body.check()
    ledger_of(body.execution).add(body, amounts)


def take_over(reported: list[Amounts]) -> None:
    """Count what a body spent that ran in another process."""
    frame = FRAME.get()
    if frame is not None:
        for amounts in reported:
            ledger_of(frame.body.execution).add(frame.body, amounts)


def _refuse_or_warn() -> None:
    if sessions.is_disabled():
        return
    if sessions.defaults_of_active_runs():
        raise OutsideRunError(
            "durable.spend(...) was called in a thread or process that carries no run context while a run is active, so the "
            "amount could not be recorded. Start the thread with contextvars.copy_context().run; for other processes give "
            "the task cost=."
        )
    warn_once("outside", "durable.spend", "durable.spend(...) was called outside a run: the amount is not recorded.")


def charge(attempts: Attempts, value: Any, *, is_resolved: bool) -> BaseException | None:
    """Put a price on the result of a step whose task declares `cost=`; gives what is to be raised once it is recorded.

    What a person or `reconcile` said that the step gave may have no price.
    """
    task, execution, seq = attempts.task, attempts.execution, attempts.seq
    if task.cost is None:
        return None
    ledger = ledger_of(execution)
    try:
        amounts = _price(execution, task, attempts.key, value)
    except UnknownCostError as problem:
        if is_resolved:
            ledger.note_unknown(seq)
            return None
        ledger.note_problem(seq, problem)
        mark(problem, execution.id, seq)
        return problem
    except BaseException as interruption:
        ledger.note_problem(seq, _unknown(execution, task, attempts.key, repr(interruption)))
        return interruption
    ledger.add_to(seq, amounts)
    ledger.count(amounts, attempts.frame.body)
    return None


def _price(execution: Execution, task: TaskDefinition, key: str, value: Any) -> Amounts:
    """Call the user's function, which is no part of the run; raises `UnknownCostError` if it gives no amount."""
    assert task.cost is not None
    token = FRAME.set(None)
    try:
        return _taken(task.cost(value))
    except ValueError as error:
        problem = str(error) if type(error) is _NoAmountError else repr(error)
    except Exception as error:
        problem = repr(error)
    finally:
        FRAME.reset(token)
    raise _unknown(execution, task, key, problem)


class _NoAmountError(ValueError):
    """What `cost=` gave is no amount."""


def _taken(cost: Any) -> Amounts:
    try:
        if isinstance(cost, Mapping):
            units = dict(cost)
            return amounts_of(units.pop(USD, None), units)
        return amounts_of(cost, {})
    except ValueError as error:
        raise _NoAmountError(str(error)) from None


def _unknown(execution: Execution, task: TaskDefinition, key: str, problem: str) -> UnknownCostError:
    shown = "(sensitive)" if task.sensitive else problem
    return UnknownCostError(
        f"Step {key!r} of run {execution.id} succeeded, but its cost= gave no amount: {shown}. The result is recorded and "
        f"the body is not executed again. Mend cost= and resume the run: it is asked again then."
    )


def replay_paid(match: Match, record: StepRecord, replayed: Callable[[], Any]) -> Generator[Effect, Any, Any]:
    """Give the stored result of a step that cost something; ask `cost=` again for an amount that is missing."""
    value = replayed()
    if not record.flags & StepFlag.COST_UNKNOWN:
        return value
    execution, task = match.execution, match.task
    whole = match.whole_record()
    assert whole is not None
    details = Details.read(whole.details)
    amounts: Amounts = {}
    try:
        if task.cost is None:
            details = replace(details, unknown=details.unknown + 1)
        else:
            amounts = _price(execution, task, record.key, value)
    except UnknownCostError as problem:
        if not record.flags & StepFlag.RESOLVED:
            mark(problem, execution.id, record.seq)
            raise
        details = replace(details, unknown=details.unknown + 1)  # what a person said that it gave has no price
    spent = packed(added(unpacked(details.spent or {}), amounts))
    flags = whole.flags & ~StepFlag.COST_UNKNOWN
    ticket = execution.append(whole._replace(flags=flags, error=None, details=replace(details, spent=spent).write()))
    ledger_of(execution).count(amounts, match.frame.body)
    yield Durable(execution, ticket, certain=True)
    return value
