from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from durable.declarations.definitions import TaskDefinition, WorkflowDefinition, task_options, workflow_options
from durable.declarations.registry import Definitions
from durable.declarations.wrappers import Task
from durable.errors import DefinitionError
from durable.records import StepFlag

if TYPE_CHECKING:
    from collections.abc import Callable


def work(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> None: ...


async def work_async() -> None: ...


class Shop:
    def method(self, x: int) -> None: ...

    @staticmethod
    def static(x: int) -> None: ...

    @classmethod
    def of_class(cls, x: int) -> None: ...


def make_task(function: Callable[..., Any] = work, **options: Any) -> TaskDefinition:
    return TaskDefinition(function=function, **task_options(options))


def make_workflow(function: Callable[..., Any] = work, **options: Any) -> WorkflowDefinition:
    return WorkflowDefinition(function=function, **workflow_options(options))


def test_names() -> None:
    """Records carry module and qualified name; step keys begin with the qualified name; a given name stands for both."""

    def inner() -> None: ...

    assert (make_task().full_name, make_task().title) == (f"{__name__}.work", "work")
    assert make_task(Shop.method).full_name == f"{__name__}.Shop.method"
    assert make_task(inner).title == "test_names.inner"
    named = make_task(name="a/b:c~d%")
    assert (named.full_name, named.title, named.segment) == ("a/b:c~d%", "a/b:c~d%", "a%2Fb%3Ac%7Ed%25")


def test_a_version_makes_records_its_own() -> None:
    """The version is part of the label of records, also of those under former names; numbers are taken as text."""
    versioned = make_task(name="new", aliases="old", version=2)
    assert (versioned.version, versioned.label, versioned.former_labels) == ("2", "new@2", ("old@2",))
    plain = make_task(name="new", aliases=["old", "older"])
    assert (plain.label, plain.former_labels) == ("new", ("old", "older"))
    assert versioned.label_prefix != plain.label_prefix


def test_one_or_several() -> None:
    """Options that take several also take one, and generators of them."""
    assert make_task(no_effect_on=ValueError).no_effect_on == (ValueError,)
    assert make_task(no_effect_on=(each for each in (ValueError, KeyError))).no_effect_on == (ValueError, KeyError)
    assert tuple(make_task(ignore="c").ignore) == ("c",)
    assert make_workflow(aliases="old").aliases == ("old",)


def test_timeouts_are_seconds() -> None:
    """A timeout may be seconds or a timedelta."""
    assert make_task(timeout=timedelta(minutes=1)).timeout == 60
    assert make_task(timeout=0.5).timeout == 0.5


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        (None, None, True),
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (False, True, False),
        (False, None, False),
    ],
)
def test_the_task_decides_before_the_workflow(own: bool | None, default: bool | None, expected: bool) -> None:
    """`idempotent` of the task counts, else that of the workflow, else True."""
    assert make_task(idempotent=own).is_idempotent(default) is expected


def test_with_options_changes_a_copy() -> None:
    """`with_options` gives a changed definition, keeps the other options and leaves the first as it is."""
    first = make_task(name="job", attempts=3)
    second = first.with_options(timeout=1)
    assert (second.name, second.attempts, second.timeout) == ("job", 3, 1)
    assert first.timeout is None
    with pytest.raises(DefinitionError):
        first.with_options(attempts=0)
    run = make_workflow(run_id="{a}").with_options(run_id="{a}", fresh=True)
    assert (run.run_id, run.exact_run_id, run.fresh) == ("{a}", "{a}", True)


def test_flags_say_what_a_later_execution_has_to_know() -> None:
    """The flags of records follow from the options."""
    assert make_task().flags == 0
    assert make_task(sensitive=True).flags == StepFlag.SENSITIVE
    assert make_task(replay=False).flags == StepFlag.ALWAYS
    assert make_workflow().as_step.flags == StepFlag.CHILD_RUN
    assert TaskDefinition(function=work, has_body=False).flags == StepFlag.NO_BODY


def test_a_workflow_as_a_step_keeps_its_names() -> None:
    """A call of a workflow in a run is a step under the workflow's name, former names and version."""
    step = make_workflow(name="flow", aliases="old", version="1", idempotent=False).as_step
    assert (step.label, step.former_labels, step.is_idempotent(None)) == ("flow@1", ("old@1",), True)


def test_kinds_of_functions() -> None:
    """What is bound by the call itself is no parameter; coroutine functions are told from others."""
    assert make_task().signature.names == ("a", "b", "rest", "c", "more")
    assert make_task(Shop.method).signature.names == ("self", "x")
    assert make_task(Shop.method).bound_signature.names == ("x",)
    assert make_task(inspect.getattr_static(Shop, "static")).bound_signature.names == ("x",)
    of_class = make_task(inspect.getattr_static(Shop, "of_class"))
    assert (of_class.takes_self, of_class.signature.names) == (True, ("x",))
    assert make_task(work_async).is_async
    assert not make_task(work).is_async


def test_arguments_that_count() -> None:
    """An ignored parameter has no frame, and a default is encoded so that it can be left out."""
    parameters = {name: (frame, default) for name, frame, default in make_task(ignore=["a", "c"]).binding.parameters}
    assert [name for name, (frame, _) in parameters.items() if frame is None] == ["a", "c"]
    assert [name for name, (_, default) in parameters.items() if default is None] == ["a"]


def test_the_body_is_watched_unless_there_is_none() -> None:
    """A task's code is digested; a workflow as a step and a recorded value have no body of their own to watch."""
    code = make_task().code
    assert code is not None
    assert make_task().code_hex == code.hex()
    assert make_task(work_async).code != code
    assert make_workflow().as_step.code is None
    assert TaskDefinition(function=work, has_body=False).code is None


def test_a_registry_finds_by_name_and_former_name() -> None:
    """The registry finds a definition by its full and former names; a later one of the same name takes the place."""
    found: Definitions[TaskDefinition] = Definitions()
    first, second = make_task(name="a", aliases="old"), make_task(name="a")
    found.add(first)
    assert (found.get("a"), found.get("old"), found.get("b")) == (first, first, None)
    found.add(second)
    assert (found.get("a"), found.get("old")) == (second, first)


def undo_one(result: int) -> None: ...


def undo_any(*args: int, **kwargs: int) -> None: ...


def undo_all(result: None, a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> None: ...


def test_a_compensation_takes_the_result_and_the_arguments() -> None:
    """`undo` takes the result and the arguments, or the result alone; a task keeps its own options."""
    for function, takes_one in ((undo_one, True), (undo_any, False), (undo_all, False)):
        undo = make_task(undo=function).undo
        assert undo is not None
        assert (undo.plain, undo.takes_one) == (function, takes_one)
    paid: Task[..., None] = Task(make_task(undo_one, idempotent=False))
    assert make_task(undo=paid).undo is paid.definition
    assert make_task(undo=undo_one).with_options(version=2).undo is not None
    assert make_task(undo=undo_one).with_options(undo=None).undo is None
    assert make_task(undo=undo_one).flags == StepFlag.UNDO


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"undo": 5}, "undo is a function"),
        ({"undo": lambda: None}, r"takes? the result|too many positional"),
        ({"undo": lambda result, a: None}, "too many positional arguments"),
        ({"undo": lambda result, a, b, d: None}, "missing a required argument: 'd'"),
        ({"undo": lambda result, a, b: None}, "unexpected keyword argument 'c'"),
        ({"undo": undo_one, "cache": True}, "cache= is refused with undo="),
    ],
)
def test_a_compensation_that_cannot_be_called_is_refused(options: dict[str, Any], message: str) -> None:
    """A compensation that does not take what it is called with is refused when the function is decorated."""
    with pytest.raises(DefinitionError, match=message):
        make_task(**options)
