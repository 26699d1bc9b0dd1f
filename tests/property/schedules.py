"""An event loop that runs what is ready in a random order, drawn from a seed: every order that asyncio allows, and more."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


class ShufflingLoop(asyncio.SelectorEventLoop):
    """Shuffles what is ready before each pass."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = random.Random(seed)

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]  # where asyncio keeps what the next pass calls
        if len(ready) > 1:
            callbacks = [ready.popleft() for _ in range(len(ready))]  # other threads may append meanwhile
            self._seed.shuffle(callbacks)
            ready.extend(callbacks)
        super()._run_once()  # type: ignore[misc]  # as above


def run_shuffled(coroutine: Coroutine[Any, Any, Any], seed: int) -> Any:
    """Do what `asyncio.run` does in an order that follows from the seed."""
    with asyncio.Runner(loop_factory=lambda: ShufflingLoop(seed)) as runner:
        return runner.run(coroutine)
