"""The run and the step that a command names: what is not there is a mistake in the command, and nothing is done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from durable.cli.results import UsageError
from durable.errors import ConfigurationError, NotFoundError
from durable.runs.handles import get_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import StepRecord
    from durable.runs.handles import Run


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Take what is not there, or cannot be asked for, as a wrong use of the command."""
    try:
        yield
    except (ConfigurationError, NotFoundError) as error:
        raise UsageError(str(error)) from error


def find_run(run_id: str) -> Run:
    """Find a run by its id or a unique beginning of it."""
    with usage():
        return get_run(run_id)


def find_step(run: Run, step: str, *, to_decide: bool = False) -> StepRecord:
    """Find a step of a run by its key, a unique beginning of it (`to_decide`: of one in doubt), or `#number`."""
    with usage():
        return run.find_step(step, to_decide=to_decide)
