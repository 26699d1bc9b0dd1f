"""Every failure that this library raises, as one tree.

Exception
└── DurableError                     root: `except DurableError` catches whatever this library reports
    ├── ConfigurationError           a setting, an option or an argument of ours is wrong (also a ValueError)
    │   └── DefinitionError          a decorator option is of the wrong type or names an unknown parameter
    ├── FingerprintError             an argument has no value that a step key could be made of (also a TypeError)
    ├── InputsChangedError           recorded inputs differ from the current ones
    ├── NotSerializableError         a result or a message cannot be stored (also a TypeError)
    ├── ReplayedError                stands for a recorded exception whose class cannot be imported any more
    ├── LostAttributeError           an attribute of a rebuilt exception was not stored (also an AttributeError)
    ├── UnknownCostError             a step succeeded, but its `cost=` gave no amount
    ├── NotFoundError                no such run or step (also a LookupError)
    ├── SnapshotError                a snapshot cannot be used: damaged, newer, not trusted (also a ValueError)
    ├── RunError                     something about one run
    │   ├── RunInProgressError       the run is alive elsewhere
    │   ├── RunEndedError            a step was called, or a message sent, after the end of the run
    │   ├── RunCancelledError        the run was cancelled
    │   ├── RunPausedError           the run is paused, and nobody executes it
    │   ├── RunTimeoutError          the run did not end in time (also a TimeoutError)
    │   ├── RunSupersededError       a fresh run took this one's place
    │   ├── UpstreamFailedError      a submitted task was skipped: one that it depends on failed
    │   ├── RunBlockedError          the run cannot go on without a decision
    │   │   ├── StepInDoubtError     nobody can know whether a step's effect happened
    │   │   └── CrashLoopError       the same step was interrupted three times in a row
    │   ├── MissingContextError      a run asks for its live context, and none was given
    │   ├── BudgetExceededError      the run has spent its budget: no further step begins
    │   ├── CodeChangedError         a task's body changed and `on_code_change="error"` holds
    │   └── LeaseLostError           another process took the run over: nothing was written
    ├── WaitTimeoutError             no message came, or no batch ended, in time (also a TimeoutError)
    ├── BatchFailedError             a batch failed, or gave no result for a request
    ├── OutsideRunError              something that needs a run was called outside one (also a RuntimeError)
    ├── WouldDeadlockError           waiting here would wait for the waiting thread itself (also a RuntimeError)
    └── StoreError                   the checkpoint store
        ├── StoreUnusableError       it cannot be opened: a directory, not writable, not SQLite, not ours
        ├── StoreTooNewError         it was written by a newer release
        ├── StoreFailedError         a write failed; what is recorded and what is not is said
        └── CorruptRecordError       a record does not match its checksum or cannot be read

BaseException
└── ExecutionStopped                 control flow: leaves the workflow when its execution has to end

Warning
└── DurableWarning                   durability is lost or weaker than the code suggests
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "BatchFailedError",
    "BudgetExceededError",
    "CodeChangedError",
    "ConfigurationError",
    "CorruptRecordError",
    "CrashLoopError",
    "DefinitionError",
    "DurableError",
    "DurableWarning",
    "ExecutionStopped",
    "FingerprintError",
    "InputsChangedError",
    "LeaseLostError",
    "LostAttributeError",
    "MissingContextError",
    "NotFoundError",
    "NotSerializableError",
    "OutsideRunError",
    "ReplayedError",
    "RunBlockedError",
    "RunCancelledError",
    "RunEndedError",
    "RunError",
    "RunInProgressError",
    "RunPausedError",
    "RunSupersededError",
    "RunTimeoutError",
    "SnapshotError",
    "StepInDoubtError",
    "StoreError",
    "StoreFailedError",
    "StoreTooNewError",
    "StoreUnusableError",
    "UnknownCostError",
    "UpstreamFailedError",
    "WaitTimeoutError",
    "WouldDeadlockError",
]


class DurableError(Exception):
    """Root of all failures that this library reports."""


class ConfigurationError(DurableError, ValueError):
    """A setting, an option or an argument of this library is wrong; nothing was executed."""


class DefinitionError(ConfigurationError):
    """A decorator option is of the wrong type or names an unknown parameter; nothing was executed."""


class FingerprintError(DurableError, TypeError):
    """An argument has no value that a step key could be made of; the body was not executed."""


class InputsChangedError(DurableError):
    """Recorded inputs of a run or a step differ from the current ones; the body was not executed."""


class NotSerializableError(DurableError, TypeError):
    """A step succeeded, but its result cannot be stored, and the body is not executed again; or a message cannot be stored,
    and was not sent.
    """


class UnknownCostError(DurableError):
    """A step succeeded, but its `cost=` gave no amount; its result is recorded and its body is not executed again."""


class ReplayedError(DurableError):
    """Stands for a recorded exception whose class cannot be imported any more."""

    def __init__(self, type_name: str, message: str) -> None:
        """Keep the recorded exception's qualified type name and message."""
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        """Show the recorded exception as Python would."""
        return f"{self.type_name}: {self.message}"


class LostAttributeError(DurableError, AttributeError):
    """An attribute of a rebuilt exception was not stored with it."""


class NotFoundError(DurableError, LookupError):
    """No such run or step in the store; nothing was executed."""


class SnapshotError(DurableError, ValueError):
    """A snapshot cannot be used here; nothing was executed or recorded."""


class RunError(DurableError):
    """Something about one run, whose id is `run_id`."""

    def __init__(self, message: str, run_id: str = "") -> None:
        """Keep the message and the run's id."""
        super().__init__(message, run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        """Show the message alone; it names the run."""
        return str(self.args[0])


class RunInProgressError(RunError):
    """The run is alive in another process, thread or asyncio task."""


class RunEndedError(RunError):
    """A step was called after the end of the execution that it belongs to, and its body was not executed; or a message was
    sent to a run that is over.
    """


class RunCancelledError(RunError):
    """The run was cancelled; calling it again resumes it."""


class RunPausedError(RunError):
    """The run is paused and nobody executes it; resuming it, or calling it again, goes on."""


class RunTimeoutError(RunError, TimeoutError):
    """The run did not end within its `timeout`; calling it again executes what is left."""


class RunSupersededError(RunError):
    """A fresh run with the same inputs took this run's place."""


class UpstreamFailedError(RunError):
    """A submitted task was skipped because a task that it depends on failed; `__cause__` is that failure.

    `step_key` names the step that was skipped, `culprit` the one that failed.
    """

    def __init__(self, message: str, run_id: str = "", step_key: str = "", culprit: str = "") -> None:
        """Keep the message, the run's id and the keys of both steps."""
        super().__init__(message, run_id)
        self.args = (message, run_id, step_key, culprit)
        self.step_key = step_key
        self.culprit = culprit


class RunBlockedError(RunError):
    """The run cannot go on without a decision; `step_key` and `idempotency_key` name the step."""

    def __init__(self, message: str, run_id: str = "", step_key: str = "", idempotency_key: str = "") -> None:
        """Keep the message, the run's id, the step's key and its idempotency key."""
        super().__init__(message, run_id)
        self.args = (message, run_id, step_key, idempotency_key)
        self.step_key = step_key
        self.idempotency_key = idempotency_key


class StepInDoubtError(RunBlockedError):
    """Nobody can know whether the effect of a step that is not idempotent happened; it was not executed again."""


class CrashLoopError(RunBlockedError):
    """The same step was interrupted by a crash three times in a row; it was not executed again."""


class MissingContextError(RunError):
    """A run asks for its live context and none was given; what is recorded stays, and nothing counts as failed."""


class CodeChangedError(RunError):
    """The body of a task changed since its result was recorded and `on_code_change="error"` holds."""


class BudgetExceededError(RunError):
    """The run has spent its budget, so no further step began; with a higher budget it goes on where it stands.

    `spent` and `budget` are US dollars.
    """

    def __init__(
        self, message: str, run_id: str = "", spent: Decimal | None = None, budget: Decimal | None = None
    ) -> None:
        """Keep the message, the run's id and the amounts."""
        super().__init__(message, run_id)
        self.args = (message, run_id, spent, budget)
        self.spent = spent
        self.budget = budget


class LeaseLostError(RunError):
    """Another process took the run over; this one wrote nothing more."""


class WaitTimeoutError(DurableError, TimeoutError):
    """No message came before the deadline of `wait_for`; recorded, and replayed where the code handled it."""


class BatchFailedError(DurableError):
    """A batch failed as a whole, or gave no result for a request. `poll` functions of `durable.batch` raise it, too."""


class OutsideRunError(DurableError, RuntimeError):
    """Something that needs a run was called outside one."""


class WouldDeadlockError(DurableError, RuntimeError):
    """Waiting here would wait for the very thread that waits."""


class StoreError(DurableError):
    """The checkpoint store cannot be opened, read or written, or holds what was not written to it."""


class StoreUnusableError(StoreError):
    """The store cannot be opened or trusted; nothing was executed."""


class StoreTooNewError(StoreError):
    """The store was written by a newer release of this library; nothing was read or changed."""


class StoreFailedError(StoreError):
    """A write to the store failed; nothing further is executed in the runs that it concerns."""


class CorruptRecordError(StoreError):
    """A record does not match its checksum or cannot be decoded; nothing was executed in its place."""


class ExecutionStopped(BaseException):
    """Leaves the workflow's code when its execution has to end; `error` says why."""

    def __init__(self, error: DurableError) -> None:
        """Carry the error that the caller of the workflow gets."""
        super().__init__(error)
        self.error = error


class DurableWarning(UserWarning):
    """Durability is lost or weaker than the code suggests."""
