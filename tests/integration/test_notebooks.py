"""Tasks in the cells of notebooks: real kernels, asked over their sockets, and effects counted in a ledger."""

from __future__ import annotations

import re
import tempfile
from typing import TYPE_CHECKING

import nbclient
import nbformat
import pytest
from traitlets.config import Config

from tests.kernels import Kernels
from tests.receivers import Ledger, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOAD = "%load_ext durable"
TASKS = """
import asyncio, os, durable
from durable import task, workflow

def write(line):
    with open("ledger", "a") as ledger:
        ledger.write(f"{line}\\n")

@task
def double(x):
    write(f"double {x}")
    return 2 * x

@task(idempotent=False)
def pay(x):
    write(f"pay {x}")
    return x
"""


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as opened:
        yield opened


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def test_cells_in_any_order_over_restarts(kernels: Kernels, tmp_path: Path) -> None:
    """After a kill, cells in another order, an inserted cell and an added comment execute nothing that was executed."""
    kernel = kernels.open(tmp_path)
    assert kernel.run(LOAD, TASKS, "double(1)", "pay(2)", "double(1), pay(2)").value == "(2, 2)"
    kernel.kill()
    kernel = kernels.open(tmp_path)
    commented = TASKS.replace("    return 2 * x", "    # twice\n    return 2 * x")
    shown = kernel.run(LOAD, commented, "pay(2)", "double(3)", "double(1)")
    assert (shown.value, "work-" in shown.err, "interrupted" in shown.err) == ("2", True, True)
    assert ledger(tmp_path) == ["double 1", "pay 2", "double 3"]


def test_functions_and_classes_are_edited(kernels: Kernels, tmp_path: Path) -> None:
    """An edited body executes again, one that must not be repeated keeps its result; objects follow their class's cell."""
    kernel = kernels.open(tmp_path)
    points = """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
@task
def make(x):
    write("make")
    return Point(x)
@task
def same(point):
    write("same")
    return point
"""
    assert not kernel.run(LOAD, TASKS, "double(1)", "pay(2)", points, "old = make(1)", "same(old)").error
    edited = TASKS.replace("return 2 * x", "return 3 * x").replace("return x", "return -x")
    shown = kernel.run(edited, "double(1), pay(2)", "double(1), pay(2)")
    assert (shown.value, shown.err.count("changed since run")) == ("(3, 2)", 1)
    again = points.replace("x: int", "x: int\n    y: int = 0")
    asked = "type(make(1)) is Point, type(same(old)) is Point, type(same(make(1))) is Point"
    assert kernel.run(again, "same(old); None", asked).value == "(True, True, True)"
    kernel.kill()
    kernel = kernels.open(tmp_path)
    assert kernel.run(LOAD, edited, again, "type(same(make(1))) is Point, pay(2)").value == "(True, 2)"
    assert ledger(tmp_path) == ["double 1", "pay 2", "make", "same", "double 1", "same"]


LIBRARY = """
import durable
@durable.task
def rate(x):
    open("ledger", "a").write("rate\\n")
    return x * 2
@durable.task(idempotent=False)
def buy(x):
    open("ledger", "a").write("buy\\n")
    return x
"""


@pytest.mark.parametrize("how", ["%load_ext autoreload\n%autoreload 2", "import importlib\nimportlib.reload(lib)"])
def test_modules_are_edited(kernels: Kernels, tmp_path: Path, how: str) -> None:
    """A task of a module that is edited and loaded again, in whatever way, is an edited task."""
    (tmp_path / "lib.py").write_text(LIBRARY)
    kernel = kernels.open(tmp_path)
    assert kernel.run(LOAD, f"import lib\n{how}", "lib.rate(1), lib.buy(1)").value == "(2, 1)"
    (tmp_path / "lib.py").write_text(LIBRARY.replace("x * 2", "x * 300").replace("return x\n", "return -x\n"))
    shown = kernel.run(how if "reload(" in how else "", "lib.rate(1), lib.buy(1)")
    assert (shown.value, "changed since run" in shown.err) == ("(300, 1)", True)
    kernel.run(how if "reload(" in how else "", "lib.rate(1), lib.buy(1)")
    assert ledger(tmp_path) == ["rate", "buy", "rate"]


def test_payments_below_an_edited_task(kernels: Kernels, tmp_path: Path) -> None:
    """An edited task is executed again, what it paid for is not; a payment with another input is refused."""
    outer = "import time\n@task\ndef outer(x):\n    write('outer'); pay(x); pay(x + late)\n    return x\nlate = 1"
    kernel = kernels.open(tmp_path)
    assert not kernel.run(LOAD, TASKS, outer, "outer(1)", outer.replace("return x", "return -x")).error
    assert kernel.run("outer(1)").value == "-1"
    shown = kernel.run(outer.replace("late = 1", "late = 2"), "outer(1)")
    assert (shown.error, "Changed: x: recorded 2, now 3" in shown.message) == ("InputsChangedError", True)
    assert ledger(tmp_path) == ["outer", "pay 1", "pay 2", "outer", "outer"]


def test_notebooks_do_not_share(kernels: Kernels, tmp_path: Path) -> None:
    """Two notebooks with functions and workflows of one name have results of their own."""
    flow = "@workflow\ndef flow(x):\n    write('flow')\n    return double(x)"
    for name, factor in (("one.ipynb", 2), ("two.ipynb", 5)):
        kernel = kernels.open(tmp_path, name)
        cells = (LOAD, TASKS.replace("2 * x", f"{factor} * x"), flow, "double(1), flow(4), flow(4)")
        assert kernel.run(*cells).value == f"({factor}, {4 * factor}, {4 * factor})"
    assert ledger(tmp_path) == 2 * ["double 1", "flow", "double 4"]


def test_one_kernel_has_the_notebook(kernels: Kernels, tmp_path: Path) -> None:
    """A second kernel of a notebook is refused while the first lives, by name, and goes on once that was killed."""
    first, second = kernels.open(tmp_path), kernels.open(tmp_path)
    assert not first.run(LOAD, TASKS, "pay(1)").error
    shown = second.run(LOAD, TASKS, "pay(1)")
    assert shown.error == "RunInProgressError"
    assert all(word in shown.message for word in ("work.ipynb", f"pid {first.pid}", "%durable start NAME"))
    first.kill()
    assert second.run("pay(1)").value == "1"
    second.shut_down()
    assert kernels.open(tmp_path).run(LOAD, TASKS, "pay(1)", "durable.list_runs()").value.endswith("running>]")
    assert ledger(tmp_path) == ["pay 1"]


def test_a_renamed_notebook(kernels: Kernels, tmp_path: Path) -> None:
    """A notebook without a run asks before it pays what one that is gone has paid for: it goes on with that run, or anew."""
    (tmp_path / "work.ipynb").touch()
    kernel = kernels.open(tmp_path)
    assert not kernel.run(LOAD, TASKS, "double(1), pay(1)").error
    kernel.kill()
    (tmp_path / "work.ipynb").rename(tmp_path / "other.ipynb")
    kernel = kernels.open(tmp_path, "other.ipynb")
    refused = kernel.run(LOAD, TASKS, "pay(1)")
    assert (refused.error, "work.ipynb, which is gone" in refused.message) == ("ConfigurationError", True), (
        refused.message
    )
    [command] = re.findall(r"%durable start \S+(?=\.)", refused.message)
    assert kernel.run(command, "double(1), pay(1)").value == "(2, 1)"
    kernel.kill()
    kernel = kernels.open(tmp_path, "other.ipynb")
    assert kernel.run(LOAD, command, TASKS, "pay(1)").value == "1"
    kernel.kill()
    assert ledger(tmp_path) == ["double 1", "pay 1"]
    (tmp_path / "other.ipynb").unlink()
    kernel = kernels.open(tmp_path, "another.ipynb")
    refused = kernel.run(LOAD, TASKS, "pay(1)")
    assert (refused.error, "no new notebook is to ask: durable rm" in refused.message) == ("ConfigurationError", True)
    assert kernel.run("%durable fresh", "pay(1)").value == "1"
    kernel.kill()
    assert kernels.open(tmp_path, "another.ipynb").run(LOAD, TASKS, "pay(1)").value == "1"
    assert ledger(tmp_path) == ["double 1", "pay 1", "pay 1"]


def test_an_interrupt_in_a_payment(kernels: Kernels, tmp_path: Path) -> None:
    """An interrupted payment is in doubt and says how to decide it; so is one with another input; others go on."""
    kernel = kernels.open(tmp_path)
    slow = "import time\n@task(idempotent=False)\ndef transfer(x):\n    print('begun'); time.sleep(60 * (x == 1)); return x"
    assert not kernel.run(LOAD, TASKS, slow, "double(1)").error
    begun = kernel.begin("transfer(1)")
    kernel.await_output("begun")
    kernel.interrupt()
    shown = kernel.finish(begun)
    assert shown.error == "KeyboardInterrupt"
    assert "transfer:" in shown.err
    assert "%durable resolve transfer:" in shown.err
    assert [kernel.run(f"transfer({x})").error for x in (1, 2)] == 2 * ["StepInDoubtError"]
    assert kernel.run("double(1), pay(3)").value == "(2, 3)"
    assert (
        kernel.run("%durable resolve transfer --happened '\"paid\"'", "transfer(1), transfer(2)").value == "('paid', 2)"
    )


def test_what_a_cell_raises_shows_the_users_code(kernels: Kernels, tmp_path: Path) -> None:
    """The traceback of a failed call holds the lines of the cells and none of the library, as long as that is loaded."""
    kernel = kernels.open(tmp_path)
    wrong = "@task\ndef wrong(x): return x['m']\n@task\nasync def awrong(x): return x['m']"
    assert not kernel.run(LOAD, TASKS, wrong).error
    for cell, line in (
        ("wrong({})", "return x['m']"),
        ("await awrong({})", "return x['m']"),
        ("%durable forget x", "forget"),
    ):
        shown = kernel.run(cell)
        assert shown.error in ("KeyError", "NotFoundError")
        assert line in (said := _plain(shown.traceback))
        assert "durable/" not in said
    assert kernel.run("1 / 0").error == "ZeroDivisionError"
    assert kernel.run("%unload_ext durable", "wrong({})").error == "KeyError"


def test_what_this_kernel_did_is_not_forgotten_by_a_doubt(kernels: Kernels, tmp_path: Path) -> None:
    """A run that was given back for a decision shows the step in doubt, the others as called here, and no new notice."""
    kernel = kernels.open(tmp_path)
    failing = "@task(idempotent=False, key='{x}')\ndef transfer(x): raise TimeoutError"
    kernel.run(LOAD, TASKS, failing, "double(1)", "transfer(1)")
    shown = kernel.run("%durable")
    assert "resuming" not in shown.err
    rows = [line.split() for line in shown.displays[-1].splitlines()[2:]]
    assert [row[1:3] for row in rows] == [["succeeded", "executed"], ["in", "doubt"]]
    kernel.kill()
    again = kernels.open(tmp_path)
    again.run(LOAD, TASKS, failing, "double(1)")
    assert "replayed" in again.run("%durable").displays[-1]


def test_awaiting_and_waiting(kernels: Kernels, tmp_path: Path) -> None:
    """Top-level await, gather, sync calls, threads, submitted tasks, generators and workflows work in one kernel."""
    kernel = kernels.open(tmp_path)
    more = """
@task
async def fetch(x):
    write(f"fetch {x}")
    await asyncio.sleep(0)
    return x
@task
def count(n):
    for number in range(n):
        write(f"count {number}")
        yield number
@workflow
async def both(x):
    return await asyncio.gather(fetch(x), fetch(x))
"""
    assert not kernel.run(LOAD, TASKS, more).error
    assert kernel.run("await asyncio.gather(fetch(1), fetch(2), fetch(1))").value == "[1, 2, 1]"
    assert kernel.run("await fetch(2), double(1), await both(3)").value == "(2, 2, [3, 3])"
    assert kernel.run("[future.result() for future in double.map([1, 5, 5]).futures]").value == "[2, 10, 10]"
    assert kernel.run("await double.submit(6), double(6)").value == "(12, 12)"
    assert kernel.run("list(count(2)) + list(count(2))").value == "[0, 1, 0, 1]"
    pool = "from concurrent.futures import ThreadPoolExecutor as Pool\nwith Pool() as pool: print(*pool.map(double, [1, 7, 7]))"
    assert kernel.run(pool).out == "2 14 14\n"
    assert not kernel.run("double(1)\nfor name in 'ab':\n    with durable.scope(name): double(1)").err
    assert "called with equal arguments more than once" in kernel.run("pay(1), pay(1)").err
    counted = ["fetch 1", "fetch 2", "double 1", "fetch 3", "fetch 3", "double 5", "double 6", "count 0", "count 1"]
    assert ledger(tmp_path) == [*counted, "double 7", "double 1", "double 1", "pay 1"]


def test_patched_functions(kernels: Kernels, tmp_path: Path) -> None:
    """Functions that were patched are steps in cells, from the first call on."""
    (tmp_path / "shop.py").write_text("def charge(cents):\n    print('charging')\n    return cents\n")
    kernel = kernels.open(tmp_path)
    patch = "import sys\nsys.path.insert(0, '.')\nimport durable, shop\ndurable.patch('shop:charge', idempotent=False)"
    assert kernel.run(LOAD, patch, "shop.charge(5)").out == "charging\n"
    assert kernel.run("shop.charge(5)").out == ""


def test_commands(kernels: Kernels, tmp_path: Path) -> None:
    """A notebook without a name says how to give it one; results are listed, forgotten, and left behind by a new run."""
    kernel = kernels.open(tmp_path, notebook=None)
    unnamed = kernel.run(LOAD, TASKS, "double(1)")
    assert (unnamed.error, "%durable start NAME" in unnamed.message, ledger(tmp_path)) == (
        "ConfigurationError",
        True,
        [],
    )
    assert not kernel.run("%durable start mine", "double(1)", "pay(2)").error
    status = kernel.run("%durable")
    assert "Run mine" in status.displays[0]
    assert "<table" in status.html
    assert "no call of 'dubble'. Did you mean 'double'?" in kernel.run("%durable forget dubble").message
    assert "--force" in kernel.run("%durable forget pay").message
    assert (
        kernel.run("%durable forget double", "%durable forget pay --force", "double(1), pay(2)", "double(1)").value
        == "2"
    )
    assert ledger(tmp_path) == 2 * ["double 1", "pay 2"]
    assert kernel.run("%durable finish", "durable.list_runs()").value == "[<Run mine durable.notebook succeeded>]"
    assert "happens again when its cell runs: pay (1 call)" in kernel.run("%durable fresh").err
    kernel.kill()
    kernel = kernels.open(tmp_path, notebook=None)
    assert kernel.run(LOAD, TASKS, "%durable start mine", "double(1)", "double(1)").value == "2"
    assert ledger(tmp_path) == [*2 * ["double 1", "pay 2"], "double 1"]
    wrong = (
        "%durable strat mine",
        "%durable start",
        "%durable resolve x",
        "%durable resolve x --happened {",
        "%durable 'a",
    )
    assert {kernel.run(line).error for line in wrong} == {"ConfigurationError"}


def test_progress_of_a_long_cell(kernels: Kernels, tmp_path: Path) -> None:
    """Below a cell that runs for long stands what it has done, replayed and left."""
    kernel = kernels.open(tmp_path)
    assert not kernel.run(LOAD, TASKS, "double(1)").displays
    begun = kernel.begin("import time\ndouble(1)\nwhile not os.path.exists('go'): time.sleep(.01)\ndouble(2)")
    kernel.await_display("durable: 0 done, 1 replayed, 0 left")
    (tmp_path / "go").touch()
    assert "durable: 1 done, 1 replayed, 0 left" in kernel.finish(begun).displays[-1]


def test_nbclient_twice_over_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that nbclient executes twice executes its tasks once and shows the same values."""
    monkeypatch.setenv("DURABLE_DB", str(tmp_path / "durable.db"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = tmp_path / "report.ipynb"
    cells = (LOAD, "%durable start report", TASKS, "pay(1), double(2)")
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells))), path)
    with tempfile.TemporaryDirectory() as sockets:  # where no port can be taken by others before the kernel has it
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        for _ in range(2):
            notebook = nbformat.read(path, as_version=4)
            nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, config=config).execute()
            assert notebook.cells[-1].outputs[-1].data["text/plain"] == "(1, 4)"
            nbformat.write(notebook, path)
    assert ledger(tmp_path) == ["pay 1", "double 2"]


def _plain(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text)


REQUESTS = """
import durable, requests
durable.patch("requests")
def ask(path, token="a"):
    response = requests.get(WEB + path, headers={"Authorization": token}, timeout=60)
    response.raise_for_status()
    return response.json()["number"]
def order(path):
    response = requests.post(WEB + path, json=[1], timeout=60)
    response.raise_for_status()
    return response.json()
"""


def test_equal_requests_of_a_cell(kernels: Kernels, tmp_path: Path) -> None:
    """Requests that say the same are told apart by their order in a cell: it may wait for a change, or ask for two users."""
    received = Ledger()
    with web_server(received) as web:
        first = (LOAD, f"WEB = {web!r}", REQUESTS)
        poll = "while ask('/job') < 3:\n    pass\nask('/job')"
        users = "[ask('/me', user) for user in 'ab']"
        kernel = kernels.open(tmp_path)
        assert kernel.run(*first, poll).value == "4"
        assert kernel.run(users).value == "[5, 6]"
        assert [each.headers["Authorization"] for each in received.entries[4:]] == ["a", "b"]
        other = kernel.run("async def of(user):\n    return ask('/me', user)", "[await of(user) for user in 'bb']")
        assert (other.value, "with other credentials" in other.err) == ("[5, 6]", True)
        kernel.kill()
        kernel = kernels.open(tmp_path)
        assert kernel.run(*first, users).value == "[5, 6]"
        assert kernel.run(poll).value == "4"
        assert len(received.entries) == 6


def test_failed_requests_of_a_cell(kernels: Kernels, tmp_path: Path) -> None:
    """A cell that is run again asks again for what had failed; a request that may have acted waits for a decision."""
    received = Ledger()
    with web_server(received) as web:
        kernel = kernels.open(tmp_path)
        assert kernel.run(LOAD, f"WEB = {web!r}", REQUESTS, "ask('/a?status=503,200')").error == "HTTPError"
        assert kernel.run("ask('/other')", "ask('/a?status=503,200')").value == "3"
        assert kernel.run("ask('/a?status=503,200')").value == "3"
        assert kernel.run("order('/pay?status=500')").error == "HTTPError"
        blocked = kernel.run("ask('/other')", "order('/pay?status=500')")
        assert (blocked.error, "%durable resolve requests.post:" in blocked.err) == ("StepInDoubtError", True)
        key = re.findall(r"resolve (requests\.post:\w+)", blocked.err)[0]
        assert kernel.run(f"%durable resolve {key} --happened '[2]'", "order('/pay?status=500')").value == "[2]"
        assert len(received.entries) == 4
