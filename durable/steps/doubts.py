"""Where nobody can know whether an effect happened, the receiver is asked, then the user; never guessed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable.errors import StepInDoubtError
from durable.identity.step_keys import idempotency_key
from durable.steps.details import Details
from durable.telling.notices import moment, shell_command, tell
from durable.telling.progress import hidden

if TYPE_CHECKING:
    from durable.records import RunRecord, StepRecord


@dataclass(frozen=True, slots=True)
class Happened:
    """Verdict: the effect happened, and this is what the step returns from now on."""

    value: Any


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """Verdict: the effect did not happen; the step is executed."""


Outcome = Happened | DidNotHappen

did_not_happen = DidNotHappen()


def happened(value: Any = None) -> Happened:
    """Say, from a `reconcile` function, that the effect happened and that the step's result is `value`."""
    return Happened(value)


_SHOWN_ARGUMENTS = 5


def describe_doubt(record: StepRecord, run: RunRecord, reason: str = "It is not idempotent") -> str:
    """Say which step is in doubt, since when, why, and how to decide."""
    since = moment(record.started_at)
    if record.status == "started" and record.value is not None:  # as a preset leaves it
        cause = f"got an answer that does not say whether it was done (started {since})"
    elif record.status == "started":
        cause = f"was running when its process ended (started {since})"
    elif record.status == "undone":
        cause = f"called steps that were undone when the run failed (started {since})"
    else:
        cause = f"was left by an exception that does not prove that nothing happened (started {since})"
    details = Details.read(record.details)
    if (expires := details.expires) is not None:
        until = moment(expires)
        reason = f"It was idempotent until the receiver forgot its idempotency key ({until})"
    shown = [f"{name}={argument.preview}" for name, argument in details.arguments.items()]
    more = ", ..." if len(shown) > _SHOWN_ARGUMENTS else ""
    called = f" It was called with {', '.join(shown[:_SHOWN_ARGUMENTS])}{more}." if shown else ""
    return (
        f"Step {record.key!r} of run {run.id} {cause}.{called} {reason}, so it was not executed again. Its "
        f"idempotency key is {idempotency_key(record)}. Find out whether it happened, then decide with: "
        f"{resolve_command(run.id, record.key)} --happened 'JSON' or --did-not-happen."
    )


def in_doubt(record: StepRecord, run: RunRecord, *more: str) -> StepInDoubtError:
    """Make the error that stops a run; `more` are sentences that say why nobody could decide."""
    return _stopping(record, run, describe_doubt(record, run), *more)


def in_doubt_for_another(record: StepRecord, run: RunRecord, *more: str) -> StepInDoubtError:
    """Make the error that stops a run before a call that may be a recorded step under another name."""
    reason = "A call that is not idempotent may be the same one under another name"
    return _stopping(record, run, describe_doubt(record, run, reason), *more)


def _stopping(record: StepRecord, run: RunRecord, *sentences: str) -> StepInDoubtError:
    message = " ".join(sentences)
    return StepInDoubtError(message, run.id, record.key, idempotency_key(record))


def resolve_command(run_id: str, step_key: str) -> str:
    """Write the command that decides a doubt."""
    return shell_command("resolve", run_id, step_key)


def can_ask() -> bool:
    """Whether a person sits at a terminal."""
    return bool(sys.stdin is not None and sys.stderr is not None and sys.stdin.isatty() and sys.stderr.isatty())


def ask_whether_it_happened(message: str) -> Outcome | None:
    """Ask the person at the terminal; None if they do not know."""
    tell(message)
    answer = _prompt("Did it happen? [y]es / [n]o / [ENTER] leave it undecided: ").lower()
    if answer in {"n", "no"}:
        return did_not_happen
    if answer not in {"y", "yes"}:
        return None
    while True:
        text = _prompt("Its result as JSON [null]: ") or "null"
        try:
            return Happened(json.loads(text))
        except ValueError as error:
            tell(f"not JSON: {error}")


def ask_whether_to_run(message: str) -> bool:
    """Ask the person at the terminal whether a drifted call is a new one that should be executed."""
    tell(message)
    return _prompt("Execute it as a new call? [y]es / [ENTER] no: ").lower() in {"y", "yes"}


def _prompt(question: str) -> str:
    with hidden():
        sys.stderr.write(f"durable: {question}")
        sys.stderr.flush()
        return sys.stdin.readline().strip()
