"""What the options of the decorators may be: everything else is refused when the function is decorated."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Literal, get_args

from durable.concurrency.futures import TaskFuture
from durable.declarations.naming import check_run_id, is_unicode
from durable.errors import DefinitionError
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from durable.declarations.definitions import Definition, TaskDefinition, WorkflowDefinition

    ExecutorOption = Literal["threads", "processes"] | Executor | Callable[[], Executor]

OnDrift = Literal["error", "run", "reuse"]
OnCodeChange = Literal["keep", "rerun", "error"]
AfterSuccess = Literal["return", "rerun"]
OnRunning = Literal["error", "join"]
When = Literal["succeeded", "always"]
Key = str | Callable[..., object]


class Absent:
    """Stands for an option that was not given, where None is a value."""

    def __repr__(self) -> str:
        return "<absent>"


ABSENT = Absent()


def template_fields(template: str) -> set[str]:
    """Names of the parameters that a key or run id template uses; raises ValueError for a malformed one."""
    fields = set()
    for _, name, _, conversion in string.Formatter().parse(template):
        if name is not None:
            if conversion not in (None, "", "r", "s", "a"):
                raise ValueError(f"!{conversion} is no conversion")
            root = name.partition(".")[0].partition("[")[0]
            if not root or root.isdigit():
                raise ValueError(f"{{{name}}} names no parameter")
            fields.add(root)
    return fields


def check_known(kind: str, options: dict[str, Any], known: Iterable[str], elsewhere: Iterable[str] = ()) -> None:
    """Refuse options that do not exist, and name the nearest; those `elsewhere` are options of one call."""
    for option in options:
        if option not in known:
            is_elsewhere = option in elsewhere
            hint = " It is one of with_options(...), for one call." if is_elsewhere else suggestion(option, known)
            raise DefinitionError(f"@{kind} has no option {option!r}.{hint}")


def as_tuple(kind: str, option: str, value: Any) -> tuple[Any, ...]:
    """Take one or several as several."""
    if isinstance(value, str | type | TaskFuture):
        return (value,)
    if not isinstance(value, Iterable):
        raise DefinitionError(f"@{kind}({option}=...) takes one or several, not {value!r}.")
    return tuple(value)


def _check_common(kind: str, definition: Definition) -> None:
    function = definition.plain
    if not callable(function):
        raise DefinitionError(f"@{kind} decorates functions, not {type(function).__name__}: {function!r}.")
    if inspect.isclass(function):
        raise DefinitionError(f"@{kind} decorates functions and methods, not the class {function.__qualname__}.")
    if kind == "workflow" and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        raise DefinitionError(
            f"{definition.qualname} is a generator, and generators cannot be a workflow, only a task. "
            f"Return a list instead, or make each item a call of a task."
        )
    try:
        _ = definition.signature
    except (ValueError, TypeError):
        raise DefinitionError(
            f"@{kind} cannot tell the parameters of {definition.qualname}: decorate a function of your own that calls it."
        ) from None
    _check_type(kind, "name", definition.name, str, optional=True)
    if definition.name == "":
        raise DefinitionError(f"@{kind}(name='') names nothing.")
    _check_type(kind, "version", definition.version, str, optional=True)
    if not all(isinstance(alias, str) and alias for alias in definition.aliases):
        raise DefinitionError(f"@{kind}(aliases=...) takes former names, not {definition.aliases!r}.")
    for option, texts in (
        ("name", (definition.name,)),
        ("version", (definition.version,)),
        ("aliases", definition.aliases),
    ):
        for text in texts:
            if text is not None and ("\0" in text or not is_unicode(text)):
                raise DefinitionError(f"@{kind}({option}={text!r}): {option} has to be valid Unicode without NUL.")


def _check_type(
    kind: str, option: str, value: object, expected: type | tuple[type, ...], *, optional: bool = False
) -> None:
    if value is None and optional:
        return
    expected = expected if isinstance(expected, tuple) else (expected,)
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        names = " or ".join(each.__name__ for each in expected)
        raise DefinitionError(f"@{kind}({option}={value!r}): {option} has to be {names}.")


def _check_timeout(kind: str, timeout: float | None) -> None:
    _check_type(kind, "timeout", timeout, (int, float), optional=True)
    if timeout is not None and not 0 < timeout <= TIMEOUT_MAX:
        raise DefinitionError(
            f"@{kind}(timeout={timeout}): a timeout is a positive number of seconds, at most {TIMEOUT_MAX:g}."
        )


def _check_choice(kind: str, option: str, value: object, choices: Sequence[str], *, optional: bool = True) -> None:
    if value is None and optional:
        return
    if value not in choices:
        raise DefinitionError(f"@{kind}({option}={value!r}): {option} is one of {', '.join(map(repr, choices))}.")


def _check_template(kind: str, option: str, template: str, definition: Definition) -> None:
    try:
        fields = template_fields(template)
    except ValueError as error:
        raise DefinitionError(f"@{kind}({option}={template!r}) is not a format string: {error}.") from None
    known = set(definition.signature.names)
    if unknown := sorted(fields - known):
        raise DefinitionError(
            f"@{kind}({option}={template!r}) names {', '.join(map(repr, unknown))}, but {definition.qualname} has "
            f"the parameters {', '.join(definition.signature.names) or '(none)'}."
        )


def check_task(task: TaskDefinition) -> None:
    """Refuse options of `@task` that cannot be meant."""
    _check_common("task", task)
    _check_type("task", "idempotent", task.idempotent, (bool, timedelta), optional=True)
    if task.window is not None and task.window <= 0:
        raise DefinitionError(
            f"@task(idempotent={task.idempotent!r}): the time for which the receiver knows an idempotency key is positive."
        )
    for option in ("replay", "sensitive"):
        _check_type("task", option, getattr(task, option), bool)
    _check_type("task", "attempts", task.attempts, int)
    if task.attempts < 1:
        raise DefinitionError(f"@task(attempts={task.attempts}): at least one attempt is needed.")
    _check_timeout("task", task.timeout)
    _check_choice("task", "on_drift", task.on_drift, get_args(OnDrift))
    _check_choice("task", "on_code_change", task.on_code_change, get_args(OnCodeChange))
    _check_type("task", "cache", task.cache, (bool, timedelta))
    _check_executor("task", task.executor)
    _check_submission(task)
    for exception in task.no_effect_on:
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise DefinitionError(f"@task(no_effect_on=...) takes exception types, not {exception!r}.")
    _check_task_functions(task)
    _check_task_parameters(task)
    _check_task_combinations(task)


def _check_executor(kind: str, executor: object) -> None:
    if executor is None or executor in ("threads", "processes"):
        return
    if isinstance(executor, str) or not (callable(executor) or callable(getattr(executor, "submit", None))):
        raise DefinitionError(
            f"@{kind}(executor={executor!r}): executor is 'threads', 'processes', a concurrent.futures.Executor or a function "
            f"that makes one."
        )


def _check_submission(task: TaskDefinition) -> None:
    _check_choice("task", "when", task.when, get_args(When), optional=False)
    _check_type("task", "priority", task.priority, (int, float))
    if task.priority != task.priority:
        raise DefinitionError("@task(priority=nan): a priority is a number, the larger the sooner.")
    for future in task.after:
        if not isinstance(future, TaskFuture):
            raise DefinitionError(f"@task(after=...) takes futures of submit(...), not {future!r}.")


def _check_task_functions(task: TaskDefinition) -> None:
    if task.reconcile is not None and not callable(task.reconcile):
        raise DefinitionError(f"@task(reconcile={task.reconcile!r}): reconcile is a function of the task's arguments.")
    if task.reconcile is not None:
        _check_reconcile(task, task.reconcile)
    if task.undo is not None:
        _check_undo(task, task.undo)
    if task.cost is not None and (not callable(task.cost) or inspect.iscoroutinefunction(task.cost)):
        raise DefinitionError(f"@task(cost={task.cost!r}): cost is a plain function of the task's result.")
    if task.retry is not None and not all(hasattr(task.retry, part) for part in ("retry", "stop", "wait", "copy")):
        raise DefinitionError(f"@task(retry={task.retry!r}): retry is a tenacity.Retrying or AsyncRetrying object.")
    if getattr(task.retry, "retry_error_callback", None) is not None:
        raise DefinitionError(
            "@task(retry=...) does not call retry_error_callback: handle the exception of the last attempt in the workflow."
        )
    if task.retry is not None and task.attempts != 1:
        raise DefinitionError(
            "@task takes attempts= or retry=, not both: put the number of attempts into retry's stop."
        )


def _check_reconcile(task: TaskDefinition, reconcile: Callable[..., object]) -> None:
    """Find out now, and not when a step is in doubt, whether the function can be asked."""
    name = getattr(reconcile, "__qualname__", repr(reconcile))
    if inspect.iscoroutinefunction(reconcile) and not task.is_async:
        raise DefinitionError(
            f"@task(reconcile={name}) of {task.qualname}: it is `async def` and the task is not, so nobody could await its "
            f"answer. Make both `async def`, or neither."
        )
    parameters = _parameters_of(task)
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    try:
        takes = inspect.signature(reconcile)
    except ValueError:  # a builtin that does not say
        return
    if not any(_can_take(takes, given) for given in (parameters, required)):
        raise DefinitionError(
            f"@task(reconcile={name}) of {task.qualname}: it is called with the arguments of the call, "
            f"({', '.join(map(str, parameters))}), and takes {takes}."
        )


def _parameters_of(task: TaskDefinition) -> list[inspect.Parameter]:
    return list(inspect.signature(task.plain).parameters.values())[task.takes_self :]


def _bind(takes: inspect.Signature, parameters: Iterable[inspect.Parameter], *first: None) -> None:
    """Raise TypeError unless a function takes arguments for these parameters, after some others."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    given = [parameter for parameter in parameters if parameter.kind not in several]
    named = [parameter.name for parameter in given if parameter.kind is parameter.KEYWORD_ONLY]
    takes.bind(*first, *[None] * (len(given) - len(named)), **dict.fromkeys(named))


def _can_take(takes: inspect.Signature, parameters: Iterable[inspect.Parameter]) -> bool:
    try:
        _bind(takes, parameters)
    except TypeError:
        return False
    return True


def _check_undo(task: TaskDefinition, undo: TaskDefinition) -> None:
    if undo.is_generator:
        raise DefinitionError(f"@task(undo={undo.qualname}) of {task.qualname}: a compensation is no generator.")
    parameters = _parameters_of(task)
    try:
        if not undo.takes_one:
            _bind(inspect.signature(undo.plain), parameters, None)
    except TypeError as error:
        raise DefinitionError(
            f"@task(undo={undo.qualname}) of {task.qualname}: it is called with the result and then the arguments of the "
            f"call, (result, {', '.join(map(str, parameters))}), and does not take them: {error}. Give it these "
            f"parameters, or *args and **kwargs, or a single one for the result alone."
        ) from None


def _check_task_parameters(task: TaskDefinition) -> None:
    if isinstance(task.key, str):
        _check_template("task", "key", task.key, task)
        if not task.key:
            raise DefinitionError("@task(key='') is the same for all calls; name the parameters that tell them apart.")
    elif task.key is not None and not callable(task.key):
        raise DefinitionError(f"@task(key={task.key!r}): key is a format string or a function of the arguments.")
    if unknown := [name for name in task.ignore if name not in task.signature.names]:
        raise DefinitionError(
            f"@task(ignore=...) names {', '.join(sorted(map(repr, unknown)))}, but {task.qualname} has the parameters "
            f"{', '.join(task.signature.names) or '(none)'}."
        )


def _check_task_combinations(task: TaskDefinition) -> None:
    if task.idempotent is False and not task.replay:
        raise DefinitionError(
            f"{task.qualname}: replay=False executes the body in every execution of the run, idempotent=False never "
            f"executes it again. Choose one."
        )
    if task.idempotent is False and task.cache:
        raise DefinitionError(
            f"{task.qualname}: a cached result stands for an effect that did not happen in this run, so cache= is "
            f"refused with idempotent=False."
        )
    if task.undo is not None and task.cache:
        raise DefinitionError(
            f"{task.qualname}: a cached result stands for an effect of another run, which this one must not undo, so "
            f"cache= is refused with undo=."
        )
    if task.is_generator:
        _check_generator(task)
    if isinstance(task.cache, timedelta) and task.cache <= timedelta(0):
        raise DefinitionError(f"@task(cache={task.cache!r}): a time to live is positive.")
    if task.cache and task.ignore and task.key is None:
        raise DefinitionError(f"{task.qualname}: cache= with ignored parameters needs a key= that says what is shared.")


def _check_generator(task: TaskDefinition) -> None:
    refused = {
        "attempts": task.attempts > 1,
        "retry": task.retry is not None,
        "timeout": task.timeout is not None,
        "cache": task.cache is not False,
        "undo": task.undo is not None,
        "cost": task.cost is not None,
    }
    if wrong := [option for option, is_given in refused.items() if is_given]:
        raise DefinitionError(
            f"{task.qualname} is a generator, whose items are handed out before it ends, so {wrong[0]}= is refused. Give "
            f"the option to tasks that it calls, or return a list."
        )


def check_workflow(workflow: WorkflowDefinition) -> None:
    """Refuse options of `@workflow` that cannot be meant."""
    _check_common("workflow", workflow)
    for option in ("idempotent", "fresh", "retry_failed"):
        _check_type("workflow", option, getattr(workflow, option), bool, optional=True)
    _check_timeout("workflow", workflow.timeout)
    _check_choice("workflow", "after_success", workflow.after_success, get_args(AfterSuccess), optional=False)
    _check_choice("workflow", "on_running", workflow.on_running, get_args(OnRunning), optional=False)
    _check_choice("workflow", "on_drift", workflow.on_drift, get_args(OnDrift))
    _check_choice("workflow", "on_code_change", workflow.on_code_change, get_args(OnCodeChange))
    _check_type("workflow", "snapshot", workflow.snapshot, Mapping, optional=True)
    _check_type("workflow", "trust_snapshot", workflow.trust_snapshot, bool)
    _check_executor("workflow", workflow.executor)
    _check_type("workflow", "max_workers", workflow.max_workers, int, optional=True)
    if workflow.max_workers is not None and workflow.max_workers < 1:
        raise DefinitionError(f"@workflow(max_workers={workflow.max_workers}): at least one worker is needed.")
    _check_type("workflow", "run_id", workflow.run_id, str, optional=True)
    if workflow.run_id is not None:
        _check_template("workflow", "run_id", check_run_id(workflow.run_id), workflow)
