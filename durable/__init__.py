"""Plain Python functions that survive a crash: finished steps are never executed again."""

from typing import TYPE_CHECKING

from durable.decorators import Task, Workflow, task, workflow
from durable.errors import (
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
    RunSupersededError,
    SnapshotError,
    StepInDoubtError,
    StoreError,
    StoreFailedError,
    StoreTooNewError,
    StoreUnusableError,
    WouldDeadlockError,
)

if TYPE_CHECKING:
    from durable.blocks import run
    from durable.checkpoints import checkpoint
    from durable.contexts import context
    from durable.doubts import DidNotHappen, Happened, did_not_happen, happened
    from durable.encoding import register_live_type
    from durable.handles import Run, StepView, get_run, list_runs
    from durable.inside import Current, current, idempotency_key, now, random, scope, uuid4
    from durable.observers import Event, subscribe
    from durable.sessions import configure
    from durable.states import state

__all__ = [
    "CodeChangedError",
    "ConfigurationError",
    "CorruptRecordError",
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
    "RunSupersededError",
    "SnapshotError",
    "StepInDoubtError",
    "StepView",
    "StoreError",
    "StoreFailedError",
    "StoreTooNewError",
    "StoreUnusableError",
    "Task",
    "Workflow",
    "WouldDeadlockError",
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
    "random",
    "register_live_type",
    "run",
    "scope",
    "state",
    "subscribe",
    "task",
    "uuid4",
    "workflow",
]

_IMPORTED_AT_FIRST_USE = {
    "Current": "inside",
    "DidNotHappen": "doubts",
    "Event": "observers",
    "Happened": "doubts",
    "Run": "handles",
    "StepView": "handles",
    "checkpoint": "checkpoints",
    "configure": "sessions",
    "context": "contexts",
    "current": "inside",
    "did_not_happen": "doubts",
    "get_run": "handles",
    "happened": "doubts",
    "idempotency_key": "inside",
    "list_runs": "handles",
    "now": "inside",
    "random": "inside",
    "register_live_type": "encoding",
    "run": "blocks",
    "scope": "inside",
    "state": "states",
    "subscribe": "observers",
    "uuid4": "inside",
}


def __getattr__(name: str) -> object:
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 -- `import durable` stays light

    value = globals()[name] = getattr(import_module(f"durable.{_IMPORTED_AT_FIRST_USE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
