"""Many processes share one SQLite store, forked ones too, and each is an owner of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable.records import RunFilter, StepQuery
from durable.stores import open_store
from durable.testing import make_step

_ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_first_opening_by_many(tmp_path: Path) -> None:
    """Sixteen processes that open an absent store at once all get it."""
    path = tmp_path / "new" / ".durable" / "durable.db"
    program = f"""
import os
from durable.records import Batch
from durable.stores import open_store
from durable.stores.sql.sqlite import SQLiteStore
from durable.testing import make_run
gate, key = os.pipe()
children = []
for number in range(16):
    children.append(os.fork())
    if not children[-1]:
        os.close(key)
        os.read(gate, 1)
        store = open_store({str(path)!r})
        assert store.write(Batch(created=(make_run(str(number), owner=store.owner),))) == frozenset()
        store.close()
        os._exit(0)
os.close(key)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
"""
    subprocess.run([sys.executable, "-c", program], cwd=_ROOT, check=True, timeout=100)
    store = open_store(path)
    assert {summary.run.id for summary in store.runs(RunFilter())} == {str(number) for number in range(16)}
    store.close()


@pytest.mark.parametrize("leaving", ["os._exit(0)", "sys.exit(0)"])
def test_child_that_outlives_its_parent(tmp_path: Path, leaving: str) -> None:
    """What a forked child wrote stays, though its parent died and another process opened and closed the store since."""
    program = f"""
import os, sys, time
from durable.records import Batch
from durable.stores import open_store
from durable.testing import make_run, make_step
store = open_store({str(tmp_path / "durable.db")!r})
run = make_run("parent", owner=store.owner)
store.write(Batch(created=(run,)))
token = store.owner
read, write = os.pipe()
if os.fork():
    os.read(read, 1)
    os._exit(9)
assert store.owner != token
mine = make_run("child", owner=store.owner)
assert store.write(Batch(created=(mine,), steps=(make_step(1, "parent"),),
    fences={{"parent": (1, store.owner), "child": (1, store.owner)}})) == {{"parent"}}
os.write(write, b"x")
print("ready", flush=True)
sys.stdin.readline()
assert not store.is_alive(token)
assert store.write(Batch(steps=(make_step(1, "child"),), fences={{"child": (1, store.owner)}})) == frozenset()
print("written", flush=True)
{leaving}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.wait() == 9
    for _ in range(3):
        store = open_store(tmp_path / "durable.db")
        store.load_run("child")
        store.close()
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"
    process.stdout.read()
    store = open_store(tmp_path / "durable.db")
    assert store.steps("child", StepQuery()) == [make_step(1, "child")]
    assert store.steps("parent", StepQuery()) == []
    store.close()
    process.stdin.close()
    process.stdout.close()


def test_forks_beside_writing_threads(tmp_path: Path) -> None:
    """While threads write, children forked at any moment can use the store, and the parent loses nothing."""
    program = f"""
import os, sys, threading
from durable.records import Batch
from durable.stores import open_store
from durable.testing import make_run, make_step
store = open_store({str(tmp_path / "durable.db")!r})
owner = store.owner
run = make_run(owner=owner)
store.write(Batch(created=(run,)))
stop = False
def work(seq):
    while not stop:
        assert store.write(Batch(steps=(make_step(seq),), fences={{"run": (1, owner)}})) == frozenset()
        os.write(1, b"%d\\n" % seq)
        seq += 1
threads = [threading.Thread(target=work, args=(first,)) for first in (1, 1_000_000)]
for thread in threads: thread.start()
for number in range(20):
    pid = os.fork()
    if not pid:
        name = f"child {{number}}"
        assert store.write(Batch(created=(make_run(name, owner=store.owner),))) == frozenset()
        assert store.load_run(name) is not None and store.owner != owner
        os._exit(0) if number % 2 else sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0, number
stop = True
for thread in threads: thread.join()
assert store.owner == owner
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=_ROOT, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "durable.db")
    kept = {step.seq for step in store.steps("run", StepQuery(limit=1_000_000))}
    assert kept >= {int(line) for line in done.stdout.split()}
    assert len(store.runs(RunFilter(prefix="child"))) == 20
    store.close()
