"""What one execution of a run spends: kept by step, written with the step's record, and held against the run's budget.

An amount counts from the moment at which it is reported, so no body starts once the budget is reached, in whichever
thread, asyncio task or child run; it becomes durable with the next record of its step.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from durable.costs.costs import USD, added, dollars, packed, unpacked
from durable.costs.recorded_costs import child_cost, run_cost
from durable.errors import BudgetExceededError
from durable.records import StepFlag, StepStatus
from durable.step_pages import step_at
from durable.steps.details import Details
from durable.telling.notices import shell_command
from durable.values.exceptions import encode_exception

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable.costs.costs import Amounts
    from durable.errors import UnknownCostError
    from durable.records import StepRecord
    from durable.runs.execution import Body, Execution
    from durable.steps.attempts import Attempts


@dataclass(slots=True)
class _Account:
    """What one step costs, over all its attempts; `record` is its last one."""

    amounts: Amounts = field(default_factory=dict)
    unknown: int = 0
    problem: UnknownCostError | None = None
    record: StepRecord | None = None


class Ledger:
    """The amounts of one execution, those of the runs that it calls included."""

    def __init__(self, execution: Execution) -> None:
        """Begin with nothing; a budget also holds against what earlier executions of the run recorded."""
        self.execution = execution
        self.spent: Amounts = {}
        self.replayed: set[int] = set()
        self.paid_tasks: set[str] = set()
        self.budget = execution.workflow.budget
        self.guard = threading.RLock()
        self.held_up: set[Attempts] = set()
        self._accounts: dict[int, _Account] = {}
        self._costly: set[int] = set()
        self._before = Decimal(0)
        if self.budget is not None and execution.past.last_event:
            self._before = run_cost(execution.session.store, execution.id).usd

    def open(self, seq: int, earlier: Mapping[str, str] = MappingProxyType({})) -> None:
        """Keep an account for a step, which goes on with what its earlier executions cost."""
        with self.guard:
            self._accounts.setdefault(seq, _Account(unpacked(earlier)))

    def add(self, body: Body, amounts: Amounts) -> None:
        """Count what a body spends; what comes after its attempt was given up is recorded at once."""
        with self.guard:
            self.add_to(body.seq, amounts)
            if body.closed is not None:
                self._record_late(body.seq)
        if body.record is not None:
            self.paid_tasks.add(body.record.task)
        self.count(amounts, body.outer)

    def add_to(self, seq: int, amounts: Amounts) -> None:
        """Count what a step costs."""
        with self.guard:
            account = self._accounts.setdefault(seq, _Account())
            account.amounts = added(account.amounts, amounts)

    def _record_late(self, seq: int) -> None:
        """Write the record of a step again, unless a further one comes in any case."""
        execution, record = self.execution, self._accounts[seq].record
        if record is None:
            execution.journal.flush_all()
            record = step_at(execution.journal.store, execution.id, seq)
        if record.status != StepStatus.STARTED:
            execution.append(self.stamped(record))

    def note_unknown(self, seq: int) -> None:
        """Note that a step spent nobody knows how much."""
        with self.guard:
            self._accounts.setdefault(seq, _Account()).unknown += 1

    def note_problem(self, seq: int, problem: UnknownCostError) -> None:
        """Note why a step has no cost although its task declares one."""
        self._accounts[seq].problem = problem

    def count(self, amounts: Amounts, body: Body | None) -> None:
        """Count amounts here and in the runs that called this one, and note the steps around: they cost something too."""
        with self.guard:
            self.spent = added(self.spent, amounts)
            while body is not None:
                self._costly.add(body.seq)
                body = body.outer
        caller = self.execution.caller
        if caller is not None:
            ledger_of(caller.execution).count(amounts, caller)

    def note_replayed(self, record: StepRecord, body: Body) -> None:
        """Note a recorded step that costs nothing this time."""
        with self.guard:
            self.replayed.add(record.seq)
        self.count({}, body)

    def write(self, record: StepRecord) -> tuple[StepRecord, int]:
        """Send a record on its way with what its step costs; gives what was written, and the ticket."""
        with self.guard:
            stamped = self.stamped(record)
            return stamped, self.execution.append(stamped)

    def stamped(self, record: StepRecord) -> StepRecord:
        """Put what a step costs into the record that is to be written."""
        account = self._accounts.get(record.seq)
        if account is None and record.seq not in self._costly:
            return record
        record = record._replace(flags=record.flags | StepFlag.COST)
        if account is None:
            return self._with_child(record)
        with self.guard:
            details = Details.read(record.details)
            details = replace(details, spent=packed(account.amounts), unknown=details.unknown + account.unknown)
            stamped = record._replace(details=details.write())
            account.record = record
        if account.problem is None:
            return stamped
        return stamped._replace(
            flags=stamped.flags | StepFlag.COST_UNKNOWN, error=stamped.error or self._encoded(account.problem, record)
        )

    def _with_child(self, record: StepRecord) -> StepRecord:
        """Note what a run that a step is costs, for when it is not in the store any more."""
        if not record.flags & StepFlag.CHILD_RUN or record.status != StepStatus.SUCCEEDED:
            return record
        self.execution.journal.flush_all()
        cost = child_cost(self.execution.journal.store, record)
        details = replace(Details.read(record.details), spent=packed(cost.amounts), unknown=cost.unknown)
        return record._replace(details=details.write())

    def _encoded(self, problem: UnknownCostError, record: StepRecord) -> bytes:
        return encode_exception(
            problem,
            self.execution.serializer,
            run=record.run_id,
            step=record.key,
            sensitive=bool(record.flags & StepFlag.SENSITIVE),
        )

    def exhausted(self) -> Ledger | None:
        """Find the run whose budget is spent: this one, or one that called it."""
        for ledger in self.calling():
            if ledger.budget is not None and ledger.total >= ledger.budget:
                return ledger
        return None

    @property
    def total(self) -> Decimal:
        """US dollars that the run has spent in all its executions."""
        return added({USD: self._before}, self.spent)[USD]

    def calling(self) -> Iterator[Ledger]:
        """Give this ledger, and those of the runs that called this one."""
        ledger: Ledger | None = self
        while ledger is not None:
            yield ledger
            caller = ledger.execution.caller
            ledger = caller.execution.ledger if caller is not None else None

    @contextlib.contextmanager
    def holding_up(self, attempts: Attempts) -> Iterator[None]:
        """Note a step whose body is not let start while others end."""
        with self.guard:
            self.held_up.add(attempts)
        try:
            yield
        finally:
            with self.guard:
                self.held_up.discard(attempts)

    def exceeded(self) -> BudgetExceededError:
        """Say that the budget is spent, and how to go on."""
        run, budget, spent = self.execution.id, self.budget, self.total
        assert budget is not None
        return BudgetExceededError(
            f"Run {run} has spent {dollars(spent)} of its budget of {dollars(budget)}, so no further step began. What is "
            f"recorded stays. To go on: with_options(budget=...), or "
            f"{shell_command('resume', run, '--budget')} USD with more than {dollars(spent)}.",
            run,
            spent,
            budget,
        )


def go_on(execution: Execution, record: StepRecord, details: bytes) -> bytes:
    """Give the details of another execution of a step; its account goes on with what earlier ones cost."""
    earlier = Details.read(record.details)
    if earlier.spent is not None:
        ledger_of(execution).open(record.seq, earlier.spent)
    return earlier.going_on(details, done=record.done, is_copied=bool(record.flags & StepFlag.COPIED))


def ledger_of(execution: Execution) -> Ledger:
    """Give the ledger of an execution; made when something is to be spent in it."""
    if execution.ledger is None:
        made = Ledger(execution)
        with execution.lock:
            if execution.ledger is None:
                execution.ledger = made
    return execution.ledger
