"""What decorated functions are: wrappers that bind the call and hand it to the engine.

A decorated function keeps its signature, docstring, type hints and pickling by reference, works as a method, and is
still a coroutine function if it was one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import wrapt

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import ModuleType
    from typing import Self, Unpack

    from durable.concurrency.completions import MapResults
    from durable.concurrency.futures import TaskFuture
    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition
    from durable.declarations.typed_options import TaskCallOptions, WorkflowCallOptions
    from durable.runs.handles import Run

    _Function = Callable[..., Any]
    _Args = tuple[Any, ...]
    _Kwargs = dict[str, Any]

_loaded: ModuleType | None = None


def _engine() -> Any:
    """The engine is imported at the first call of a decorated function, so that decorating costs next to nothing."""
    global _loaded  # noqa: PLW0603 -- looked up on every call, so kept at hand
    if _loaded is None:
        from durable.steps import engine  # noqa: PLC0415 -- slow to import, see above

        _loaded = engine
    return _loaded


def _call_task(definition: TaskDefinition, function: _Function, instance: Any, args: _Args, kwargs: _Kwargs) -> Any:
    return (_loaded or _engine()).call_task(definition, function, instance, args, kwargs)


def _call_anonymous_task(definition: TaskDefinition, function: _Function, instance: Any, args: _Args, kwargs: _Kwargs) -> Any:
    return (_loaded or _engine()).call_anonymous_task(definition, function, instance, args, kwargs)


def _call_generator(definition: TaskDefinition, function: _Function, instance: Any, args: _Args, kwargs: _Kwargs) -> Any:
    return (_loaded or _engine()).call_generator(definition, function, instance, args, kwargs)


def _call_on_executor(definition: TaskDefinition, /, *call: Any) -> Any:
    return _submitting().call_on_executor(definition, *call)


def _refuse_call(definition: TaskDefinition, /, *_: Any) -> Any:
    raise ConfigurationError(
        f"Task {definition.full_name!r} was not executed: after=, when= and priority= belong to submit(...) and map(...)."
    )


def caller_of(definition: TaskDefinition) -> Callable[..., Any]:
    """Give what a call of the task is handed to: takes the definition, the function, its object and the arguments."""
    if definition.has_submit_options:
        return _refuse_call
    if definition.is_generator:
        return _call_generator
    if definition.executor is not None:
        return _call_on_executor
    return _call_anonymous_task if definition.is_anonymous else _call_task


def _submitting() -> Any:
    from durable.concurrency import submitting  # noqa: PLC0415 -- slow to import, as the engine

    return submitting


def _call_workflow(
    definition: WorkflowDefinition, function: _Function, instance: Any, args: _Args, kwargs: _Kwargs
) -> Any:
    return (_loaded or _engine()).call_workflow(definition, function, instance, args, kwargs)


_OPTIONAL = ("run_id", "fresh", "on_running", "retry_failed", "snapshot", "trust_snapshot")  # None: as if not given

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
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


class _Decorated(_Wrapper):
    """What a decorated function has in common with a plain one: it is pickled by reference and never copied."""

    def __reduce_ex__(self, protocol: Any) -> str:
        """Pickle by reference, as functions are."""
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> Self:
        """Functions are not copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Functions are not copied."""
        return self


def _of_object(bound_to: object, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda function, _, args, kwargs: call(function, bound_to, args, kwargs)


class BoundTask(_BoundWrapper, Generic[P, R_co]):
    """A task as the method of an object."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def with_options(self, **options: Unpack[TaskCallOptions]) -> BoundTask[P, R_co]:
        """Return the same method with some options changed; takes what `Task.with_options` takes."""
        bound: BoundTask[P, R_co] = self._self_parent.with_options(**options).__get__(self._self_instance)
        return bound

    @overload
    def submit(self: BoundTask[P, Coroutine[Any, Any, S]], *args: Any, **kwargs: Any) -> TaskFuture[S]: ...
    @overload
    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[R_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[Any]:
        """Submit a call of the method; see `Task.submit`."""
        bound = (self._self_parent.definition, self.__wrapped__, self._self_instance)
        future: TaskFuture[Any] = _submitting().submit_task(*bound, args, kwargs)
        return future

    @overload
    def map(
        self: BoundTask[P, Coroutine[Any, Any, S]],
        *iterables: Iterable[Any],
        concurrency: int | None = None,
        ordered: bool = True,
    ) -> MapResults[S]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], concurrency: int | None = None, ordered: bool = True
    ) -> MapResults[R_co]: ...
    def map(self, *iterables: Iterable[Any], concurrency: int | None = None, ordered: bool = True) -> MapResults[Any]:
        """Submit a call of the method for each item; see `Task.map`."""
        bound = (self._self_parent.definition, self.__wrapped__, self._self_instance)
        results: MapResults[Any] = _submitting().map_task(*bound, iterables, concurrency, ordered=ordered)
        return results


class Task(_Decorated, Generic[P, R_co]):
    """A function whose calls inside a run are steps: recorded once, replayed afterwards."""

    __bound_function_wrapper__ = BoundTask

    def __init__(self, definition: TaskDefinition, call: Callable[..., Any] | None = None) -> None:
        """Wrap the function of a definition; calls are handed to `call`, or to what executes such a task."""
        call = call or partial(caller_of(definition), definition)
        super().__init__(definition.function, call)
        self._self_definition = definition
        bound_to = None if self._self_binding == "builtin" else getattr(definition.function, "__self__", None)
        self._self_call = call if bound_to is None else _of_object(bound_to, call)

    if TYPE_CHECKING:
        _self_binding: str

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Task[P, R_co]: ...
        @overload
        def __get__(
            self: Task[Concatenate[S, Q], R_co], instance: S, owner: type | None = None
        ) -> BoundTask[Q, R_co]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    else:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            """Do what the wrapper of the base does, which looks for that object in each call, at the price of an exception."""
            return self._self_call(self.__wrapped__, None, args, kwargs)

    @property
    def definition(self) -> TaskDefinition:
        """The options of the task."""
        return self._self_definition

    def with_options(self, **options: Unpack[TaskCallOptions]) -> Task[P, R_co]:
        """Return the same task with some options of `@task` changed, for one call.

        Three more are for `submit` and `map`: `after`, futures that have to be completed first; `when="always"`, to be
        executed even if one of them failed or was skipped (default `"succeeded"`); `priority`, a number: of the tasks that
        wait for a free place, those with the largest begin first.

        Raises `DefinitionError` for options that are unknown or of the wrong type.
        """
        return Task(self._self_definition.with_options(**options))

    @overload
    def submit(self: Task[P, Coroutine[Any, Any, S]], *args: Any, **kwargs: Any) -> TaskFuture[S]: ...
    @overload
    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[R_co]: ...
    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[Any]:
        """Have a call executed in a thread of the run, or as an asyncio task if both are async; gives its future at once.

        The step key is fixed here. Futures among the arguments, also inside lists, tuples, sets and dicts, are
        dependencies: the task gets their results, or is skipped with `UpstreamFailedError` if one failed. All that was
        submitted is waited for when the body that submitted it ends; if a failure was not looked at by then, the body
        fails with an `ExceptionGroup`.

        Raises `OutsideRunError` outside a run, and `ConfigurationError` for futures of another run.
        """
        future: TaskFuture[Any] = _submitting().submit_task(self._self_definition, self.__wrapped__, None, args, kwargs)
        return future

    @overload
    def map(
        self: Task[P, Coroutine[Any, Any, S]],
        *iterables: Iterable[Any],
        concurrency: int | None = None,
        ordered: bool = True,
    ) -> MapResults[S]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], concurrency: int | None = None, ordered: bool = True
    ) -> MapResults[R_co]: ...
    def map(self, *iterables: Iterable[Any], concurrency: int | None = None, ordered: bool = True) -> MapResults[Any]:
        """Submit a call for each item (several iterables: as the builtin `map` takes them), all at once.

        At most `concurrency` of them are under execution at a time. Iterate over what comes back for the results, in the
        order of the items or, with `ordered=False`, as they are completed; in async code use `async for`, or await it for
        a list. All calls are checked before the first is executed.

        Raises what `submit` raises, and `ConfigurationError` for a `concurrency` below 1.
        """
        bound = self._self_definition, self.__wrapped__, None
        results: MapResults[Any] = _submitting().map_task(*bound, iterables, concurrency, ordered=ordered)
        return results


class BoundWorkflow(_BoundWrapper, Generic[P, R_co]):
    """A workflow as the method of an object."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def with_options(self, **options: Unpack[WorkflowCallOptions]) -> BoundWorkflow[P, R_co]:
        """Return the same method with some options changed; takes what `Workflow.with_options` takes."""
        bound: BoundWorkflow[P, R_co] = self._self_parent.with_options(**options).__get__(self._self_instance)
        return bound

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Execute the workflow in the background of this process; see `Workflow.start`."""
        definition: WorkflowDefinition = self._self_parent.definition
        run: Run = _engine().start_workflow(definition, self.__wrapped__, self._self_instance, args, kwargs)
        return run


class Workflow(_Decorated, Generic[P, R_co]):
    """A function whose calls are runs: unfinished ones are resumed, finished ones return their stored result."""

    __bound_function_wrapper__ = BoundWorkflow

    def __init__(self, definition: WorkflowDefinition) -> None:
        """Wrap the function of a definition."""
        super().__init__(definition.function, partial(_call_workflow, definition))
        self._self_definition = definition

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Workflow[P, R_co]: ...
        @overload
        def __get__(
            self: Workflow[Concatenate[S, Q], R_co], instance: S, owner: type | None = None
        ) -> BoundWorkflow[Q, R_co]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    @property
    def definition(self) -> WorkflowDefinition:
        """The options of the workflow."""
        return self._self_definition

    def with_options(self, **options: Unpack[WorkflowCallOptions]) -> Workflow[P, R_co]:
        """Return the same workflow with options for one call.

        `run_id` alone decides which run is meant. `fresh=True` starts a new run; an unfinished one with the same inputs
        becomes superseded. `on_running="join"` waits for a run that is alive elsewhere. `retry_failed=True` tries every
        failed step again. `context` is a live object that is never stored: bodies get it from `durable.context()`.
        `snapshot` is what `Run.snapshot` gave: its finished steps are not executed again; `trust_snapshot=True` accepts
        one that holds pickled values and no signature. The other options are those of `@workflow`.

        Raises `DefinitionError` for options that are unknown or of the wrong type. The call raises `SnapshotError` for a
        snapshot that cannot be used, before anything is executed.
        """
        given = {option: value for option, value in options.items() if value is not None or option not in _OPTIONAL}
        return Workflow(self._self_definition.with_options(**given))

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Execute the workflow in the background of this process and return its `Run` at once.

        A sync workflow gets a thread of its own. An async one becomes a task of the running event loop; without one it
        gets a thread with a loop of its own. Raises what opening the run raises, `RunInProgressError` for one.
        """
        run: Run = _engine().start_workflow(self._self_definition, self.__wrapped__, None, args, kwargs)
        return run
