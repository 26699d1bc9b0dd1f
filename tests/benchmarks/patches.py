"""What a patched function costs where nothing is recorded: outside a run, with a store open and without.

    python -m tests.benchmarks.patches

Each figure is the price of the patched call less that of the same call before it was patched, both the least of many
short measurements, since a busy machine only ever adds to them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import timeit
from types import ModuleType
from typing import TYPE_CHECKING, Any

import durable
from durable import workflow
from durable.patches import Patch, Preset
from durable.patches.installing import install_preset
from tests.benchmarks.steps import Figure, line_of

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS, _REPEATS = 1000, 300
_MOST = 2.0  # microseconds that a patched call outside a run may cost more


class Session:
    """Stands for the client of a library, without the price of a request."""

    def send(self, request: Any, **_: Any) -> Any:
        return request

    async def asend(self, request: Any, **_: Any) -> Any:
        return request


def function(request: Any, **_: Any) -> Any:
    return request


def _microseconds(call: Callable[[], Any]) -> float:
    return min(timeit.repeat(call, number=_CALLS, repeat=_REPEATS)) / _CALLS * 1e6


@workflow
def nothing() -> None:
    """Open the store."""


def measure() -> dict[str, float]:
    """Give the price of each kind of call in microseconds."""
    module: Any = ModuleType("library")
    module.Session, module.function = Session, function
    sys.modules["library"] = module
    session, loop = Session(), asyncio.new_event_loop()

    async def send_all() -> None:
        for _ in range(_CALLS):
            await session.asend(1, stream=True)

    def awaited() -> float:
        seconds = timeit.repeat(lambda: loop.run_until_complete(send_all()), number=1, repeat=_REPEATS)
        return min(seconds) / _CALLS * 1e6

    def prices() -> dict[str, float]:
        return {
            "method": _microseconds(lambda: session.send(1, stream=True)),
            "coroutine method": awaited(),
            "function that became a task": _microseconds(lambda: module.function(1, stream=True)),
        }

    before = prices()
    patches = tuple(Patch(target=f"library:Session.{name}", describe=lambda *_: None) for name in ("send", "asend"))
    install_preset(Preset(name="library", patches=patches))
    durable.patch("library:function")
    found = {f"patched {name}, no store": price - before[name] for name, price in prices().items()}
    with tempfile.TemporaryDirectory() as folder:
        durable.configure(f"{folder}/runs.db")
        nothing()
        found |= {f"patched {name}, store open": price - before[name] for name, price in prices().items()}
    loop.close()
    return found


def main() -> None:
    """Measure and print the table."""
    print(f"{'':<58} {'median':>9} {'':<14} {'quarters':>16} {'target':>7} {'aim':>6}")
    for what, price in measure().items():
        print(line_of(Figure(what, price, "µs", _MOST)))


if __name__ == "__main__":
    main()
