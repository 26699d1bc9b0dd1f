"""What a decorator says about a function: options, checked when they are given and never changed afterwards.

A definition knows the function and how to name it, and nothing of runs, stores or the engine.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, get_args

from durable.errors import ConfigurationError, DefinitionError
from durable.naming import stable_module_name
from durable.signatures import Binding, Signature
from durable.step_keys import escape, label_prefix

OnDrift = Literal["error", "run", "reuse"]
OnCodeChange = Literal["keep", "rerun", "error"]
AfterSuccess = Literal["return", "rerun"]
OnRunning = Literal["error", "join"]
Key = str | Callable[..., object]


@dataclass(frozen=True, kw_only=True, eq=False)
class Definition:
    """What tasks and workflows have in common: a function under a stable name."""

    function: Callable[..., Any]
    name: str | None = None
    aliases: tuple[str, ...] = ()
    version: str | None = None
    key: Key | None = None
    ignore: frozenset[str] = frozenset()
    sensitive: bool = False

    @cached_property
    def plain(self) -> Callable[..., Any]:
        """The function below `staticmethod` and `classmethod`."""
        function: Callable[..., Any] = getattr(self.function, "__func__", self.function)
        return function

    @cached_property
    def qualname(self) -> str:
        """The function's name for people."""
        return getattr(self.plain, "__qualname__", type(self.plain).__qualname__).replace("<locals>.", "")

    @cached_property
    def full_name(self) -> str:
        """The stable name that records carry."""
        if self.name is not None:
            return self.name
        return f"{stable_module_name(self.plain)}.{self.qualname}"

    @cached_property
    def title(self) -> str:
        """The short name that step keys and run ids begin with."""
        return self.name if self.name is not None else self.qualname

    @cached_property
    def segment(self) -> str:
        """The short name as a segment of a step key."""
        return escape(self.title)

    @cached_property
    def is_async(self) -> bool:
        """Whether the body has to be awaited."""
        return inspect.iscoroutinefunction(self.plain)

    @cached_property
    def takes_self(self) -> bool:
        """Whether the function is a classmethod, whose first parameter is bound whatever the caller does."""
        return isinstance(self.function, classmethod)

    @cached_property
    def signature(self) -> Signature:
        """Parameters of the function as it stands."""
        return Signature(self.plain, bound=self.takes_self)

    @cached_property
    def bound_signature(self) -> Signature:
        """Parameters that are left when the function is called as a method."""
        return Signature(self.plain, bound=not isinstance(self.function, staticmethod))

    @property
    def _is_checked_for_changes(self) -> bool:
        return True

    @cached_property
    def code(self) -> bytes | None:
        """Digest of the body's normalised source, None where there is none."""
        from durable.source_code import code_digest  # noqa: PLC0415 -- slow to import, needed at the first call

        return code_digest(self.plain) if self._is_checked_for_changes else None

    @cached_property
    def label(self) -> str:
        """Name and version: what makes records its own."""
        return self.full_name if self.version is None else f"{self.full_name}@{self.version}"

    @cached_property
    def label_prefix(self) -> bytes:
        """The label as the beginning of what a call says."""
        return label_prefix(self.label)

    @cached_property
    def binding(self) -> Binding:
        """How the arguments of a call of the function as it stands count."""
        return self._binding(self.signature)

    @cached_property
    def bound_binding(self) -> Binding:
        """How the arguments of a call as a method count."""
        return self._binding(self.bound_signature)

    def _binding(self, signature: Signature) -> Binding:
        frames = (None if name in self.ignore else b"%d:%b=" % (len(name), name.encode()) for name in signature.names)
        defaults = (self._default_encoding(signature, name) for name in signature.names)
        return Binding(signature, tuple(zip(signature.names, frames, defaults, strict=True)))

    def _default_encoding(self, signature: Signature, name: str) -> bytes | None:
        from durable.encoding import Unencodable, encode  # noqa: PLC0415 -- slow to import, needed at the first call

        try:
            return encode(signature.defaults[name]) if name in signature.defaults else None
        except Unencodable:
            return None

    @cached_property
    def code_hex(self) -> str | None:
        """The same for records."""
        return self.code.hex() if self.code is not None else None

    def _check_common(self, kind: str) -> None:
        function = self.plain
        if not callable(function):
            raise DefinitionError(f"@{kind} decorates functions, not {type(function).__name__}: {function!r}.")
        if inspect.isclass(function):
            raise DefinitionError(f"@{kind} decorates functions and methods, not the class {function.__qualname__}.")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(
                f"{self.qualname} is a generator, and generators cannot be a {kind} yet. "
                f"Return a list instead, or make each item a call of a {kind} of its own."
            )
        _check_type(kind, "name", self.name, str, optional=True)
        if self.name == "":
            raise DefinitionError(f"@{kind}(name='') names nothing.")
        _check_type(kind, "version", self.version, str, optional=True)
        if not all(isinstance(alias, str) and alias for alias in self.aliases):
            raise DefinitionError(f"@{kind}(aliases=...) takes former names, not {self.aliases!r}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskDefinition(Definition):
    """The options of `@task`; `None` for those that the workflow or the environment decides."""

    idempotent: bool | None = None
    no_effect_on: tuple[type[BaseException], ...] = ()
    reconcile: Callable[..., Any] | None = None
    attempts: int = 1
    retry: Any = None
    timeout: float | None = None
    replay: bool = True
    on_drift: OnDrift | None = None
    on_code_change: OnCodeChange | None = None
    cache: bool | timedelta = False
    has_body: bool = True
    is_child_run: bool = False

    def __post_init__(self) -> None:
        self._check_common("task")
        _check_task(self)

    @cached_property
    def flags(self) -> int:
        """What a record of any call of the task is flagged with."""
        from durable.records import StepFlag  # noqa: PLC0415 -- slow to import, needed at the first call

        return (
            StepFlag.SENSITIVE * self.sensitive
            | StepFlag.NO_BODY * (not self.has_body)
            | StepFlag.ALWAYS * (not self.replay)
            | StepFlag.CHILD_RUN * self.is_child_run
        )

    @cached_property
    def former_labels(self) -> tuple[str, ...]:
        """Labels of records under former names."""
        suffix = "" if self.version is None else f"@{self.version}"
        return tuple(alias + suffix for alias in self.aliases)

    @property
    def _is_checked_for_changes(self) -> bool:
        return self.has_body and not self.is_child_run

    @property
    def may_repeat(self) -> bool:
        """Whether one execution of the run may execute the body more than once."""
        return self.attempts > 1 or self.retry is not None

    def is_idempotent(self, default: bool | None) -> bool:
        """Resolve the option against the workflow's default."""
        if self.idempotent is not None:
            return self.idempotent
        return default is not False

    def with_options(self, **options: Any) -> TaskDefinition:
        """Return the same task with some options changed; checks them like the decorator does."""
        return replace(self, **task_options(options))


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkflowDefinition(Definition):
    """The options of `@workflow`, and those of `with_options` that concern one call."""

    run_id: str | None = None
    exact_run_id: str | None = None
    after_success: AfterSuccess = "return"
    idempotent: bool | None = None
    on_drift: OnDrift | None = None
    on_code_change: OnCodeChange | None = None
    fresh: bool | None = None
    on_running: OnRunning = "error"
    retry_failed: bool | None = None

    def __post_init__(self) -> None:
        self._check_common("workflow")
        _check_workflow(self)

    def with_options(self, **options: Any) -> WorkflowDefinition:
        """Return the same workflow with some options changed; `run_id` is then taken as it is."""
        if "run_id" in options:
            options["exact_run_id"] = check_run_id(options.pop("run_id"))
        return replace(self, **workflow_options(options))

    @cached_property
    def as_step(self) -> TaskDefinition:
        """The step that a call of this workflow is inside another run."""
        return TaskDefinition(
            function=self.function,
            name=self.full_name,
            aliases=self.aliases,
            version=self.version,
            idempotent=True,
            is_child_run=True,
        )


_CALL_OPTIONS = frozenset({"fresh", "on_running", "retry_failed", "exact_run_id"})
_TASK_OPTIONS = frozenset(TaskDefinition.__dataclass_fields__) - {"function", "has_body", "is_child_run"}
_WORKFLOW_OPTIONS = frozenset(WorkflowDefinition.__dataclass_fields__) - {"function", "key", "ignore", "sensitive"}


def task_options(options: dict[str, Any]) -> dict[str, Any]:
    """Bring what a user passed to `@task` into the form that the definition keeps."""
    _check_known("task", options, _TASK_OPTIONS)
    given = dict(options)
    for option in ("aliases", "no_effect_on"):
        if option in given:
            given[option] = _as_tuple("task", option, given[option])
    if "ignore" in given:
        given["ignore"] = frozenset(_as_tuple("task", "ignore", given["ignore"]))
    if isinstance(given.get("timeout"), timedelta):
        given["timeout"] = given["timeout"].total_seconds()
    if isinstance(given.get("version"), int) and not isinstance(given["version"], bool):
        given["version"] = str(given["version"])
    return given


def workflow_options(options: dict[str, Any]) -> dict[str, Any]:
    """Bring what a user passed to `@workflow` into the form that the definition keeps."""
    _check_known("workflow", options, _WORKFLOW_OPTIONS)
    given = dict(options)
    if "aliases" in given:
        given["aliases"] = _as_tuple("workflow", "aliases", given["aliases"])
    if isinstance(given.get("version"), int) and not isinstance(given["version"], bool):
        given["version"] = str(given["version"])
    return given


def template_fields(template: str) -> set[str]:
    """Names of the parameters that a key or run id template uses; raises ValueError for a malformed one."""
    fields = set()
    for _, name, _, _ in string.Formatter().parse(template):
        if name is not None:
            root = name.partition(".")[0].partition("[")[0]
            if not root or root.isdigit():
                raise ValueError(f"{{{name}}} names no parameter")
            fields.add(root)
    return fields


def _check_known(kind: str, options: dict[str, Any], known: Iterable[str]) -> None:
    import difflib  # noqa: PLC0415 -- needed for a mistake only

    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, list(known), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DefinitionError(f"@{kind} has no option {option!r}.{hint}")


def _as_tuple(kind: str, option: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str | type):
        return (value,)
    if not isinstance(value, Iterable):
        raise DefinitionError(f"@{kind}({option}=...) takes one or several, not {value!r}.")
    return tuple(value)


def _check_type(
    kind: str, option: str, value: object, expected: type | tuple[type, ...], *, optional: bool = False
) -> None:
    if value is None and optional:
        return
    expected = expected if isinstance(expected, tuple) else (expected,)
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        names = " or ".join(each.__name__ for each in expected)
        raise DefinitionError(f"@{kind}({option}={value!r}): {option} has to be {names}.")


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


def _check_task(task: TaskDefinition) -> None:
    for option in ("idempotent",):
        _check_type("task", option, getattr(task, option), bool, optional=True)
    for option in ("replay", "sensitive"):
        _check_type("task", option, getattr(task, option), bool)
    _check_type("task", "attempts", task.attempts, int)
    if task.attempts < 1:
        raise DefinitionError(f"@task(attempts={task.attempts}): at least one attempt is needed.")
    _check_type("task", "timeout", task.timeout, (int, float), optional=True)
    if task.timeout is not None and not 0 < task.timeout < float("inf"):
        raise DefinitionError(f"@task(timeout={task.timeout}): a timeout is a positive number of seconds.")
    _check_choice("task", "on_drift", task.on_drift, get_args(OnDrift))
    _check_choice("task", "on_code_change", task.on_code_change, get_args(OnCodeChange))
    _check_type("task", "cache", task.cache, (bool, timedelta))
    for exception in task.no_effect_on:
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise DefinitionError(f"@task(no_effect_on=...) takes exception types, not {exception!r}.")
    _check_task_functions(task)
    _check_task_parameters(task)
    _check_task_combinations(task)


def _check_task_functions(task: TaskDefinition) -> None:
    if task.reconcile is not None and not callable(task.reconcile):
        raise DefinitionError(f"@task(reconcile={task.reconcile!r}): reconcile is a function of the task's arguments.")
    if task.retry is not None and not all(hasattr(task.retry, part) for part in ("retry", "stop", "wait", "copy")):
        raise DefinitionError(f"@task(retry={task.retry!r}): retry is a tenacity.Retrying or AsyncRetrying object.")
    if task.retry is not None and task.attempts != 1:
        raise DefinitionError(
            "@task takes attempts= or retry=, not both: put the number of attempts into retry's stop."
        )


def _check_task_parameters(task: TaskDefinition) -> None:
    if isinstance(task.key, str):
        _check_template("task", "key", task.key, task)
        if not task.key:
            raise DefinitionError("@task(key='') is the same for all calls; name the parameters that tell them apart.")
    elif task.key is not None and not callable(task.key):
        raise DefinitionError(f"@task(key={task.key!r}): key is a format string or a function of the arguments.")
    if unknown := sorted(str(name) for name in task.ignore - set(task.signature.names)):
        raise DefinitionError(
            f"@task(ignore=...) names {', '.join(map(repr, unknown))}, but {task.qualname} has the parameters "
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
    if isinstance(task.cache, timedelta) and task.cache <= timedelta(0):
        raise DefinitionError(f"@task(cache={task.cache!r}): a time to live is positive.")
    if task.cache and task.ignore and task.key is None:
        raise DefinitionError(f"{task.qualname}: cache= with ignored parameters needs a key= that says what is shared.")


def _check_workflow(workflow: WorkflowDefinition) -> None:
    for option in ("idempotent", "fresh", "retry_failed"):
        _check_type("workflow", option, getattr(workflow, option), bool, optional=True)
    _check_choice("workflow", "after_success", workflow.after_success, get_args(AfterSuccess), optional=False)
    _check_choice("workflow", "on_running", workflow.on_running, get_args(OnRunning), optional=False)
    _check_choice("workflow", "on_drift", workflow.on_drift, get_args(OnDrift))
    _check_choice("workflow", "on_code_change", workflow.on_code_change, get_args(OnCodeChange))
    _check_type("workflow", "run_id", workflow.run_id, str, optional=True)
    if workflow.run_id is not None:
        _check_template("workflow", "run_id", check_run_id(workflow.run_id), workflow)


def check_run_id(run_id: object) -> str:
    """Refuse what cannot be the id of a run: it is a string of 1 to 255 characters without NUL."""
    if not isinstance(run_id, str):
        raise ConfigurationError(f"A run id is a string, not {type(run_id).__name__}: {run_id!r}.")
    limit = 255
    if not 0 < len(run_id) <= limit:
        raise ConfigurationError(f"A run id has 1 to {limit} characters, not {len(run_id)}.")
    if "\0" in run_id:
        raise ConfigurationError("A run id must not contain NUL.")
    try:
        run_id.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"A run id has to be valid Unicode: {run_id!r}.") from None
    return run_id
