"""Functions that a program defines, or has imported by name, become tasks without an edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.scripts.programs import Folder

KINDS = """
    import asyncio, functools, inspect, sys, traceback
    from mailer import send as deliver, Mailer

    def count(what):
        open("ledger", "a").write(what + "\\n")

    def loud(function):
        @functools.wraps(function)
        def louder(*args):
            return function(*args) + "!"
        return louder

    # a comment
    @loud
    @loud
    def greet(name):  # greets
        count("greet " + name)
        return "hello " + name

    if True:
        async def later(name):
            count("later " + name)
            return name

    def items(n):
        for i in range(n):
            count(f"item {i}")
            yield i

    async def aitems(n):
        for i in range(n):
            count(f"aitem {i}")
            yield i

    class Tool:
        def use(self, x):
            count(f"use {x}")
            return self.twice(x)
        @staticmethod
        def twice(x):
            count(f"twice {x}")
            return 2 * x
        @classmethod
        def make(cls, x):
            count(f"make {x}")
            return cls.__name__, x
        class Inner:
            def deep(self): return count("deep")

    def fails():
        raise ValueError("x")

    async def main():
        return await later("ada"), [i async for i in aitems(2)]

    print(greet("ada"), asyncio.run(main()), list(items(2)), Tool().use(1), Tool.twice(2), Tool.make(3), Tool.Inner().deep())
    print(deliver("bob"), Mailer().post("eve"))
    print(inspect.getsource(greet), inspect.getsource(Tool.use), inspect.getsource(items), inspect.iscoroutinefunction(later))
    print(greet.__name__, inspect.signature(Tool.use), inspect.isgeneratorfunction(items), greet.__module__)
    try:
        fails()
    except ValueError as error:
        frame = traceback.extract_tb(error.__traceback__)[0]
        print(frame.lineno, frame.line)
"""
MAILER = """
    def count(what):
        open("ledger", "a").write(what + "\\n")
    def send(to):
        count("send " + to)
        return "sent " + to
    class Mailer:
        def post(self, to):
            count("post " + to)
            return "posted " + to
"""


def test_every_kind_of_function(folder: Folder) -> None:
    """Functions, methods, coroutines and generators, decorated and imported ones are steps; sources and line numbers stay."""
    folder.write("kinds.py", KINDS)
    folder.write("mailer.py", MAILER)
    plain = folder.python("kinds.py")
    once = (folder.path / "ledger").read_text()
    (folder.path / "ledger").unlink()
    names = (
        "greet",
        "later",
        "items",
        "aitems",
        "Tool.use",
        "Tool.twice",
        "Tool.make",
        "Tool.Inner.deep",
        "deliver",
        "fails",
    )
    tasks = [word for name in (*names, "mailer:Mailer.post") for word in ("--task", name)]
    for again in (False, True):
        done = folder.run(*tasks, "kinds.py")
        assert (done.returncode, done.stdout) == (0, plain.stdout)
        assert bool(done.stderr) == again
        assert (folder.path / "ledger").read_text() == once
    shown = folder.durable("show", "kinds").stdout
    for name in ("greet:", "Tool.use:", "Tool.twice:", "send:", "Mailer.post:", "Tool.Inner.deep"):
        assert name in shown


def test_every_name_of_the_script_itself(folder: Folder) -> None:
    """A function is the script's own by its bare name, by `__main__`, by the file and by the module that the file would be."""
    folder.write("jobs/own.py", "def work():\n    open('ledger', 'a').write('x')\nwork()\n")
    names = ("work", "__main__:work", "own.py:work", "jobs/own.py:work", "own:work")
    for name in names:
        done = folder.run("--task", name, "jobs/own.py")
        assert done.returncode == 0
    done = folder.run("--task", "jobs.own:work", "-m", "jobs.own")
    assert done.returncode == 0
    done = folder.run("--task", "own.py:work", "-m", "jobs.own")
    assert done.returncode == 0
    assert (folder.path / "ledger").read_text() == "xx"


def test_a_function_that_is_a_task_keeps_its_options(folder: Folder) -> None:
    """Naming a function that is decorated already changes what is named anew only, and makes no second step."""
    folder.write("pyproject.toml", '[tool.durable.tasks]\n"own.py:work" = {idempotent = false}\n')
    folder.write("own.py", "from durable import task\n@task(key='{x}')\ndef work(x): ...\nwork(1)\n")
    assert folder.run("own.py").returncode == 0
    shown = folder.durable("show", "own", "--json").stdout
    assert shown.count('"key": "work:1"') == 1
