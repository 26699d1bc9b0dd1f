"""What cannot be meant is a typed error before anything is executed, and loses nothing that is recorded."""

from __future__ import annotations

import functools
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

import durable
from durable import task, workflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

executed: list[object] = []
pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    """Nothing is executed yet."""
    executed.clear()


def work(x: object, *rest: object, y: int = 1, **more: object) -> str:
    executed.append(x)
    return "done"


async def ask_the_bank(x: object) -> durable.Happened:
    return durable.happened(x)


def _wrong(options: dict[str, Any]) -> str:
    text = ",".join(f"{name}={value!r}" for name, value in options.items())
    return text.partition(" at 0x")[0][:40]


WRONG_FOR_BOTH: list[dict[str, Any]] = [
    {"name": 5},
    {"name": ""},
    {"name": "a\0b"},
    {"name": "\ud800"},
    {"aliases": 5},
    {"aliases": [1]},
    {"aliases": ""},
    {"aliases": ["former", "\ud800"]},
    {"version": 1.5},
    {"version": True},
    {"version": "\0"},
    {"idempotent": "no"},
    {"idempotent": 1},
    {"on_drift": "x"},
    {"on_drift": []},
    {"on_code_change": "x"},
    {"function": len},
    {"unknown": 1},
]
WRONG_FOR_TASKS: list[dict[str, Any]] = [
    {"attempts": 0},
    {"attempts": -1},
    {"attempts": "3"},
    {"attempts": True},
    {"attempts": 2.5},
    {"attempts": None},
    {"timeout": -1},
    {"timeout": 0},
    {"timeout": "3"},
    {"timeout": True},
    {"timeout": float("nan")},
    {"timeout": float("inf")},
    {"timeout": timedelta(0)},
    {"retry": object()},
    {"retry": 3},
    {"retry": tenacity.Retrying(), "attempts": 3},
    {"no_effect_on": ValueError("an instance")},
    {"no_effect_on": [ValueError, "x"]},
    {"no_effect_on": int},
    {"reconcile": 5},
    {"reconcile": lambda: durable.did_not_happen},
    {"reconcile": lambda x, y, z: durable.did_not_happen},
    {"reconcile": ask_the_bank},
    {"replay": 0},
    {"replay": False, "idempotent": False},
    {"sensitive": "x"},
    {"cache": 5},
    {"cache": None},
    {"cache": timedelta(-1)},
    {"cache": True, "idempotent": False},
    {"cache": True, "ignore": "x"},
    {"key": ""},
    {"key": 5},
    {"key": "{z}"},
    {"key": "{}"},
    {"key": "{0}"},
    {"key": "{x"},
    {"key": "{x!q}"},
    {"ignore": "z"},
    {"ignore": 5},
    {"ignore": [[]]},
    {"run_id": "a"},
    {"after_success": "rerun"},
    {"fresh": True},
    {"has_body": False},
]
WRONG_FOR_WORKFLOWS: list[dict[str, Any]] = [
    {"run_id": "{z}"},
    {"run_id": "{}"},
    {"run_id": "{x"},
    {"run_id": "{x!q}"},
    {"run_id": ""},
    {"run_id": "a\0"},
    {"run_id": "x" * 256},
    {"run_id": 5},
    {"after_success": "x"},
    {"after_success": None},
    {"attempts": 3},
    {"key": "{x}"},
    {"cache": True},
    {"ignore": "x"},
    {"fresh": True},
    {"on_running": "join"},
    {"retry_failed": True},
    {"exact_run_id": "a"},
]
WRONG_FOR_A_CALL: list[dict[str, Any]] = [
    {"run_id": ""},
    {"run_id": 5},
    {"run_id": "a\0"},
    {"run_id": "\ud800"},
    {"run_id": "x" * 256},
    {"fresh": 1},
    {"fresh": "yes"},
    {"on_running": "x"},
    {"retry_failed": "x"},
    {"exact_run_id": "a"},
    {"attempts": 3},
    {"unknown": 1},
]


@pytest.mark.parametrize("options", WRONG_FOR_BOTH + WRONG_FOR_TASKS, ids=_wrong)
def test_wrong_options_of_a_task(options: dict[str, Any]) -> None:
    """A wrong option is refused by name when the function is decorated, and by `with_options`."""
    decorate: Any = task
    with pytest.raises(durable.DefinitionError) as refused:
        decorate(**options)(work)
    assert any(name in str(refused.value) for name in options)
    with pytest.raises(durable.DefinitionError):
        decorate(work).with_options(**options)


@pytest.mark.parametrize("options", WRONG_FOR_BOTH + WRONG_FOR_WORKFLOWS, ids=_wrong)
def test_wrong_options_of_a_workflow(options: dict[str, Any]) -> None:
    """A wrong option of a workflow is refused when the function is decorated."""
    decorate: Any = workflow
    with pytest.raises(durable.ConfigurationError):
        decorate(**options)(work)


@pytest.mark.parametrize("options", WRONG_FOR_A_CALL, ids=_wrong)
def test_wrong_options_of_a_call(options: dict[str, Any]) -> None:
    """A wrong option for one call of a workflow, or for a block, is refused before anything is executed."""
    flow: Any = workflow(work)
    with pytest.raises(durable.ConfigurationError):
        flow.with_options(**options)(1)
    given = {"run_id": "block", **options}
    with pytest.raises(durable.ConfigurationError), durable.run(**given):
        executed.append("block")
    assert executed == []
    assert durable.list_runs() == []


def test_an_option_of_one_call_is_named_as_such() -> None:
    """An option that belongs to `with_options` is refused in `@workflow` with a hint where it belongs."""
    decorate: Any = workflow
    with pytest.raises(durable.DefinitionError, match=r"'fresh'. It is one of with_options"):
        decorate(fresh=True)
    with pytest.raises(durable.DefinitionError, match="Did you mean 'attempts'"):
        task(atempts=3)  # type: ignore[call-overload]  # the mistake under test


def generated() -> Iterator[int]:
    yield 1


async def generated_async() -> AsyncIterator[int]:
    yield 1


class Callback:
    def __call__(self, x: int) -> int:
        executed.append(x)
        return x


GENERATORS = {
    "generator": generated,
    "async generator": generated_async,
    "static generator": staticmethod(generated),
    "partial generator": functools.partial(generated),
}
NOT_DECORATED = {
    "class": Callback,
    "builtin class": int,
    "metaclass": type,
    "number": 5,
    "text": "x",
    "property": property(work),
    "without signature": max,
}


@pytest.mark.parametrize("function", NOT_DECORATED.values(), ids=NOT_DECORATED.keys())
@pytest.mark.parametrize("decorate", [task, workflow], ids=["task", "workflow"])
def test_what_is_no_function_is_not_decorated(decorate: Any, function: Any) -> None:
    """Classes, values and functions without a signature are refused."""
    with pytest.raises(durable.DefinitionError):
        decorate(function)


@pytest.mark.parametrize("function", GENERATORS.values(), ids=GENERATORS.keys())
def test_a_generator_is_no_workflow(function: Any) -> None:
    """A generator of any kind can be a task, and no workflow: the refusal says how to do without."""
    assert task(function).definition.is_generator
    with pytest.raises(durable.DefinitionError, match="Return a list instead"):
        workflow(function)


class Shop:
    """Tasks as methods of all kinds, whichever decorator comes first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __durable_key__(self) -> str:
        return self.name

    @task
    def method(self, x: int) -> tuple[str, int]:
        executed.append("method")
        return self.name, x

    @task
    @staticmethod
    def inner_static(x: int) -> int:
        executed.append("inner_static")
        return x

    @staticmethod
    @task
    def outer_static(x: int) -> int:
        executed.append("outer_static")
        return x

    @task
    @classmethod
    def inner_class(cls, x: int) -> tuple[str, int]:
        executed.append("inner_class")
        return cls.__name__, x

    @classmethod
    @task
    def outer_class(cls, x: int) -> tuple[str, int]:
        executed.append("outer_class")
        return cls.__name__, x


size = task(len)
called = task(Callback())
doubled = task(functools.partial(lambda a, b: a * b, 2))


@workflow
def all_kinds() -> list[Any]:
    shop: Any = Shop("main")
    shops: Any = Shop
    kinds: list[Callable[[Any], Any]] = [
        shop.method,
        functools.partial(Shop.method, shop),
        shop.inner_static,
        shops.inner_static,
        shops.outer_static,
        shop.inner_class,
        shops.inner_class,
        shops.outer_class,
        called,
        doubled,
    ]
    results = [kind(3) for kind in kinds]
    results.append(size("abc"))
    if len(executed) < 20:
        raise ConnectionError
    return results


def test_all_kinds_of_functions_are_steps() -> None:
    """Methods, static and class methods, callable objects, partials and builtins are executed once and replayed."""
    with pytest.raises(ConnectionError):
        all_kinds()
    first = [*executed]
    executed.extend(["filling"] * 20)
    results = all_kinds()
    assert executed[: len(first)] == first
    assert set(executed[len(first) :]) == {"filling"}
    assert results == [("main", 3)] * 2 + [3] * 3 + [("Shop", 3)] * 3 + [3, 6, 3]


@pytest.mark.parametrize("step", ["", "nothing", "#99", "work:"])
def test_unknown_steps(step: str) -> None:
    """A step that is not there is refused by name, and the run stays as it is."""

    @workflow(run_id="known")
    def known() -> str:
        return task(name="job")(work)(1)

    known()
    run = durable.get_run("known")
    before = run.steps
    with pytest.raises(durable.NotFoundError, match="job:"):
        run.resolve(step, durable.did_not_happen)
    assert run.steps == before


@pytest.mark.parametrize("run_id", ["nothing", "x" * 1000, "\0", "\ud800", "%", "_", "know"])
def test_unknown_runs(run_id: str) -> None:
    """A run that is not there is refused, and a `Run` whose run was removed says so."""
    workflow(run_id="known")(work)(1)
    if run_id == "know":
        run = durable.get_run(run_id)
        run.delete()
        decide = functools.partial(run.resolve, "x", durable.did_not_happen)
        for act in (run.cancel, run.resume, run.result, run.delete, lambda: run.steps, decide):
            with pytest.raises(durable.NotFoundError, match="durable ls"):
                act()
    else:
        with pytest.raises(durable.NotFoundError, match="durable ls"):
            durable.get_run(run_id)


@pytest.mark.parametrize("run_id", ["", None, 5, b"known"])
def test_what_is_no_run_id(run_id: Any) -> None:
    """What cannot be an id is refused as such."""
    with pytest.raises(durable.ConfigurationError):
        durable.get_run(run_id)


ODD = [
    "a b",
    "a/b",
    "a\nb",
    "\r",
    "'",
    '"',
    "%",
    "%s",
    "~",
    "a~2",
    "ü",
    "日本語",
    "😀",
    " ",
    "\t",
    "\x1b[31m",
    "x" * 255,
    "..",
]
ODDER = ["-x", "--help", "#1", "\\", "$HOME", "`ls`", "\u202e", "cache:x", "\x7f", "[red]", "{x}", "e\u0301", "é"]


def test_odd_run_ids_make_the_round_trip() -> None:
    """Any text of up to 255 characters names a run of its own, through run, list, get and resume."""
    flow: Any = workflow(work)
    for run_id in ODD + ODDER:
        assert flow.with_options(run_id=run_id)(run_id) == "done"
    assert executed == ODD + ODDER
    assert [run.id for run in durable.list_runs()] == (ODD + ODDER)[::-1]
    for run_id in ODD + ODDER:
        assert durable.get_run(run_id).id == run_id
        assert flow.with_options(run_id=run_id)(run_id) == "done"
        assert durable.get_run(run_id).resume() == "done"
        with durable.run(f"{run_id[:200]} block") as run:
            assert run.id == f"{run_id[:200]} block"
    assert executed == ODD + ODDER


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{x.id}", 1),
        ("{x:q}", "a"),
        ("{x}", ""),
        ("{x}", "a\0"),
        ("{x}", "x" * 256),
        ("{x}", "\ud800"),
        ("{x[0]}", None),
    ],
)
def test_a_run_id_template_that_names_no_run(template: str, value: object) -> None:
    """A template that cannot be filled, or gives what is no id, is refused with the template."""
    with pytest.raises(durable.ConfigurationError, match="run_id="):
        workflow(run_id=template)(work)(value)
    assert (executed, durable.list_runs()) == ([], [])


@pytest.mark.parametrize(
    ("key", "value"),
    [("{x.id}", 1), ("{x:q}", "a"), ("{x}", ""), (lambda *_, **__: None, 1), (lambda *_, **__: 1 / 0, 1)],
    ids=["attribute", "format", "empty", "none", "raises"],
)
def test_a_key_that_names_nothing(key: Any, value: object) -> None:
    """A key that cannot be made, or is empty, is refused before the body; the run goes on where it stood when it can."""

    @workflow(run_id="keyed")
    def keyed() -> str:
        task(work)("before")
        return task(key=key)(work)(value)

    for _ in range(2):
        with pytest.raises(durable.ConfigurationError, match="was not executed: its key= "):
            keyed()
    assert executed == ["before"]


@pytest.mark.parametrize(
    "text", ["\ud800", "caf\udce9.txt", "a\0b", "x" * 100_000, "a/b~2:c%d\n", "\x1b[31m"], ids=ascii
)
def test_any_text_is_a_key(text: str) -> None:
    """Any text serves as argument, key and scope, is told from others, and costs no record."""

    @workflow(run_id="texts")
    def texts() -> str:
        for value in (text, text + "'"):
            task(work)(value)
            task(key="{x}", name="keyed")(work)(value)
            with durable.scope(value):
                task(work)(value)
        if len(executed) < 10:
            raise ConnectionError
        return "end"

    with pytest.raises(ConnectionError):
        texts()
    assert executed == [text] * 3 + [text + "'"] * 3
    executed.extend(["filling"] * 10)
    assert texts() == "end"
    assert executed[6:] == ["filling"] * 10
    assert len({step.key for step in durable.get_run("texts").steps}) == 6


class Unnamed:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no value")


@pytest.mark.parametrize(
    ("value", "path"),
    [(Unnamed(), "x is a"), ([1, {"a": Unnamed()}], r"x\[1\]\['a'\] is a"), ((Unnamed(),), r"x\[0\] is a")],
)
def test_arguments_without_a_value(value: object, path: str) -> None:
    """An argument without a value names task, parameter and the path inside it, with ways out; the body is not executed."""

    @workflow(run_id="unnamed")
    def unnamed() -> str:
        task(work)("before")
        return task(name="job")(work)(value)

    for _ in range(2):
        with pytest.raises(durable.FingerprintError, match=path) as refused:
            unnamed()
        assert all(part in str(refused.value) for part in ("'job'", "'x'", "ignore=", "key=", "_x", "Unnamed"))
    assert executed == ["before"]


@pytest.mark.parametrize("options", [{"ignore": "x"}, {"key": "{y}"}])
def test_the_ways_out_work(options: dict[str, Any]) -> None:
    """With `ignore` or `key` the argument does not need a value."""
    assert workflow(run_id="out")(lambda: task(**options)(work)(Unnamed(), y=5))() == "done"


def test_a_cached_task_needs_arguments_with_a_value() -> None:
    """An argument that counts by its type alone cannot tell shared results apart."""

    @workflow(run_id="cached")
    def cached() -> str:
        return task(cache=True)(work)(threading.Lock())

    with pytest.raises(durable.ConfigurationError, match=r"counts by its type .* Give the task a key="):
        cached()
    assert executed == []


def strict(a: int, /, b: int, *, c: int = 0) -> int:
    executed.append(a)
    return a


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), {"d": 1}), ((1, 2), {"b": 1}), ((1,), {"a": 1, "b": 2})],
)
@pytest.mark.parametrize("decorate", [task, workflow], ids=["task", "workflow"])
def test_arguments_that_do_not_fit(decorate: Any, args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """Missing, extra and unknown arguments give the plain function's TypeError, and nothing is executed or recorded."""
    plain: Any = strict
    with pytest.raises(TypeError) as expected:
        plain(*args, **kwargs)
    called: list[str] = []

    @workflow(run_id="strict")
    def calls() -> None:
        called.append("")
        decorate(strict)(*args, **kwargs)

    with pytest.raises(TypeError) as raised:
        calls()
    assert str(raised.value) == str(expected.value)
    assert (executed, called) == ([], [""])
    assert durable.get_run("strict").steps == []


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_scope_has_a_name(name: Any) -> None:
    """A scope without a name is refused, inside and outside a run."""
    with pytest.raises(durable.ConfigurationError), durable.scope(name):
        executed.append("scope")
    assert executed == []


@pytest.mark.parametrize("options", [{"status": "broken"}, {"status": ""}])
def test_runs_of_no_status(options: dict[str, Any]) -> None:
    """A status that does not exist is refused with those that do."""
    with pytest.raises(durable.ConfigurationError, match="succeeded"):
        durable.list_runs(**options)


@pytest.mark.parametrize("db", [5, object(), b"x", "ftp://x/y", ["x"]])
def test_what_is_no_store(db: Any) -> None:
    """What is neither path, URL nor store is refused before a run begins."""
    with pytest.raises(durable.ConfigurationError):
        durable.configure(db)
        workflow(work)(1)
    assert executed == []
