"""A graph in which one node fails: what depends on it is skipped, the rest goes on; called again, only those execute.

Command:

    python examples/05_graph_with_a_failing_node.py

Expected output:

    first call: step 'report:…' was skipped, because step 'parse:…' failed
      executed: drop_scratch fetch(a) fetch(b) fetch(c) parse(a) parse(b) parse(c)
    mended, second call: a:1 b:2 c:3
      executed: drop_scratch parse(b) report
    third call: a:1 b:2 c:3
      executed: nothing
"""

import contextlib
import io
import tempfile
from pathlib import Path

import durable
from durable import task, workflow

NUMBERS = {"a": "1", "b": "two", "c": "3"}
executed: list[str] = []


@task
def fetch(name: str) -> str:
    executed.append(f"fetch({name})")
    return name


@task
def parse(name: str) -> str:
    executed.append(f"parse({name})")
    return f"{name}:{int(NUMBERS[name])}"


@task
def report(lines: list[str]) -> str:
    executed.append("report")
    return " ".join(lines)


@task(replay=False)  # in every execution of the run
def drop_scratch() -> None:
    executed.append("drop_scratch")


@workflow(max_workers=4)
def graph() -> str:
    fetched = fetch.map("abc", concurrency=2).futures
    parsed = [parse.submit(future) for future in fetched]  # a future as an argument is a dependency
    summary = report.submit(parsed)
    drop_scratch.with_options(after=[summary], when="always").submit()
    return summary.result()


def told() -> str:
    listed, executed[:] = " ".join(sorted(executed)), []
    return f"  executed: {listed or 'nothing'}"


def main() -> None:
    durable.configure(Path(tempfile.mkdtemp()) / "store.db")
    try:
        graph()
    except durable.UpstreamFailedError as error:
        skipped, culprit = (key.partition(":")[0] for key in (error.step_key, error.culprit))
        print(f"first call: step '{skipped}:…' was skipped, because step '{culprit}:…' failed\n{told()}")
    NUMBERS["b"] = "2"
    print(f"mended, second call: {graph()}\n{told()}")
    print(f"third call: {graph()}\n{told()}")


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):  # the lines for people carry times
        main()
