"""What a program sees and leaves behind is the same under `durable run` as under Python."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripts.programs import DURABLE

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder

MIRROR = '''
    """Docstring."""
    from __future__ import annotations
    import atexit, asyncio, inspect, multiprocessing, pickle, sys, threading
    import neighbour

    class Point:
        def __init__(self, x):
            self.x = x

    def square(x):
        "Square."
        return x * x

    async def later(x):
        await asyncio.sleep(0)
        return square(x)

    async def main():
        return await asyncio.gather(later(1), later(2))

    if __name__ == "__main__":
        print({k: v for k, v in globals().items() if k.startswith("__") and k not in ("__builtins__", "__loader__")})
        print(sys.argv, sys.path[0], type(__loader__).__name__, type(__builtins__).__name__)
        print(sys.modules["__main__"].Point is Point)
        print(inspect.getsource(square), inspect.signature(square), inspect.getsourcelines(Point)[1], neighbour.name)
        point = pickle.loads(pickle.dumps(Point(3)))
        print(type(point) is Point, Point.__module__, point.x)
        print(asyncio.run(main()), asyncio.new_event_loop().run_until_complete(main()))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(square, [2]))
        def end():
            threading.main_thread().join()
            print("thread", __name__)
        threading.Thread(target=end).start()
        atexit.register(lambda: print("at exit", point.x))
        print(sys.stdin.read())
'''


def test_a_script_sees_what_it_sees_under_python(folder: Folder) -> None:
    """Names, arguments, sources, pickles, loops, child processes, threads and exit handlers are those of plain Python."""
    folder.write("jobs/mirror.py", MIRROR)
    folder.write("jobs/neighbour.py", "name = __name__")
    words = ("jobs/mirror.py", "--fresh", "-x", "--", "--task")
    plain, ours = (folder.python(*start, *words, stdin="input") for start in ((), (*DURABLE, "run")))
    assert (plain.returncode, plain.stderr) == (0, "")
    assert ours.stdout == plain.stdout
    assert (ours.returncode, ours.stderr) == (0, "")


def test_a_package_sees_what_it_sees_under_python(folder: Folder) -> None:
    """With -m, relative imports, the spec, the package and the path are those of plain Python."""
    folder.write("pack/__init__.py", "")
    folder.write("pack/other.py", "name = __name__")
    shown = "__name__, __package__, __spec__.name, __file__, sys.argv, sys.path[0], name"
    folder.write("pack/__main__.py", f"import sys\nfrom .other import name\nprint({shown})")
    plain, ours = (folder.python(*start, "-m", "pack", "-m", "x") for start in ((), (*DURABLE, "run")))
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (ours.stdout, ours.returncode, ours.stderr) == (plain.stdout, 0, "")


ENDINGS = {
    "nothing": "",
    "zero": "sys.exit(0)",
    "code": "sys.exit(3)",
    "text": "sys.exit('no such customer')",
    "error": "def f():\n    raise ValueError('x') from KeyError('y')\nf()",
    "group": "async def f():\n    async with asyncio.TaskGroup():\n        raise OSError(1)\nasyncio.run(f())",
    "syntax": "def f(:",
    "hook": "sys.excepthook = lambda *what: print('hook', what[1], file=sys.stderr)\n1 / 0",
    "stop": "next(iter(()))",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_as_under_python(folder: Folder, ending: str) -> None:
    """Exit codes and tracebacks are those of plain Python; a failure adds a line that says how to go on."""
    folder.write("ends.py", f"import asyncio, sys\nprint('begun')\n{ENDINGS[ending]}\n")
    plain, ours = (folder.python(*start, "ends.py") for start in ((), (*DURABLE, "run")))
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    lines = ours.stderr.splitlines()
    told = [line for line in lines if line.startswith("durable: ")]
    assert [line for line in lines if line not in told] == plain.stderr.splitlines()
    assert len(told) == (plain.returncode != 0 and ending != "syntax")
    assert all("failed; what is recorded stays, the same command goes on" in line for line in told)


COUNTED = """
    import sys

    def work(item):
        with open("ledger", "a") as ledger:
            ledger.write(f"{item}\\n")
        return item * 2

    def main():
        total = 0
        for item in range(200):
            total += work(item)
            if item == 150 and "fail" in open("mode").read():
                raise ConnectionError("no route")
        print(total)

    main()
"""


def ledger(folder: Folder) -> list[str]:
    return (folder.path / "ledger").read_text().split()


def test_the_same_command_goes_on_and_replays(folder: Folder) -> None:
    """A failed script resumes at the step where it was; one that succeeded is replayed, with a line that tells its age."""
    folder.write("count.py", COUNTED)
    folder.write("mode", "fail")
    command = ("--task", "work", "count.py", "a")
    failed = folder.run(*command)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-2] == "ConnectionError: no route"
    folder.write("mode", "")
    resumed = folder.run(*command)
    assert (resumed.returncode, resumed.stdout) == (0, "39800\n")
    assert re.search(r"resuming run count-\w{16} \(failed (just now|\d+ s ago), 151 steps recorded\)", resumed.stderr)
    replayed = folder.run(*command)
    assert (replayed.returncode, replayed.stdout) == (0, "39800\n")
    assert re.fullmatch(
        r"durable: run count-\w{16} succeeded (just now|\d+ s ago); the program is executed with its stored results "
        r"\(200 steps recorded\)\. For a new run: --fresh or DURABLE_FRESH=1\.\n"
        r"durable: run count-\w{16} succeeded: 200 replayed, 0 executed.*\.\n",
        replayed.stderr,
    )
    assert ledger(folder) == [str(item) for item in range(200)]


def test_another_invocation_is_another_run(folder: Folder) -> None:
    """Other arguments, `--fresh` and an `--id` make new runs; an id decides alone, other arguments under it are refused."""
    folder.write("one.py", "def work(item):\n    open('ledger', 'a').write(f'{item}\\n')\n\nwork(1)\n")
    task = ("--task", "work")
    folder.run(*task, "one.py", "a")
    folder.run(*task, "one.py", "b")
    folder.run(*task, "--fresh", "one.py", "b")
    folder.run(*task, "--id", "mine", "one.py", "b")
    folder.run(*task, "--id=mine", "one.py", "b")
    assert len(ledger(folder)) == 4
    refused = folder.run(*task, "--id", "mine", "one.py", "c")
    assert refused.returncode == 1
    assert "Run mine was started with other inputs: 'arguments' differ" in refused.stderr
    assert len(ledger(folder)) == 4


def test_a_periodic_job_starts_anew_after_a_success(folder: Folder) -> None:
    """With `after_success = "rerun"` in [tool.durable] a command is a new run once the last one has succeeded."""
    folder.write("pyproject.toml", '[tool.durable]\nafter_success = "rerun"\n')
    folder.write(
        "one.py",
        "def work(item):\n    open('ledger', 'a').write(f'{item}\\n')\n\nwork(1)\nassert not open('mode').read()\n",
    )
    folder.write("mode", "fail")
    for mode, executed in (("fail", 1), ("", 1), ("", 2), ("", 3)):
        folder.write("mode", mode)
        folder.run("--task", "work", "one.py")
        assert len(ledger(folder)) == executed


def test_a_doubt_blocks_and_is_decided(folder: Folder) -> None:
    """A killed step that is not idempotent ends the command with 76 and the way out; resolved, `durable resume` goes on."""
    options = '[tool.durable.tasks]\n"pay.py:pay" = {idempotent = false, key = "{order}"}\n'
    folder.write("pyproject.toml", options)
    folder.write(
        "pay.py",
        """
        import os, sys
        def pay(order):
            open("ledger", "a").write(f"{order}\\n")
            if order == "2" and os.environ.get("KILL"):
                os.kill(os.getpid(), 9)
            return f"paid {order}"
        print([pay(order) for order in sys.argv[1:]])
        """,
    )
    assert folder.run("pay.py", "1", "2", "3", KILL="1").returncode == -signal.SIGKILL
    blocked = folder.run("pay.py", "1", "2", "3")
    assert (blocked.returncode, blocked.stdout) == (76, "")
    [run_id] = re.findall(
        r"decide with: durable resolve (pay-\w{16}) pay:2 --happened 'JSON' or --did-not-happen", blocked.stderr
    )
    assert "Traceback" not in blocked.stderr
    assert folder.durable("resolve", run_id, "pay:2", "--happened", '"was paid"').returncode == 0
    store = str(folder.path / ".durable" / "durable.db")
    resumed = folder.durable("--db", store, "resume", "pay", cwd="..")
    assert (resumed.returncode, resumed.stdout) == (0, "['paid 1', 'was paid', 'paid 3']\n")
    assert ledger(folder) == ["1", "2", "3"]
    listed = folder.durable("ls")
    assert re.search(rf"{run_id} +pay\.py +succeeded +3/3", listed.stdout)
    assert "pay:2" in folder.durable("show", run_id).stdout


def test_an_edited_script_goes_on_unless_that_is_dangerous(folder: Folder) -> None:
    """A script that was edited between executions keeps its steps; a changed call that is not idempotent is refused."""
    text = """
        def fetch(page):
            open("ledger", "a").write(f"fetch {page}\\n")
            return page
        def pay(cents):
            open("ledger", "a").write(f"pay {cents}\\n")
        fetch(1)
        pay(500)
        raise SystemExit(1)
        """
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"__main__:pay" = {idempotent = false}\n')
    folder.write("edit.py", text)
    task = ("--task", "fetch")
    folder.run(*task, "edit.py")
    folder.write(
        "edit.py",
        text.replace("fetch(1)", "fetch(1)  # a comment\n        fetch(2)").replace("raise SystemExit(1)", ""),
    )
    assert folder.run(*task, "edit.py").returncode == 0
    folder.write("edit.py", text.replace("pay(500)", "pay(600)"))
    refused = folder.run(*task, "edit.py")
    assert refused.returncode == 1
    assert "cents: recorded 500, now 600" in refused.stderr
    assert ledger(folder) == ["fetch", "1", "pay", "500", "fetch", "2"]


def test_ctrl_c_ends_with_130_and_is_resumed(folder: Folder) -> None:
    """Ctrl-C shows the program's traceback and ends with 130; the same command executes the interrupted step again."""
    folder.write(
        "wait.py",
        """
        import os, time
        def wait(item):
            open("ledger", "a").write(f"{item}\\n")
            if os.environ.get("WAIT"):
                print("waiting", flush=True)
                time.sleep(60)
        wait(1)
        """,
    )
    command = [sys.executable, *DURABLE, "run", "--task", "wait", "wait.py"]
    process = subprocess.Popen(
        command,
        cwd=folder.path,
        env={**_environment(), "WAIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "KeyboardInterrupt\n" in words
    assert "wait.py" in words
    assert "launching.py" not in words
    done = folder.run("--task", "wait", "wait.py")
    assert (done.returncode, ledger(folder)) == (0, ["1", "1"])


def _environment() -> dict[str, str]:
    import os  # noqa: PLC0415 -- a name that the programs above hide

    return {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}


LOOP = """
    import asyncio, sys

    def fails():
        return "fail" in open("mode").read()

    async def number():
        with open("ledger", "a") as ledger:
            ledger.write("x\\n")
        await asyncio.sleep(0)
        return len(open("ledger").readlines())

    async def branch(name, turns):
        turn = ("abc" if fails() else "cba").index(name)
        await turns[turn].wait()
        found = await number()
        turns[turn + 1].set()
        return name, found

    async def main():
        turns = [asyncio.Event() for _ in range(4)]
        turns[0].set()
        return await asyncio.gather(*(branch(name, turns) for name in "abc"))

    print(asyncio.run(main()))
    if fails():
        sys.exit(1)
"""


def test_a_loop_of_the_script_is_a_part_of_the_run(folder: Folder) -> None:
    """Branches of `asyncio.run` that make equal calls keep their own results when they come in another order."""
    folder.write("loop.py", LOOP)
    folder.write("mode", "fail")
    failed = folder.run("--task", "number", "loop.py")
    assert (failed.returncode, failed.stdout) == (1, "[('a', 1), ('b', 2), ('c', 3)]\n")
    folder.write("mode", "")
    done = folder.run("--task", "number", "loop.py")
    assert (done.returncode, done.stdout) == (0, failed.stdout)
    assert len(ledger(folder)) == 3


WAITING = """
    import asyncio, os

    async def pay(item):
        if os.environ.get("KILL"):
            os.kill(os.getpid(), 9)

    async def produce(queue):
        await pay(1)
        await queue.put(1)

    async def main():
        queue = asyncio.Queue()
        producer = asyncio.create_task(produce(queue))
        print(await queue.get())

    asyncio.run(main())
"""


def test_a_loop_that_waits_for_a_stopped_branch_ends(folder: Folder) -> None:
    """A doubt in one branch of the script's loop ends it, though another branch waits for that one, and says why once."""
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"wait.py:pay" = {idempotent = false}\n')
    folder.write("wait.py", WAITING)
    assert folder.run("wait.py", KILL="1").returncode == -signal.SIGKILL
    blocked = folder.run("wait.py")
    assert (blocked.returncode, blocked.stdout) == (76, "")
    assert blocked.stderr.count("was running when its process ended") == 1


def test_threads_of_the_script_are_told_of(folder: Folder) -> None:
    """A task that a script calls in its own thread is a plain function, with a warning; one not idempotent is refused."""
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"threads.py:pay" = {idempotent = false}\n')
    folder.write(
        "threads.py",
        """
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context
        def fetch(x): return x
        def pay(x): return x
        with ThreadPoolExecutor() as pool:
            print(list(pool.map(fetch, [1, 2])))
            try: print(pool.submit(pay, 1).result())
            except Exception as error: print(type(error).__name__)
            print(pool.submit(copy_context().run, pay, 3).result())
        """,
    )
    done = folder.run("--task", "fetch", "threads.py")
    assert done.stdout == "[1, 2]\nOutsideRunError\n3\n"
    assert "1 replayed, 0 executed" in folder.run("--task", "fetch", "threads.py").stderr
    assert done.stderr.count("fetch' was called from a thread that carries no run context") == 1
    assert "pool.submit(copy_context().run, function, ...)" in done.stderr


BLOCKS = """
    import os, signal
    import durable

    @durable.task
    def work(item):
        open("ledger", "a").write(f"{item}\\n")
        if item == "b" and os.environ.get("KILL"): os.kill(os.getpid(), signal.SIGKILL)
        return item

    with durable.run("first") as run:
        print(work("a"), work("b"), run.id)
    print(len(run.steps))
    with durable.run("second"):
        print(work("c"))
"""


def test_blocks_of_a_script_are_runs_of_their_own(folder: Folder) -> None:
    """A block goes on where it was killed, under `durable run` and under plain Python, and is not executed for both."""
    folder.write("blocks.py", BLOCKS)
    assert folder.run("blocks.py", KILL="1").returncode == -signal.SIGKILL
    for done in (folder.run("blocks.py"), folder.python("blocks.py"), folder.run("blocks.py")):
        assert (done.returncode, done.stdout) == (0, "a b first\n2\nc\n")
    assert ledger(folder) == ["a", "b", "b", "c"]
    assert "called by run blocks-" in folder.durable("show", "first").stdout
    assert "block first: succeeded\n" in folder.durable("show", "blocks").stdout


def test_a_block_in_another_run_is_refused(folder: Folder) -> None:
    """A block in a task of a script, or in another block, says what to write instead, and nothing of it is executed."""
    folder.write(
        "nested.py",
        """
        import durable
        @durable.task
        def outer():
            with durable.run("inner"): print("executed")
        for make in (outer, lambda: durable.run("a").__enter__() and durable.run("b").__enter__()):
            try: make()
            except durable.OutsideRunError as error: print(error)
        """,
    )
    refused = folder.run("nested.py")
    assert "executed" not in refused.stdout
    assert "durable.run('inner') was not entered: it stands inside run nested-" in refused.stdout
    assert "For a part of that run use durable.scope('inner')" in refused.stdout
    assert "it stands inside run a." in refused.stdout
