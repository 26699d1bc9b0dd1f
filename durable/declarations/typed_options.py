"""The options as type checkers know them, in one place for the decorators and for `with_options`; never imported at runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from durable.concurrency.futures import TaskFuture
    from durable.costs.costs import Number
    from durable.options import AfterSuccess, ExecutorOption, Key, OnCodeChange, OnDrift, OnRunning, When


class _Options(TypedDict, total=False):
    name: str | None
    aliases: Iterable[str]
    version: str | int | None
    timeout: float | timedelta | None
    on_drift: OnDrift | None
    on_code_change: OnCodeChange | None
    executor: ExecutorOption | None


class TaskOptions(_Options, total=False):
    """What `@task` takes."""

    key: Key | None
    idempotent: bool | timedelta | None
    ignore: str | Iterable[str]
    no_effect_on: type[BaseException] | Iterable[type[BaseException]]
    reconcile: Callable[..., Any] | None
    undo: Callable[..., Any] | None
    attempts: int
    retry: Any
    replay: bool
    sensitive: bool
    cache: bool | timedelta
    cost: Callable[[Any], Number | Mapping[str, Number]] | None


class TaskCallOptions(TaskOptions, total=False):
    """What `Task.with_options` takes."""

    after: TaskFuture[Any] | Iterable[TaskFuture[Any]]
    when: When
    priority: float


class WorkflowOptions(_Options, total=False):
    """What `@workflow` takes."""

    idempotent: bool | None
    run_id: str | None
    after_success: AfterSuccess
    max_workers: int | None
    budget: Number | None


class WorkflowCallOptions(WorkflowOptions, total=False):
    """What `Workflow.with_options` takes."""

    fresh: bool | None
    on_running: OnRunning | None
    retry_failed: bool | None
    context: Any
    snapshot: Mapping[str, Any] | None
    trust_snapshot: bool | None
