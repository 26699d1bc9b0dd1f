"""What a decorator says about a function: options, checked when they are given and never changed afterwards.

A definition knows the function and how to name it, and nothing of runs, stores or the engine.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from durable.declarations.naming import check_run_id, is_script, names_script, stable_module_name
from durable.declarations.signatures import Binding, Signature
from durable.errors import DefinitionError
from durable.identity.labels import escape, label_prefix
from durable.identity.secrets_of_calls import is_secret_name
from durable.options import ABSENT, as_tuple, check_known, check_task, check_workflow, template_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from durable.concurrency.futures import TaskFuture
    from durable.options import AfterSuccess, ExecutorOption, Key, OnCodeChange, OnDrift, OnRunning, When


@dataclass(frozen=True, kw_only=True, eq=False)
class Definition:
    """What tasks and workflows have in common: a function under a stable name."""

    function: Callable[..., Any]
    name: str | None = None
    aliases: tuple[str, ...] = ()
    version: str | None = None
    key: Key | None = None
    ignore: tuple[str, ...] = ()
    sensitive: bool = False
    anchor: str | None = None

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
    def is_anonymous(self) -> bool:
        """Whether the function has no name of its own: a closure, a lambda, a partial, an object that can be called."""
        return self.name is None and "<" in getattr(self.plain, "__qualname__", "<")

    @cached_property
    def full_name(self) -> str:
        """The stable name that records carry."""
        if self.name is not None:
            return self.name
        return f"{stable_module_name(self.plain, self.anchor)}.{self.qualname}"

    @cached_property
    def hides_key(self) -> bool:
        """Whether step keys show a digest in the place of the business key: it is made of what must not be stored."""
        return self.sensitive or (isinstance(self.key, str) and any(map(is_secret_name, template_fields(self.key))))

    def at(self, anchor: str | None) -> Self:
        """Give the same definition as it is named in a store of this anchor, None for the first store of the process."""
        if anchor is None or not self._depends_on_store:
            return self
        if anchor not in self._elsewhere:
            self._elsewhere[anchor] = replace(self, anchor=anchor)
        return self._elsewhere[anchor]

    @cached_property
    def _depends_on_store(self) -> bool:
        return self.name is None and is_script(self.plain)

    @cached_property
    def _elsewhere(self) -> dict[str, Self]:
        return {}

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
        """Digest of the body's normalised source, None where there is none; of one without a name also of what it holds."""
        if not self._is_checked_for_changes:
            return None
        if self.is_anonymous:
            from durable.identity.held_values import behaviour_digest  # noqa: PLC0415 -- slow to import, needed at the first call

            return behaviour_digest(self.plain)
        from durable.identity.source_code import code_digest  # noqa: PLC0415 -- see above

        return code_digest(self.plain)

    @cached_property
    def code_hex(self) -> str | None:
        """`code` in hexadecimal digits, as records keep it."""
        return self.code.hex() if self.code is not None else None

    @cached_property
    def label(self) -> str:
        """Name and version: what makes records its own."""
        return self.full_name if self.version is None else f"{self.full_name}@{self.version}"

    @cached_property
    def former_labels(self) -> tuple[str, ...]:
        """Labels of records under former names."""
        suffix = "" if self.version is None else f"@{self.version}"
        return tuple(alias + suffix for alias in self.aliases)

    def is_meant_by(self, label: str) -> bool:
        """Whether a label is that of this function in a script that lies elsewhere beside its store."""
        name, _, version = label.partition("@")
        return version == (self.version or "") and self.is_named(name)

    def is_named(self, name: str) -> bool:
        """Whether a full name is that of this function in a script that lies elsewhere beside its store."""
        return names_script(name.removesuffix(f".{self.qualname}"), self.plain) and name.endswith(f".{self.qualname}")

    @cached_property
    def label_prefix(self) -> bytes:
        """The label as the beginning of what a call says."""
        return label_prefix(self.label)

    @cached_property
    def binding(self) -> Binding:
        """How the arguments of a call of the function as it stands count."""
        return Binding.of(self.signature, self.ignore, self.label_prefix)

    @cached_property
    def bound_binding(self) -> Binding:
        """How the arguments of a call as a method count."""
        return Binding.of(self.bound_signature, self.ignore, self.label_prefix)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskDefinition(Definition):
    """The options of `@task`; `None` for those that the workflow or the environment decides."""

    idempotent: bool | timedelta | None = None
    no_effect_on: tuple[type[BaseException], ...] = ()
    reconcile: Callable[..., Any] | None = None
    undo: TaskDefinition | None = None
    attempts: int = 1
    retry: Any = None
    timeout: float | None = None
    replay: bool = True
    on_drift: OnDrift | None = None
    on_code_change: OnCodeChange | None = None
    cache: bool | timedelta = False
    executor: ExecutorOption | None = None
    cost: Callable[[Any], Any] | None = None
    after: tuple[TaskFuture[Any], ...] = ()
    when: When = "succeeded"
    priority: float = 0
    has_body: bool = True
    is_child_run: bool = False

    def __post_init__(self) -> None:
        check_task(self)

    @cached_property
    def flags(self) -> int:
        """What a record of any call of the task is flagged with."""
        from durable.records import StepFlag  # noqa: PLC0415 -- slow to import, needed at the first call

        return (
            StepFlag.SENSITIVE * self.sensitive
            | StepFlag.NO_BODY * (not self.has_body)
            | StepFlag.ALWAYS * (not self.replay)
            | StepFlag.CHILD_RUN * self.is_child_run
            | StepFlag.UNDO * (self.undo is not None)
            | StepFlag.COST * (self.cost is not None)
        )

    @cached_property
    def is_async_generator(self) -> bool:
        """Whether the function is an async generator."""
        return inspect.isasyncgenfunction(self.plain)

    @cached_property
    def is_generator(self) -> bool:
        """Whether the function gives items one after the other."""
        return self.is_async_generator or inspect.isgeneratorfunction(self.plain)

    @cached_property
    def may_be_undone(self) -> bool:
        """Whether the failure of a run may undo what a call of the task did."""
        return self.undo is not None or self.is_child_run

    @cached_property
    def takes_one(self) -> bool:
        """Whether the function has a single parameter, and that one positional."""
        kinds = [parameter.kind for parameter in inspect.signature(self.plain).parameters.values()]
        return kinds in ([inspect.Parameter.POSITIONAL_ONLY], [inspect.Parameter.POSITIONAL_OR_KEYWORD])

    @cached_property
    def replays_at_once(self) -> bool:
        """Whether a stored result is all that a replay looks at."""
        return self.replay and self.key is None and self.undo is None

    @cached_property
    def is_plain(self) -> bool:
        """Whether nothing but the body makes a first call of the task wait: no option asks for more."""
        asks = self.timeout is not None or self.retry is not None or self.cache or self.notes_more
        return self.has_body and not asks

    @cached_property
    def notes_more(self) -> bool:
        """Whether options ask for something beside the intent: a cost, the end of a key's window, a compensation."""
        return self.cost is not None or self.window is not None or self.may_be_undone

    @property
    def _is_checked_for_changes(self) -> bool:
        return self.has_body and not self.is_child_run

    @property
    def has_submit_options(self) -> bool:
        """Whether options were given that mean nothing in a plain call."""
        return bool(self.after or self.when != "succeeded" or self.priority)

    @property
    def may_repeat(self) -> bool:
        """Whether one execution of the run may execute the body more than once."""
        return self.attempts > 1 or self.retry is not None

    def is_idempotent(self, default: bool | None) -> bool:
        """Resolve the option against the workflow's default."""
        return (default if self.idempotent is None else self.idempotent) is not False

    @cached_property
    def window(self) -> float | None:
        """Seconds for which the receiver knows an idempotency key, None for good."""
        return self.idempotent.total_seconds() if isinstance(self.idempotent, timedelta) else None

    def with_options(self, **options: Any) -> TaskDefinition:
        """Return the same task with some options changed; checks them like the decorator does."""
        given = {name: options.pop(name) for name in _SUBMIT_OPTIONS & options.keys()}
        if "after" in given:
            given["after"] = as_tuple("task", "after", given["after"])
        return replace(self, **given, **task_options(options))


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkflowDefinition(Definition):
    """The options of `@workflow`, and those of `with_options` that concern one call."""

    run_id: str | None = None
    exact_run_id: str | None = None
    after_success: AfterSuccess = "return"
    timeout: float | None = None
    idempotent: bool | None = None
    on_drift: OnDrift | None = None
    on_code_change: OnCodeChange | None = None
    fresh: bool | None = None
    on_running: OnRunning = "error"
    max_workers: int | None = None
    executor: ExecutorOption | None = None
    budget: Decimal | None = None
    has_own_budget: bool = False
    retry_failed: bool | None = None
    is_block: bool = False
    context: Any = ABSENT
    snapshot: Mapping[str, Any] | None = None
    trust_snapshot: bool = False

    def __post_init__(self) -> None:
        check_workflow(self)

    def with_options(self, **options: Any) -> WorkflowDefinition:
        """Return the same workflow with some options changed; `run_id` is then taken as it is."""
        given = {name: options.pop(name) for name in _CALL_OPTIONS & options.keys()}
        if "run_id" in options:
            given["exact_run_id"] = check_run_id(options.pop("run_id"))
        if "budget" in options:
            given["has_own_budget"] = True
        return replace(self, **given, **workflow_options(options))

    @cached_property
    def former_titles(self) -> dict[str, str]:
        """What run ids may begin with under former names, each of which may stand with its module, and those labels."""
        return {
            ".".join(alias.split(".")[first:]): label
            for alias, label in zip(self.aliases, self.former_labels, strict=True)
            for first in range(alias.count(".") + 1)
        }

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


_CALL_OPTIONS = frozenset({"fresh", "on_running", "retry_failed", "context", "snapshot", "trust_snapshot"})
_SUBMIT_OPTIONS = frozenset({"after", "when", "priority"})
_OURS = {"function", "anchor", "has_body", "is_child_run", "exact_run_id", "is_block", "has_own_budget"}
TASK_OPTIONS = frozenset(TaskDefinition.__dataclass_fields__) - _SUBMIT_OPTIONS - _OURS
_WORKFLOW_OPTIONS = frozenset(WorkflowDefinition.__dataclass_fields__) - _CALL_OPTIONS - _OURS - {"key", "ignore", "sensitive"}


def task_options(options: dict[str, Any]) -> dict[str, Any]:
    """Bring what a user passed to `@task` into the form that the definition keeps."""
    check_known("task", options, TASK_OPTIONS, elsewhere=_SUBMIT_OPTIONS)
    given = _converted("task", options)
    if given.get("undo") is not None:
        given["undo"] = _compensation(given["undo"])
    return given


def _compensation(undo: Any) -> TaskDefinition:
    """Take a function as a task without options; a task keeps its own."""
    definition = getattr(undo, "definition", None)
    if isinstance(definition, TaskDefinition):
        return definition
    if not callable(undo):
        raise DefinitionError(f"@task(undo={undo!r}): undo is a function of the task's result and arguments.")
    return TaskDefinition(function=undo)


def workflow_options(options: dict[str, Any]) -> dict[str, Any]:
    """Bring what a user passed to `@workflow` into the form that the definition keeps."""
    check_known("workflow", options, _WORKFLOW_OPTIONS, elsewhere=_CALL_OPTIONS)
    return _converted("workflow", options)


def _converted(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    given = dict(options)
    for option in ("aliases", "ignore", "no_effect_on"):
        if option in given:
            given[option] = as_tuple(kind, option, given[option])
    if isinstance(given.get("version"), int) and not isinstance(given["version"], bool):
        given["version"] = str(given["version"])
    if isinstance(given.get("timeout"), timedelta):
        given["timeout"] = given["timeout"].total_seconds()
    if given.get("budget") is not None:
        from durable.costs.costs import budget_of  # noqa: PLC0415 -- few workflows have a budget

        try:
            given["budget"] = budget_of(given["budget"])
        except ValueError as error:
            raise DefinitionError(f"@{kind}(budget=...) is a number of US dollars: {error}.") from None
    return given
