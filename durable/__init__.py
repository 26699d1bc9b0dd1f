"""Plain Python functions that survive a crash: finished steps are never executed again."""

from typing import TYPE_CHECKING

from durable.errors import (
    BatchFailedError,
    BudgetExceededError,
    CodeChangedError,
    ConfigurationError,
    CorruptRecordError,
    CrashLoopError,
    DefinitionError,
    DurableError,
    DurableWarning,
    ExecutionStopped,
    FingerprintError,
    InputsChangedError,
    LeaseLostError,
    LostAttributeError,
    MissingContextError,
    NotFoundError,
    NotSerializableError,
    OutsideRunError,
    ReplayedError,
    RunBlockedError,
    RunCancelledError,
    RunEndedError,
    RunError,
    RunInProgressError,
    RunPausedError,
    RunSupersededError,
    RunTimeoutError,
    SnapshotError,
    StepInDoubtError,
    StoreError,
    StoreFailedError,
    StoreTooNewError,
    StoreUnusableError,
    UnknownCostError,
    UpstreamFailedError,
    WaitTimeoutError,
    WouldDeadlockError,
)

if TYPE_CHECKING:
    from durable.batches import batch
    from durable.blocks import run
    from durable.checkpoints import checkpoint
    from durable.completions import MapResults, Waited, as_completed, wait, wait_async
    from durable.contexts import context
    from durable.costs import Cost
    from durable.decorators import task, workflow
    from durable.doubts import DidNotHappen, Happened, did_not_happen, happened
    from durable.encoding import register_live_type
    from durable.futures import TaskFuture
    from durable.handles import Run, get_run, list_runs
    from durable.inside import Current, current, idempotency_key, now, random, scope, uuid4
    from durable.observers import Event, subscribe
    from durable.patches import patch
    from durable.retry_after import wait_retry_after
    from durable.sending import send
    from durable.sessions import configure
    from durable.spending import spend
    from durable.states import state
    from durable.step_views import StepView
    from durable.waits import sleep, wait_for
    from durable.wrappers import Task, Workflow

__all__ = [
    "BatchFailedError",
    "BudgetExceededError",
    "CodeChangedError",
    "ConfigurationError",
    "CorruptRecordError",
    "Cost",
    "CrashLoopError",
    "Current",
    "DefinitionError",
    "DidNotHappen",
    "DurableError",
    "DurableWarning",
    "Event",
    "ExecutionStopped",
    "FingerprintError",
    "Happened",
    "InputsChangedError",
    "LeaseLostError",
    "LostAttributeError",
    "MapResults",
    "MissingContextError",
    "NotFoundError",
    "NotSerializableError",
    "OutsideRunError",
    "ReplayedError",
    "Run",
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
    "StepView",
    "StoreError",
    "StoreFailedError",
    "StoreTooNewError",
    "StoreUnusableError",
    "Task",
    "TaskFuture",
    "UnknownCostError",
    "UpstreamFailedError",
    "WaitTimeoutError",
    "Waited",
    "Workflow",
    "WouldDeadlockError",
    "as_completed",
    "batch",
    "checkpoint",
    "configure",
    "context",
    "current",
    "did_not_happen",
    "get_run",
    "happened",
    "idempotency_key",
    "list_runs",
    "now",
    "patch",
    "random",
    "register_live_type",
    "run",
    "scope",
    "send",
    "sleep",
    "spend",
    "state",
    "subscribe",
    "task",
    "uuid4",
    "wait",
    "wait_async",
    "wait_for",
    "wait_retry_after",
    "workflow",
]

_IMPORTED_AT_FIRST_USE = {
    "Cost": "costs",
    "Current": "inside",
    "DidNotHappen": "doubts",
    "Event": "observers",
    "Happened": "doubts",
    "MapResults": "completions",
    "Run": "handles",
    "StepView": "step_views",
    "Task": "wrappers",
    "TaskFuture": "futures",
    "Waited": "completions",
    "Workflow": "wrappers",
    "as_completed": "completions",
    "batch": "batches",
    "checkpoint": "checkpoints",
    "configure": "sessions",
    "context": "contexts",
    "current": "inside",
    "did_not_happen": "doubts",
    "get_run": "handles",
    "happened": "doubts",
    "idempotency_key": "inside",
    "list_runs": "handles",
    "load_ipython_extension": "notebooks.extension",
    "now": "inside",
    "patch": "patches",
    "random": "inside",
    "register_live_type": "encoding",
    "run": "blocks",
    "scope": "inside",
    "send": "sending",
    "sleep": "waits",
    "spend": "spending",
    "state": "states",
    "subscribe": "observers",
    "task": "decorators",
    "unload_ipython_extension": "notebooks.extension",
    "uuid4": "inside",
    "wait": "completions",
    "wait_async": "completions",
    "wait_for": "waits",
    "workflow": "decorators",
    "wait_retry_after": "retry_after",
}


def __getattr__(name: str) -> object:
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 -- `import durable` stays light

    value = globals()[name] = getattr(import_module(f"durable.{_IMPORTED_AT_FIRST_USE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
