"""Programs that found a way around the promise, by what they are rather than by when they are killed."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import durable
from durable import task, workflow
from durable.stores import open_store
from tests.crash.effects import did, effects
from tests.crash.payments import pay, way_to_pay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.crash.scenes import Scene


@workflow
def one_payment(order: str) -> str:
    return way_to_pay().with_options(version=os.environ.get("VERSION"))(order)


@pytest.mark.parametrize("by", ["arguments", "key"])
def test_a_new_version_does_not_settle_a_doubt(scene: Scene, by: str) -> None:
    """`version=` is bumped while a payment is in doubt: it stays in doubt, and is made again after a verdict alone."""
    scene.kill("pay 42", one_payment, "42", BY=by)
    refused = scene.start(one_payment, "42", BY=by, VERSION="2")
    assert refused.error == "StepInDoubtError"
    assert "version is '2'" in refused.message
    assert scene.ledger == ["pay 42"]
    [run] = scene.start(run_ids).value
    scene.start(say_that_nothing_happened, run)
    assert scene.start(one_payment, "42", BY=by, VERSION="2").value == "paid 42"
    assert scene.ledger == ["pay 42", "pay 42"]


def test_a_new_version_sets_finished_results_aside(scene: Scene) -> None:
    """`version=` is bumped after a payment is known to have ended: the new version is executed."""
    scene.kill("rest", payment_and_rest, "42")
    assert scene.start(payment_and_rest, "42", VERSION="2").value == "paid 42"
    assert scene.ledger == ["pay 42", "rest", "pay 42", "rest"]


@task
def rest() -> None:
    did("rest")


@workflow
def payment_and_rest(order: str) -> str:
    receipt = pay.with_options(version=os.environ.get("VERSION"))(order)
    rest()
    return receipt


def run_ids() -> list[str]:
    return [run.id for run in durable.list_runs()]


def say_that_nothing_happened(run: str) -> None:
    [step] = [step for step in durable.get_run(run).steps if step.in_doubt]
    durable.get_run(run).resolve(step.key, durable.did_not_happen)


@task
def charge(order: str) -> str:
    did(f"charge {order}")
    return f"charged {order}"


@workflow(idempotent=False)
def charges_in_threads() -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(charge, ["a", "b"]))


def test_the_default_of_a_workflow_holds_in_foreign_threads(scene: Scene) -> None:
    """A workflow says `idempotent=False` for its tasks; one called from a thread without context is not executed."""
    assert scene.start(charges_in_threads).error == "OutsideRunError"
    assert scene.ledger == []


@workflow
def child(order: str) -> str:
    return pay(order)


@workflow
def parent_of_a_fresh_child(order: str) -> str:
    return child.with_options(fresh=True)(order)


@workflow
def parent_of_a_fresh_child_with_an_id(order: str) -> str:
    return child.with_options(fresh=True, run_id="the-child")(order)


@pytest.mark.parametrize("parent", [parent_of_a_fresh_child, parent_of_a_fresh_child_with_an_id])
def test_a_fresh_child_is_resumed_with_its_parent(scene: Scene, parent: durable.Workflow[[str], str]) -> None:
    """A child called with `fresh=True` is begun once for each call: the parent's next execution resumes that very run."""
    scene.kill("pay 42", parent, "42")
    assert scene.start(parent, "42").error == "StepInDoubtError"
    assert scene.ledger == ["pay 42"]


def test_a_fresh_child_is_a_run_of_its_own(scene: Scene) -> None:
    """A child with an id that a run outside the parent has had is begun again if it is to be fresh."""
    assert scene.start(with_id, "42").value == "paid 42"
    assert scene.start(parent_of_a_fresh_child_with_an_id, "42").value == "paid 42"
    assert scene.ledger == ["pay 42", "pay 42"]


def with_id(order: str) -> str:
    return child.with_options(run_id="the-child")(order)


@task
def fork_and(child_of: str, way_out: str) -> str:
    did(f"in {child_of}")
    if child_of == "step":
        leave_in_fork(way_out)
    return child_of


def leave_in_fork(way_out: str) -> None:
    pid = os.fork()
    if not pid:
        if way_out == "exit":
            sys.exit(0)
        raise OSError(way_out)
    _, status = os.waitpid(pid, 0)
    did(f"the child left with {os.waitstatus_to_exitcode(status)}")


@workflow
def forking(child_of: str, way_out: str) -> tuple[str, str]:
    fork_and(child_of, way_out)
    if child_of == "workflow":
        leave_in_fork(way_out)
    return pay("42"), durable.list_runs()[0].status


def fork_inside(child_of: str, way_out: str) -> tuple[str, str]:
    pid = os.getpid()
    try:
        return forking(child_of, way_out)
    except BaseException:
        if os.getpid() != pid:
            os._exit(0 if isinstance(sys.exception(), SystemExit) else 1)
        raise


@pytest.mark.parametrize("child_of", ["workflow", "step"])
@pytest.mark.parametrize(("way_out", "code"), [("exit", 0), ("an error", 1)])
def test_a_forked_child_does_not_end_its_parents_run(scene: Scene, child_of: str, way_out: str, code: int) -> None:
    """A child that is forked inside a run and leaves it records nothing: the run is its parent's, who goes on."""
    assert scene.start(fork_inside, child_of, way_out).value == ("paid 42", "running")
    assert scene.start(forking, child_of, way_out).value == ("paid 42", "running")
    assert scene.ledger == [f"in {child_of}", f"the child left with {code}", "pay 42"]


TWO_STORES = """
import sys
import durable
from durable import task, workflow
from tests.crash.effects import did

@task
def fetch(order):
    did(f"fetch {order}")
    return order

@task
def rest(order):
    did(f"rest {order}")

@workflow
def fetch_and_rest(order):
    fetch(order)
    rest(order)

for db in sys.argv[1:]:
    durable.configure(db)
    fetch_and_rest(db.rpartition("/")[2])
"""


def test_a_script_is_named_after_each_store_by_itself(scene: Scene) -> None:
    """A script uses two stores in different folders: what either holds is found whichever is opened first."""
    script = scene.folder / "scripts" / "job.py"
    script.parent.mkdir()
    script.write_text(TWO_STORES)
    one, two = str(scene.folder / "one.db"), str(scene.folder / "far" / "two.db")
    assert scene.python(script, one, two, KILL_AT="rest two.db").returncode == -9
    assert scene.python(script, two, one).returncode == 0
    assert [effect for effect in scene.ledger if "fetch" in effect] == ["fetch one.db", "fetch two.db"]


NAMESAKE = """
from durable import task, workflow

@task
def where():
    return __file__

@workflow
def main():
    return where()

print(main())
"""


@pytest.mark.parametrize(
    ("one", "other"), [("app/jobs/job.py", "jobs/job.py"), ("store/a.b/job.py", "store/a/b/job.py")]
)
def test_scripts_of_one_name_do_not_share_runs(scene: Scene, one: str, other: str) -> None:
    """Two scripts whose paths differ only above the store's folder, or in a dot, are two programs."""
    for name in (one, other):
        script = scene.folder / "app" / name
        script.parent.mkdir(parents=True)
        script.write_text(NAMESAKE)
    db = str(scene.folder / "app" / "store" / "durable.db")
    for name in (one, other):
        path = scene.folder / "app" / name
        assert scene.python(path, DURABLE_DB=db).stdout == f"{path}\n"


WITHOUT_FILE = """
from durable import task, workflow

@task
def answer():
    return "ANSWER"

@workflow
def main():
    return answer()

print(main())
"""


@pytest.mark.parametrize("way", ["-c", "-"])
def test_programs_without_a_file_do_not_share_runs(scene: Scene, way: str) -> None:
    """`python -c` and standard input: another program of that kind is refused, the same one gets its result again."""

    def run(program: str) -> tuple[str, str]:
        started = scene.begin(*(("-c", program) if way == "-c" else ("-",)))
        return started.communicate(None if way == "-c" else program, timeout=60)

    one, other = WITHOUT_FILE, WITHOUT_FILE.replace("ANSWER", "another answer")
    assert run(one)[0] == "ANSWER\n"
    said, errors = run(other)
    assert (said, "InputsChangedError" in errors, "name=" in errors) == ("", True, True)
    assert run(one)[0] == "ANSWER\n"


AT_EXIT = """
import atexit
from durable import task, workflow
from tests.crash.effects import did

@task
def note(when):
    did(when)

@workflow
def take_notes(when):
    note(when)

atexit.register(take_notes, "late")
take_notes("early")
"""


def test_a_run_may_begin_when_the_process_ends(scene: Scene) -> None:
    """A workflow that an exit handler calls is a run like any other, also after the store was closed."""
    script = scene.folder / "job.py"
    script.write_text(AT_EXIT)
    for _ in range(2):
        ended = scene.python(script)
        assert (ended.returncode, "Error" in ended.stderr) == (0, False)
    assert scene.ledger == ["early", "late"]


IN_THE_BACKGROUND = """
import threading
from durable import task, workflow
from tests.crash.effects import did

begun = threading.Event()

@task
def wait():
    did("begin")
    begun.set()
    threading.Event().wait()

@workflow
def take_long():
    wait()

take_long.start()
begun.wait()
"""


def test_a_run_that_is_left_in_the_background_is_named(scene: Scene) -> None:
    """The program ends while a run that it started goes on in the background: it says so, and what to do."""
    script = scene.folder / "job.py"
    script.write_text(IN_THE_BACKGROUND)
    ended = scene.python(script)
    assert ended.returncode == 0
    assert "run.result()" in ended.stderr


@workflow
def one_charge(order: str) -> str:
    return charge(order)


def charge_while_the_store_is_away(db: Path) -> list[str]:
    durable.configure(open_store(str(db)))
    done = [one_charge("a")]
    files = [path for path in db.parent.iterdir() if path.name.startswith("one.db") and path.is_file()]
    for path in files:
        path.rename(path.with_name(f"away.{path.name}"))
    with pytest.raises(durable.StoreFailedError):
        one_charge("b")
    for path in db.parent.glob("one.db*"):
        if path.is_file():
            path.unlink()
    for path in files:
        path.with_name(f"away.{path.name}").rename(path)
    return [*done, one_charge("c")]


def test_a_store_object_is_usable_after_a_failure(scene: Scene) -> None:
    """A store that was given to `configure()` as an object fails, and the cause is mended: the next call opens it again."""
    folder = scene.folder / "stores"
    folder.mkdir(mode=0o700)
    assert scene.start(charge_while_the_store_is_away, folder / "one.db").value == ["charged a", "charged c"]
    assert scene.ledger == ["charge a", "charge c"]


@task
def poll() -> int:
    did("poll")
    return len(effects())


def open_block() -> Any:
    return durable.run("blocks")


@contextmanager
def manage_block() -> Iterator[None]:
    with durable.run("blocks"):
        yield


def enter_by_helper() -> list[int]:
    with open_block():
        first = poll()
    with open_block():
        return [first, poll()]


def enter_by_generator() -> list[int]:
    with manage_block():
        first = poll()
    with manage_block():
        return [first, poll()]


def enter_by_stack() -> list[int]:
    with ExitStack() as stack:
        stack.enter_context(durable.run("blocks"))
        first = poll()
    with ExitStack() as stack:
        stack.enter_context(durable.run("blocks"))
        return [first, poll()]


def enter_by_statement() -> list[int]:
    with durable.run("blocks"):
        first = poll()
    with durable.run("blocks"):
        return [first, poll()]


@pytest.mark.parametrize("program", [enter_by_helper, enter_by_generator, enter_by_stack, enter_by_statement])
def test_each_statement_that_enters_a_block_is_a_scope(scene: Scene, program: Callable[[], list[int]]) -> None:
    """Two statements enter one run, directly or through a helper: neither is given the other's results, and both replay."""
    assert [scene.start(program).value for _ in range(2)] == [[1, 2], [1, 2]]
    assert scene.ledger == ["poll", "poll"]
