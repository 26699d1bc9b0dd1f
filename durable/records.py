"""What crosses the boundary between the engine and a store: frozen records of opaque bytes, never user values.

A run is one execution history of a workflow. A step is one call of a task in it. Both calls and completions are
numbered by one counter per run (`seq`, `done`), so the order in which things happened can be read off the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunStatus(StrEnum):
    """Status of a run."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    BLOCKED = "blocked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


# the statuses of a run whose last execution has not ended, or did not live to record its end
UNFINISHED = (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)


class StepStatus(StrEnum):
    """Status of a step."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNDONE = "undone"


# the statuses of a step whose body has ended, and that a later execution may use as it is recorded
ENDED = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED)


class StepFlag:
    """What a later execution has to know about a step besides its status: bits of `StepRecord.flags`.

    Plain integers, because the arithmetic of enumerations costs a microsecond each time and stands on every step's path.
    """

    NOT_IDEMPOTENT: Final = 1
    NO_EFFECT: Final = 2  # it is known that nothing happened: refused, declared by no_effect_on, or by verdict
    VALUE_UNAVAILABLE: Final = 4  # it succeeded, but its result could not be stored
    RESOLVED: Final = 8  # its outcome was decided by a person or by reconcile
    SENSITIVE: Final = 16
    NO_BODY: Final = 32  # a recorded value (time, random) or a marker: there was no body to execute
    CHILD_RUN: Final = 64  # the step is a run of its own
    ALWAYS: Final = 128  # replay=False: executed in every execution of the run
    RETRYING: Final = 256  # `started`, but between two attempts: no body was running
    STATE: Final = 512  # what the step changed in the run's state stands beside its value
    COPIED: Final = 1024  # from another run: the idempotency key that it has there stands in its details
    UNDO: Final = 4096  # it has a compensation: when the run fails, what it did is undone
    REOPENED: Final = 8192  # `undone` because steps below it were: executed again as itself, not as a new occurrence
    COST: Final = 16384  # it cost something, or something below it did, or it may have: its task declares cost=
    COST_UNKNOWN: Final = 32768  # it succeeded, but its cost= gave no amount
    AGAIN: Final = 65536  # it had ended otherwise: calls up to a number in its details may have been made because of that
    STILL_CALLED: Final = 131072  # such a call, made once more after the step before it had been tried again
    LEFT: Final = 262144  # it succeeded, but its caller was cancelled meanwhile and did not get the result


ITEMS = "durable.items"  # the task of records that hold what a generator gave: no steps, and not counted as such


def step_key(container: str, branch: str, label: str, occurrence: int) -> str:
    """Write a step key for people."""
    numbered = label if occurrence == 1 else f"{label}~{occurrence}"
    if container or branch:
        return "/".join([part for part in (container, branch, numbered) if part])
    return numbered


class StepRecord(NamedTuple):
    """One call of a task in a run; written whole each time.

    A named tuple rather than a dataclass because it is the row itself: building one is on the path of every step.

    `(run_id, seq)` identifies it. `container` is the path of steps and named scopes that it stands in, `branch` the
    path of asyncio tasks below that; `content` the 16-byte digest of task and discriminator. `parent` is the `seq` of
    the step whose body made the call, 0 in the workflow itself. Of a step that was written all of these, up to
    `occurrence`, stay as they are. Times are seconds since 1970.
    """

    run_id: str
    seq: int
    parent: int
    container: str
    branch: str
    task: str
    label: str
    content: bytes
    occurrence: int
    status: str
    flags: int
    epoch: int
    attempts: int
    interruptions: int
    started_at: float
    ended_at: float | None = None
    done: int | None = None
    value: bytes | None = None
    error: bytes | None = None
    details: bytes | None = None

    @property
    def key(self) -> str:
        """The step key for people: scope, task, discriminator and occurrence."""
        return step_key(self.container, self.branch, self.label, self.occurrence)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run; `epoch` counts its claims and, with `owner`, fences every write.

    `owner` names the process that holds the run (empty: nobody), `host` and `pid` describe it for people.
    `entry` is JSON that says how to import the workflow again; `arguments` one short digest per input.
    `outcome` is JSON about the end of the last execution (what to try again, what blocks).
    `mark` is the largest `done` when the run was claimed last: growth since then is progress.
    `lineage` is the id that callers ask for: a fresh run after an earlier one gets an id of its own and keeps it.
    """

    id: str
    workflow: str
    status: str
    epoch: int
    owner: str
    created_at: float
    updated_at: float
    host: str = ""
    pid: int = 0
    ended_at: float | None = None
    parent_run: str | None = None
    parent_step: str | None = None
    entry: str = "{}"
    inputs: bytes | None = None
    arguments: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    outcome: str = "{}"
    mark: int = 0
    lineage: str = ""


class History(NamedTuple):
    """What a store knows of a run's steps when the run is claimed: enough to read them page by page.

    `steps` and `succeeded` count no `ITEMS`. `last_progress` is the `last_done` of those that are not executed in every
    execution; None where a store cannot tell.
    """

    steps: int = 0
    last_seq: int = 0
    last_done: int = 0
    succeeded: int = 0
    last_progress: int | None = None


class Claim(NamedTuple):
    """Answer to a claim: the run as it is now and, if it was granted, as it was before."""

    run: RunRecord
    granted: bool
    previous: RunRecord | None = None
    history: History = History()


class Message(NamedTuple):
    """Something sent to a run: its name, its payload, and when it was sent, in seconds since 1970.

    `key` names the sending, so that one that is repeated counts once; None: each counts. `number` is the store's: it grows
    with every message, so the oldest of a name has the smallest.
    """

    run_id: str
    name: str
    payload: bytes
    sent_at: float
    key: str | None = None
    number: int = 0


class Received(NamedTuple):
    """The result of a step that waited, and the number of the message that it consumed: both are durable, or neither."""

    step: StepRecord
    message: int


class Replayed(NamedTuple):
    """How many steps an execution used as they were recorded, and the sum of the seconds that they had taken."""

    steps: int = 0
    seconds: float = 0.0


class Request(NamedTuple):
    """What others left for the owner of a run: what to do (`cancel`, `pause` or `resume`; empty: nothing), and the number
    of the newest message that waits (0: none does).
    """

    wish: str = ""
    mail: int = 0


class Batch(NamedTuple):
    """One group of writes that becomes durable as a whole or, run by run, not at all.

    `created` are new runs: a run whose id exists already is lost, with all of its steps in this batch. `steps` replace
    whole rows by `(run_id, seq)`; `ended` replace run rows, and the run goes on if its owner stays. `received` are those
    of the steps that consume a message. All but `created` counts only while the run's epoch and owner are those of
    `fences[run_id]`.
    """

    created: tuple[RunRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    ended: tuple[RunRecord, ...] = ()
    fences: Mapping[str, tuple[int, str]] = MappingProxyType({})
    received: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class StepQuery:
    """Which steps of a run to read, in the order of `seq`; all conditions that are not None must hold.

    `after` leaves out steps up to that `seq`, `flags` those that have none of them. At most `limit` rows come back. Of
    steps that succeeded and whose value is stored, `lean` allows to leave out what replaying does not need: their `epoch`
    is 0 then, and `attempts`, `interruptions`, times and `error` are empty. A store may ignore it. By `content` a store has to
    find what was written before the run was claimed last; it may leave out what came later.
    """

    after: int = 0
    limit: int = 1000
    parent: int | None = None
    content: bytes | None = None
    scope: tuple[str, str] | None = None  # container and branch
    tasks: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    flags: int | None = None
    lean: bool = False


class RunFilter(NamedTuple):
    """Which runs to list; all conditions must hold. `prefix` is of the id, `other_than` a workflow that is left out, times
    are seconds since 1970.
    """

    prefix: str | None = None
    lineage: str | None = None
    workflow: str | None = None
    other_than: str | None = None
    statuses: tuple[str, ...] = ()
    parent_run: str | None = None
    ended_before: float | None = None
    limit: int | None = None


class RunSummary(NamedTuple):
    """One line of a list of runs: the run and how many of its steps, without `ITEMS`, are in which status."""

    run: RunRecord
    steps: dict[str, int]
