"""Several documents fetched and summarised at once; one fails, and only its branch is executed again.

Command:

    python examples/04_async_summaries.py

Expected output:

    first call: 1 branch failed
      fetched: a b c; summarised: a c
    second call: A! B! C!
      fetched: a b c; summarised: a b c
"""

import asyncio
import contextlib
import io
import tempfile
from pathlib import Path

import durable
from durable import task, workflow

fetched: list[str] = []
summarised: list[str] = []
overloaded = {"b"}


@task
async def fetch(name: str) -> str:
    await asyncio.sleep(0.01)
    fetched.append(name)
    return name.upper()


@task
async def summarise(text: str) -> str:
    await asyncio.sleep(0.02)
    if text.lower() in overloaded:
        raise TimeoutError("the model is overloaded")
    summarised.append(text.lower())
    return f"{text}!"


async def handle(name: str) -> str:
    return await summarise(await fetch(name))


@workflow
async def digest(names: list[str]) -> str:
    results = await asyncio.gather(*(handle(name) for name in names), return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    if failures:
        raise ExceptionGroup(f"{len(failures)} branch failed", failures)
    return " ".join(str(result) for result in results)


def report() -> None:
    print(f"  fetched: {' '.join(sorted(fetched))}; summarised: {' '.join(sorted(summarised))}")


def main() -> None:
    durable.configure(Path(tempfile.mkdtemp()) / "store.db")
    try:
        asyncio.run(digest(["a", "b", "c"]))
    except ExceptionGroup as error:
        print(f"first call: {error.message}")
    report()
    overloaded.clear()
    print(f"second call: {asyncio.run(digest(['a', 'b', 'c']))}")
    report()


if __name__ == "__main__":
    with contextlib.redirect_stderr(io.StringIO()):  # the lines for people carry times
        main()
