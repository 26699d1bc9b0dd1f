"""`@task` and `@workflow`: wrappers that bind the call and hand it to the engine.

A decorated function keeps its signature, docstring, type hints and pickling by reference, works as a method, and is
still a coroutine function if it was one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import wrapt

from durable import registry
from durable.definitions import TaskDefinition, WorkflowDefinition, task_options, workflow_options
from durable.options import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from types import ModuleType

    from durable.handles import Run
    from durable.options import AfterSuccess, Key, OnCodeChange, OnDrift, OnRunning

_loaded: ModuleType | None = None


def _engine() -> Any:
    """The engine is imported at the first call of a decorated function, so that decorating costs next to nothing."""
    global _loaded  # noqa: PLW0603 -- looked up on every call, so kept at hand
    if _loaded is None:
        from durable import engine  # noqa: PLC0415 -- slow to import, see above

        _loaded = engine
    return _loaded


def _call_task(definition: TaskDefinition, /, *call: Any) -> Any:
    return (_loaded or _engine()).call_task(definition, *call)


def _call_anonymous_task(definition: TaskDefinition, /, *call: Any) -> Any:
    return (_loaded or _engine()).call_anonymous_task(definition, *call)


def _call_generator(definition: TaskDefinition, /, *call: Any) -> Any:
    return (_loaded or _engine()).call_generator(definition, *call)


def _call_workflow(definition: WorkflowDefinition, /, *call: Any) -> Any:
    return (_loaded or _engine()).call_workflow(definition, *call)


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

if TYPE_CHECKING:

    class _Wrapper:
        __wrapped__: Callable[..., Any]

        def __init__(self, wrapped: Callable[..., Any], wrapper: Callable[..., Any]) -> None: ...

    class _BoundWrapper(_Wrapper):
        _self_parent: Any
        _self_instance: Any

else:
    _Wrapper, _BoundWrapper = wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper


class BoundTask(_BoundWrapper, Generic[P, R]):
    """A task as the method of an object."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def with_options(self, **options: Any) -> BoundTask[P, R]:
        """Return the same method with some options changed; takes what `Task.with_options` takes."""
        bound: BoundTask[P, R] = self._self_parent.with_options(**options).__get__(self._self_instance)
        return bound


class Task(_Wrapper, Generic[P, R]):
    """A function whose calls inside a run are steps: recorded once, replayed afterwards."""

    __bound_function_wrapper__ = BoundTask

    def __init__(self, definition: TaskDefinition) -> None:
        """Wrap the function of a definition."""
        call = _call_anonymous_task if definition.is_anonymous else _call_task
        if definition.is_generator:
            call = _call_generator
        super().__init__(definition.function, partial(call, definition))
        self._self_definition = definition

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Task[P, R]: ...
        @overload
        def __get__(self: Task[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> BoundTask[Q, R]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    @property
    def definition(self) -> TaskDefinition:
        """The options of the task."""
        return self._self_definition

    def with_options(self, **options: Any) -> Task[P, R]:
        """Return the same task with some options of `@task` changed, for one call.

        Raises `DefinitionError` for options that are unknown or of the wrong type.
        """
        return Task(self._self_definition.with_options(**options))

    def __reduce_ex__(self, protocol: Any) -> str:
        """Pickle by reference, as functions are."""
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> Task[P, R]:
        """Functions are not copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Task[P, R]:
        """Functions are not copied."""
        return self


class BoundWorkflow(_BoundWrapper, Generic[P, R]):
    """A workflow as the method of an object."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def with_options(self, **options: Any) -> BoundWorkflow[P, R]:
        """Return the same method with some options changed; takes what `Workflow.with_options` takes."""
        bound: BoundWorkflow[P, R] = self._self_parent.with_options(**options).__get__(self._self_instance)
        return bound

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Execute the workflow in the background of this process; see `Workflow.start`."""
        definition: WorkflowDefinition = self._self_parent.definition
        run: Run = _engine().start_workflow(definition, self.__wrapped__, self._self_instance, args, kwargs)
        return run


class Workflow(_Wrapper, Generic[P, R]):
    """A function whose calls are runs: unfinished ones are resumed, finished ones return their stored result."""

    __bound_function_wrapper__ = BoundWorkflow

    def __init__(self, definition: WorkflowDefinition) -> None:
        """Wrap the function of a definition."""
        super().__init__(definition.function, partial(_call_workflow, definition))
        self._self_definition = definition

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Workflow[P, R]: ...
        @overload
        def __get__(
            self: Workflow[Concatenate[S, Q], R], instance: S, owner: type | None = None
        ) -> BoundWorkflow[Q, R]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    @property
    def definition(self) -> WorkflowDefinition:
        """The options of the workflow."""
        return self._self_definition

    def with_options(
        self,
        *,
        run_id: str | None = None,
        fresh: bool | None = None,
        on_running: OnRunning | None = None,
        retry_failed: bool | None = None,
        context: Any = ABSENT,
        snapshot: Mapping[str, Any] | None = None,
        trust_snapshot: bool | None = None,
        **options: Any,
    ) -> Workflow[P, R]:
        """Return the same workflow with options for one call.

        `run_id` alone decides which run is meant. `fresh=True` starts a new run; an unfinished one with the same inputs
        becomes superseded. `on_running="join"` waits for a run that is alive elsewhere. `retry_failed=True` tries every
        failed step again. `context` is a live object that is never stored: bodies get it from `durable.context()`.
        `snapshot` is what `Run.snapshot` gave: its finished steps are not executed again; `trust_snapshot=True` accepts
        one that holds pickled values and no signature. The other options are those of `@workflow`.

        Raises `DefinitionError` for options that are unknown or of the wrong type. The call raises `SnapshotError` for a
        snapshot that cannot be used, before anything is executed.
        """
        named: dict[str, Any] = {
            "run_id": run_id,
            "fresh": fresh,
            "on_running": on_running,
            "retry_failed": retry_failed,
        }
        named |= {"snapshot": snapshot, "trust_snapshot": trust_snapshot}
        given = {option: value for option, value in named.items() if value is not None}
        if context is not ABSENT:
            given["context"] = context
        return Workflow(self._self_definition.with_options(**given, **options))

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Execute the workflow in the background of this process and return its `Run` at once.

        A sync workflow gets a thread of its own. An async one becomes a task of the running event loop; without one it
        gets a thread with a loop of its own. Raises what opening the run raises, `RunInProgressError` for one.
        """
        run: Run = _engine().start_workflow(self._self_definition, self.__wrapped__, None, args, kwargs)
        return run

    def __reduce_ex__(self, protocol: Any) -> str:
        """Pickle by reference, as functions are."""
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> Workflow[P, R]:
        """Functions are not copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Workflow[P, R]:
        """Functions are not copied."""
        return self


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    aliases: Iterable[str] = (),
    key: Key | None = None,
    ignore: str | Iterable[str] = (),
    version: str | int | None = None,
    idempotent: bool | None = None,
    no_effect_on: type[BaseException] | Iterable[type[BaseException]] = (),
    reconcile: Callable[..., Any] | None = None,
    undo: Callable[..., Any] | None = None,
    attempts: int = 1,
    retry: Any = None,
    timeout: float | timedelta | None = None,
    replay: bool = True,
    on_drift: OnDrift | None = None,
    on_code_change: OnCodeChange | None = None,
    sensitive: bool = False,
    cache: bool | timedelta = False,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task: inside a run each call of it is a step that is executed once and then replayed.

    `name`, `aliases`: stable name (default `module.qualname`) and former ones. `key`: business key, a format string over
    the arguments or a function of them, in place of the fingerprint of the arguments. `ignore`: parameters left out of
    the fingerprint. `version`: bump it to set recorded results aside. `idempotent=False`: never executed again unless it
    is known that it did not happen. `no_effect_on`: exception types that prove that nothing happened. `reconcile`: asks
    the outside world whether a step in doubt happened; returns `happened(value)` or `did_not_happen`. `undo`: called as
    `undo(result, *args, **kwargs)`, or with the result alone if it takes one parameter, for each finished step of a run that
    fails, the last one first; it is a step of its own, with its own options if it is a task. `attempts`: executions within
    one execution of the run. `retry`: a `tenacity.Retrying` or `AsyncRetrying` instead. `timeout`: seconds or `timedelta`
    per attempt. `replay=False`: recorded, but executed in every execution of the run. `on_drift`, `on_code_change`: what
    to do when inputs or the body changed under a run. `sensitive`: no preview of arguments, key or error is stored.
    `cache`: True or a time to live; the result is shared by all runs.

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
def workflow(
    *,
    name: str | None = None,
    aliases: Iterable[str] = (),
    run_id: str | None = None,
    version: str | int | None = None,
    after_success: AfterSuccess = "return",
    idempotent: bool | None = None,
    on_drift: OnDrift | None = None,
    on_code_change: OnCodeChange | None = None,
) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...
def workflow(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a workflow: same inputs, same run.

    A call starts a run, resumes an unfinished one, or returns the stored result of one that succeeded.

    `name`, `aliases`: stable name and former ones. `run_id`: a format string over the arguments that names the run
    (default: a digest of workflow, version and inputs). `version`: bump it for new runs. `after_success="rerun"`: a call
    after a success is a new run. `idempotent`, `on_drift`, `on_code_change`: defaults for its tasks.

    Raises `DefinitionError` for options of the wrong type, unknown parameters, generators and classes.
    """
    if function is None:
        return partial(_make_workflow, workflow_options(options))
    return _make_workflow(workflow_options(options), function)


def _make_workflow(options: dict[str, Any], function: Callable[..., Any]) -> Workflow[Any, Any]:
    definition = WorkflowDefinition(function=function, **options)
    registry.workflows.add(definition)
    return Workflow(definition)
