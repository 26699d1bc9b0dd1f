"""Plain Python functions that survive a crash: finished steps are never executed again.

A call meets the packages in this order: `declarations` (what the decorators say), `identity` (what the call is known by),
`steps` (found, decided, replayed or executed), `runs` (what it belongs to), `values` (results to bytes), `journal`, `stores`.
Beside them stand `concurrency`, `waiting`, `undoing` and `costs`; above them `scripts`, `patches`, `notebooks` and `cli`.
`telling` is what people and observers see, `disabled` what DURABLE_DISABLE puts in the place of runs, `testing` is for stores
of others.
"""

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
    from durable.concurrency.completions import MapResults, Waited, as_completed, wait, wait_async
    from durable.concurrency.futures import TaskFuture
    from durable.costs.costs import Cost
    from durable.costs.spending import spend
    from durable.declarations.decorators import task, workflow
    from durable.declarations.wrappers import Task, Workflow
    from durable.identity.encoding import register_live_type
    from durable.patches import patch
    from durable.runs.blocks import run
    from durable.runs.checkpoints import checkpoint
    from durable.runs.contexts import context
    from durable.runs.handles import Run, get_run, list_runs
    from durable.runs.inside import Current, current, idempotency_key, now, random, scope, uuid4
    from durable.runs.sessions import configure
    from durable.runs.states import state
    from durable.runs.step_views import StepView
    from durable.steps.doubts import DidNotHappen, Happened, did_not_happen, happened
    from durable.steps.retry_after import wait_retry_after
    from durable.telling.observers import Event, subscribe
    from durable.waiting.batches import batch
    from durable.waiting.sending import send
    from durable.waiting.waits import sleep, wait_for

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
    "Cost": "costs.costs",
    "Current": "runs.inside",
    "DidNotHappen": "steps.doubts",
    "Event": "telling.observers",
    "Happened": "steps.doubts",
    "MapResults": "concurrency.completions",
    "Run": "runs.handles",
    "StepView": "runs.step_views",
    "Task": "declarations.wrappers",
    "TaskFuture": "concurrency.futures",
    "Waited": "concurrency.completions",
    "Workflow": "declarations.wrappers",
    "as_completed": "concurrency.completions",
    "batch": "waiting.batches",
    "checkpoint": "runs.checkpoints",
    "configure": "runs.sessions",
    "context": "runs.contexts",
    "current": "runs.inside",
    "did_not_happen": "steps.doubts",
    "get_run": "runs.handles",
    "happened": "steps.doubts",
    "idempotency_key": "runs.inside",
    "list_runs": "runs.handles",
    "load_ipython_extension": "notebooks.extension",
    "now": "runs.inside",
    "patch": "patches",
    "random": "runs.inside",
    "register_live_type": "identity.encoding",
    "run": "runs.blocks",
    "scope": "runs.inside",
    "send": "waiting.sending",
    "sleep": "waiting.waits",
    "spend": "costs.spending",
    "state": "runs.states",
    "subscribe": "telling.observers",
    "task": "declarations.decorators",
    "unload_ipython_extension": "notebooks.extension",
    "uuid4": "runs.inside",
    "wait": "concurrency.completions",
    "wait_async": "concurrency.completions",
    "wait_for": "waiting.waits",
    "workflow": "declarations.decorators",
    "wait_retry_after": "steps.retry_after",
}


def __getattr__(name: str) -> object:
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 -- `import durable` stays light

    value = globals()[name] = getattr(import_module(f"durable.{_IMPORTED_AT_FIRST_USE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
