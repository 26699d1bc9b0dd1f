"""`%%durable` cells in real kernels: stored, restored without executing, and executed again where they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernels import Kernel, Kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOAD = """%load_ext durable
import os, durable
def write(line):
    with open("ledger", "a") as ledger:
        ledger.write(f"{line}\\n")
secret = "canary-4711"
"""
CELL = """%%durable load
import math
class Row:
    pass
def halve(x):
    return x / 2
write("load")
row = Row()
row.size = math.floor(size) * len(secret)
rows = [row]
"""


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as opened:
        yield opened


@pytest.fixture
def kernel(kernels: Kernels, tmp_path: Path) -> Kernel:
    kernel = kernels.open(tmp_path)
    assert not kernel.run(LOAD).error
    return kernel


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def test_a_cell_is_restored(kernels: Kernels, kernel: Kernel, tmp_path: Path) -> None:
    """After a kill the variables, imports, functions and classes of a cell are there without executing it."""
    assert not kernel.run("size = 2.5", CELL).error
    kernel.kill()
    kernel = kernels.open(tmp_path)
    commented = CELL.replace('write("load")', "# to be counted\n\nwrite( 'load' )")
    shown = kernel.run(
        LOAD, "size = 2.5", commented, "rows[0] is row, type(row) is Row, row.size, halve(math.floor(3.5))"
    )
    assert (shown.value, "was restored and not executed: row, rows" in shown.err) == ("(True, True, 22, 1.5)", True)
    assert ledger(tmp_path) == ["load"]
    assert b"canary" not in b"".join(
        path.read_bytes() for path in (tmp_path / "store").glob("durable.db*") if path.is_file()
    )


def test_a_cell_that_changed_is_executed(kernel: Kernel, tmp_path: Path) -> None:
    """Other code, other inputs and `--force` execute a cell; what was stored before is found again."""
    assert not kernel.run("size = 1", CELL, CELL).error
    assert ledger(tmp_path) == ["load"]
    kernel.run("size = 2", CELL)
    kernel.run(CELL.replace("x / 2", "x / 4"))
    kernel.run(CELL.replace("durable load", "durable load --force"))
    assert ledger(tmp_path) == 4 * ["load"]
    assert kernel.run("size = 1", CELL, "row.size").value == "11"
    kernel.run("size = 3", CELL.replace("durable load", "durable load --inputs secret"))
    kernel.run("size = 4", CELL.replace("durable load", "durable load --inputs secret"))
    assert ledger(tmp_path) == 5 * ["load"]


def test_a_cell_that_is_not_stored(kernel: Kernel, tmp_path: Path) -> None:
    """A cell that raised is executed again; a variable that cannot be stored is named, and may be left out."""
    failing = "%%durable\nwrite('failing')\nvalue = 1 / 0"
    assert [kernel.run(failing).error for _ in range(2)] == 2 * ["ZeroDivisionError"]
    open_file = "%%durable names\nwrite('names')\nsource = open(os.devnull)\nnames = ['a']"
    shown = kernel.run(open_file, open_file)
    assert (shown.error, shown.err.count("source is a _io.TextIOWrapper"), "names is" in shown.err) == ("", 2, False)
    chosen = open_file.replace("durable names", "durable names --outputs names")
    assert not kernel.run(chosen, chosen).error
    assert ledger(tmp_path) == [*2 * ["failing"], *2 * ["names"], "names"]


def test_inputs_that_a_cell_changes(kernels: Kernels, kernel: Kernel, tmp_path: Path) -> None:
    """What a cell changes in place is restored with it; so is a variable that it reads and assigns."""
    changing = "%%durable\nwrite('changing')\nitems.append(4)\ntotal += 1"
    assert kernel.run("items, total = [3], 0", changing, "items, total").value == "([3, 4], 1)"
    kernel.kill()
    kernel = kernels.open(tmp_path)
    assert kernel.run(LOAD, "items, total = [3], 0", changing, "items, total").value == "([3, 4], 1)"
    assert ledger(tmp_path) == ["changing"]


def test_a_cell_that_awaits_and_calls_tasks(kernel: Kernel, tmp_path: Path) -> None:
    """A cell may await; tasks in it are steps of the notebook, which an edit of the cell does not repeat."""
    tasks = """
import asyncio
from durable import task
@task(idempotent=False)
async def pay(x):
    write(f"pay {x}")
    return x
"""
    awaiting = "%%durable sums\nwrite('sums')\npaid = await asyncio.gather(pay(1), pay(2))\nsum(paid)"
    assert kernel.run(tasks, awaiting).value == "3"
    assert not kernel.run(awaiting).value
    assert kernel.run(awaiting.replace("sum(paid)", "max(paid)"), "paid").value == "[1, 2]"
    assert ledger(tmp_path) == ["sums", "pay 1", "pay 2", "sums"]
    shown = kernel.run("%%durable\nfor n in [1]:\n    !echo hello {n}\nlines = !echo hi\nlines")
    assert (shown.out.strip(), shown.value) == ("hello 1", "['hi']")


def test_what_is_refused(kernel: Kernel, tmp_path: Path) -> None:
    """Options and variables that cannot be meant are errors before anything is executed."""
    cell = "\nwrite('executed')\nx = 1"
    for options in ("--outputs nothing", "--inputs nothing", "a b", "'a", "--outputs 1x", "--faster"):
        assert kernel.run(f"%%durable {options}{cell}").error == "ConfigurationError"
    unknown = "class Odd:\n    def __reduce_ex__(self, _): raise TypeError('odd')\nodd = Odd()"
    shown = kernel.run(unknown, f"%%durable{cell}; odd")
    assert (shown.error, "reads 'odd'" in shown.message, "--inputs" in shown.message) == (
        "FingerprintError",
        True,
        True,
    )
    assert kernel.run("%%durable\nx = (").error == "SyntaxError"
    assert ledger(tmp_path) == []


def test_a_generator_that_a_cell_left(kernels: Kernels, kernel: Kernel, tmp_path: Path) -> None:
    """A generator that a stored cell reads as far as it wants has ended then, whatever becomes of the cell."""
    pages = "@durable.task(idempotent=False)\ndef pages():\n    write('read')\n    yield 1\n    yield 2"
    cell = "%%durable\nimport os, signal\nfor page in pages():\n    break\nif os.path.exists('kill'):\n    "
    cell += "os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "kill").touch()
    assert kernel.run(pages, cell).error == "Killed"
    (tmp_path / "kill").unlink()
    shown = kernels.open(tmp_path).run(LOAD, pages, cell)
    assert (shown.error, ledger(tmp_path)) == ("", ["read"]), shown.message
