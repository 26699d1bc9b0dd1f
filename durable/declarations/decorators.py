"""`@task` and `@workflow`: options are checked where a function is decorated, long before it is called."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition, WorkflowDefinition, task_options, workflow_options
from durable.declarations.wrappers import Task, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from durable.declarations.typed_options import TaskOptions, WorkflowOptions

P = ParamSpec("P")
R = TypeVar("R")


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task: inside a run each call of it is a step that is executed once and then replayed.

    `name`, `aliases`: stable name (default `module.qualname`) and former ones. `key`: business key, a format string over
    the arguments or a function of them, in place of the fingerprint of the arguments. `ignore`: parameters left out of
    the fingerprint. `version`: bump it to set recorded results aside. `idempotent=False`: never executed again unless it
    is known that it did not happen; a `timedelta`: idempotent as long as the receiver knows the idempotency key, counted
    from its first use, and not afterwards. `no_effect_on`: exception types that prove that nothing happened. `reconcile`: asks
    the outside world whether a step in doubt happened; returns `happened(value)` or `did_not_happen`. `undo`: called as
    `undo(result, *args, **kwargs)`, or with the result alone if it takes one parameter, for each finished step of a run that
    fails, the last one first; it is a step of its own, with its own options if it is a task. `attempts`: executions within
    one execution of the run. `retry`: a `tenacity.Retrying` or `AsyncRetrying` instead; the count and the end of a pause
    survive a crash, and a clock that is set back makes no pause longer than it was planned. `timeout`: seconds or `timedelta`
    per attempt. `replay=False`: recorded, but executed in every execution of the run. `on_drift`, `on_code_change`: what
    to do when inputs or the body changed under a run. `sensitive`: no preview of arguments, key or error is stored.
    `cache`: True or a time to live; the result is shared by all runs. `executor`: where the body
    runs: `"threads"`, `"processes"`, any `concurrent.futures.Executor` or a function that makes one, which is shut down
    with the run. A body in another process does not see the run: it calls neither tasks nor `durable.current()`.
    `cost`: function of the result that gives what the call cost, US dollars or a mapping of `usd` and other units; it is
    recorded with the result. If it gives no amount the step raises `UnknownCostError`, keeps its result, and asks again when
    the run is resumed.

    A generator, sync or async, is recorded with its items. A replay gives those of one that ended or that its consumer
    closed (`break`); asked for more, it is executed again, and what was given is left out. One that a crash interrupted is
    executed again from its start under the same idempotency key, whatever it had given. With `idempotent=False` both are
    in doubt. `send` into it is refused, `throw` closes it. An async one is closed at once by `contextlib.aclosing` only.

    Raises `DefinitionError` for options of the wrong type, unknown parameters and classes.
    """
    if function is None:
        return partial(_make_task, task_options(options))
    return _make_task(task_options(options), function)


def _make_task(options: dict[str, Any], function: Callable[..., Any]) -> Task[Any, Any]:
    definition = TaskDefinition(function=function, **options)
    registry.tasks.add(definition)
    return Task(definition)


@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(**options: Unpack[WorkflowOptions]) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a workflow: same inputs, same run.

    A call starts a run, resumes an unfinished one, or returns the stored result of one that succeeded.

    `name`, `aliases`: stable name and former ones. `run_id`: a format string over the arguments that names the run
    (default: a digest of workflow, version and inputs). `version`: bump it for new runs. `after_success="rerun"`: a call
    after a success is a new run. `timeout`: seconds or `timedelta` that one execution of the run may take; then what runs
    is cancelled and `RunTimeoutError` raised, and a call goes on with what is left. `idempotent`, `on_drift`,
    `on_code_change`: defaults for its tasks. `max_workers`: how many submitted tasks are executed at once (default: 32 in
    threads, any number of async ones). `executor`: default for the tasks that are submitted. `budget`: US dollars that the
    run, with the runs that it calls, may spend in all its executions: once they are spent no further body starts, and the
    call raises `BudgetExceededError`; with a higher budget it goes on.

    Raises `DefinitionError` for options of the wrong type, unknown parameters, generators and classes.
    """
    if function is None:
        return partial(_make_workflow, workflow_options(options))
    return _make_workflow(workflow_options(options), function)


def _make_workflow(options: dict[str, Any], function: Callable[..., Any]) -> Workflow[Any, Any]:
    definition = WorkflowDefinition(function=function, **options)
    registry.workflows.add(definition)
    return Workflow(definition)
