"""Lines on stderr for people: which run was resumed or returned, and how to get a new one, as they can ask for it."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections import Counter
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable.records import RunRecord

logger = logging.getLogger("durable")

_LISTED = 5  # keys that are named
_OFTEN = 3  # per workflow and process: a loop over finished runs does not flood the terminal
NOTEBOOK = "durable.notebook"  # the workflow that runs of notebooks belong to
BLOCK = "durable.run"  # the workflow of runs that are blocks
_notebooks: set[str] = set()  # whose runs were opened here before: they are given back and claimed again at will
_shown: Counter[str] = Counter()
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Asker(NamedTuple):
    """Whoever asks for runs: how they ask for a new one, and how they wait for one that is under way."""

    fresh: str
    waiting: str


_AGAIN = "When it has ended, give the same command again. To stop it: {cancel}"
_CODE = Asker("with_options(fresh=True) or DURABLE_FRESH=1", "To wait for its result: with_options(on_running='join').")
COMMAND = Asker("--fresh or DURABLE_FRESH=1", _AGAIN)
PROGRAM = Asker("DURABLE_FRESH=1", _AGAIN)
_asker: ContextVar[Asker] = ContextVar("durable_asker", default=_CODE)


@contextlib.contextmanager
def asked_by(asker: Asker) -> Iterator[None]:
    """Advise in the block what is at hand for that one."""
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)


def fresh_way(workflow: str = "") -> str:
    """Say how a new run of a workflow is asked for."""
    asker = _asker.get()
    if asker is _CODE and workflow == NOTEBOOK:
        return "%durable fresh"
    return "fresh=True or DURABLE_FRESH=1" if asker is _CODE and workflow == BLOCK else asker.fresh


def waiting_way(run: RunRecord) -> str:
    """Say how to get what a run gives that is under way elsewhere."""
    asker = _asker.get()
    if asker is _CODE and run.workflow == BLOCK:
        return f"To wait for its end: durable.run({run.id!r}, on_running='join')."
    return asker.waiting.format(cancel=shell_command("cancel", run.id))


def age(seconds: float) -> str:
    """Say how long ago something was, in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def lasted(seconds: float) -> str:
    """Say how long something took, in its largest unit."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"


def moment(seconds: float) -> str:
    """Write a time, in seconds since 1970, in the time zone of whoever reads it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(count: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{count} {what}{'s' * (count != 1)}"


def state_of(status: str, *, is_under_way: bool = False) -> str:
    """Say how a run stands: one that nobody executes although its end is not recorded was interrupted."""
    return "interrupted" if status in ("running", "waiting") and not is_under_way else str(status)


def shell_command(*words: str) -> str:
    """Write a command line of ours as a shell takes it."""
    return shlex.join(("durable", *words))


def _since(run: RunRecord, now: float) -> str:
    return age(now - (run.ended_at if run.ended_at is not None else run.updated_at))


def tell_resumed(run: RunRecord, before: str, steps: int, now: float) -> None:
    """Say that an unfinished run goes on."""
    logger.info("run resumed", extra={"run": run.id, "status": before, "steps": steps})
    if run.id in _notebooks:
        return
    tell(
        f"resuming run {run.id} ({state_of(before)} {_since(run, now)}, {counted(steps, 'step')} recorded). "
        f"For a new run: {fresh_way(run.workflow)}."
    )


def tell_no_more(run_id: str) -> None:
    """Say nothing of a notebook's run when the kernel that had it claims it again."""
    _notebooks.add(run_id)


def tell_returned(run: RunRecord, now: float, saved: Callable[[], str]) -> None:
    """Say that a finished run's stored result is returned, and what that saved."""
    logger.info("stored result returned", extra={"run": run.id})
    rest = _allowance(run.workflow)
    if rest is None:
        return
    what = saved()
    tell(
        f"run {run.id} succeeded {age(now - (run.ended_at or now))}; returning its stored result, nothing is executed"
        f"{f': {what}' if what else ''}. For a new run: {fresh_way()}.{rest}"
    )


def tell_program(run: RunRecord, steps: int, now: float, *, moved: str | None) -> None:
    """Say that a program is executed again; `moved` is the folder that it was begun in, if it is another one."""
    since, recorded = _since(run, now), f"{counted(steps, 'step')} recorded"
    logger.info("run resumed", extra={"run": run.id, "status": run.status, "steps": steps})
    if run.status == "succeeded":
        what = f"run {run.id} succeeded {since}; the program is executed with its stored results ({recorded})"
    else:
        what = f"resuming run {run.id} ({state_of(run.status)} {since}, {recorded})"
    where = f" It was begun in {moved}, where its arguments may mean other files." if moved else ""
    tell(f"{what}. For a new run: {fresh_way()}.{where}")


def tell_ended(run_id: str, how: str) -> None:
    """Say that a program did not come to its end, and that nothing is lost."""
    tell(f"run {run_id} {how}; what is recorded stays, the same command goes on.")


def tell_other_store(run_id: str, location: str, other: str) -> None:
    """Say that a program begins anew although another store may have its run."""
    tell(
        f"run {run_id} is new in {location}. There is another store beside the program, {other}: what that holds of it counts "
        f"for commands in its folder, or with: {shell_command('--db', other, 'run', '…')}"
    )


def tell_done(run: RunRecord, what: str, *, was_resumed: bool) -> None:
    """Say what an execution did: of a resumed run always, of new ones of the same workflow some times."""
    logger.info("run ended", extra={"run": run.id, "status": str(run.status)})
    rest = "" if was_resumed else _allowance(f"{run.workflow} (new)")
    if rest is not None:
        tell(f"run {run.id} {run.status}: {what}.{rest}")


def _allowance(kind: str) -> str | None:
    """Give what is to be said behind a line of a kind that comes often; None if there were enough."""
    _shown[kind] += 1
    if _shown[kind] > _OFTEN:
        return None
    return " (no further lines of this kind for this workflow)" if _shown[kind] == _OFTEN else ""


def tell_left_behind(run_id: str) -> None:
    """Say that the process ends in the middle of a run."""
    tell(
        f"this process ends while it executes run {run_id} in the background: the run is interrupted, and resumed when it is "
        f"called again. To wait for its end: run.result()."
    )


def tell_waiting(run_id: str, steps: list[str]) -> None:
    """Say that an interrupted run cannot end yet."""
    tell(
        f"run {run_id} was interrupted and ends when {listed(steps)} have ended: what runs in threads cannot be stopped. To "
        f"end at once kill the process; they are in flight then, as after a crash: kill -9 {os.getpid()}"
    )


def tell_loop_stopped(run_id: str) -> None:
    """Say that a paused run holds up the event loop that it executes in."""
    tell(
        f"run {run_id} is paused, and a sync task that it calls in its event loop waits for that: nothing in the loop goes on "
        f"before {shell_command('resume', run_id)}. Let async tasks, or submit(...), wait without it."
    )


def tell_only_replayed(run_id: str, failures: list[str]) -> None:
    """Say that an execution failed without executing anything."""
    tell(
        f"run {run_id} failed again and executed nothing: these recorded failures were replayed: {listed(failures)}. "
        f"To try them again: {shell_command('resume', run_id)} --retry-failed, with_options(retry_failed=True) or "
        f"DURABLE_RETRY_FAILED=1."
    )


def listed(keys: list[str]) -> str:
    """Name the first few of many."""
    more = len(keys) - _LISTED
    return ", ".join(keys[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def tell(line: str) -> None:
    """Write a line; that nobody can read it (a closed pipe, a full disk) is no reason to stop."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"durable: {line}\n")
            sys.stderr.flush()
