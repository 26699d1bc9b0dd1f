"""What a checkpoint store has to do; one contract suite, `durable.testing.StoreContract`, runs against every store.

A store keeps runs and steps as records of opaque bytes. It never decodes a value and decides nothing about replay; it
guards two invariants: a batch is durable as a whole when `write` returns, and nobody but the current owner of a run,
at its current epoch, changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable.records import (
        Batch,
        Claim,
        Message,
        Replayed,
        Request,
        RunFilter,
        RunRecord,
        RunSummary,
        StepQuery,
        StepRecord,
    )


@runtime_checkable
class Store(Protocol):
    """Checkpoint store. All methods are blocking and safe to call from any thread.

    Every method may raise `StoreError`; "absent" is None or an empty sequence, never an error.
    """

    @property
    def url(self) -> str:
        """Where the store is: a URL that `durable.stores.open_store` accepts, without credentials."""
        ...

    @property
    def owner(self) -> str:
        """Token of this process as an owner of runs: unique, and new in a forked child."""
        ...

    def claim(self, run_id: str, *, host: str, pid: int, now: float) -> Claim | None:
        """Make this process the owner of a run, unless another living process owns it.

        A granted claim adds one to the run's epoch, sets its owner, host, pid, `updated_at` and `mark`, makes its
        status `running`, clears a pending request, and is durable before this returns; `Claim.previous` is the run as
        it was before. A run that this process itself owns is granted again: who runs in this process is the caller's
        to know. None: there is no such run.
        """
        ...

    def write(self, batch: Batch, *, wait: bool = True) -> frozenset[str] | None:
        """Make a batch durable in one transaction and return the ids of the runs whose fence no longer holds.

        Of such runs nothing in the batch is written; of all others everything is. With `wait=False` None comes back at
        once, and nothing was written, if another writer holds the store. Writing a batch again changes nothing.
        Values larger than the store's limit may be kept elsewhere: the row then holds a reference that begins with
        a zero byte and that `fetch` resolves.

        Raises `StoreFailedError` if the batch is not durable (or not known to be): the store accepts no write then
        until it is opened again.
        """
        ...

    def fetch(self, reference: bytes) -> bytes:
        """Give the value for a reference; raises `CorruptRecordError` if it is gone or damaged."""
        ...

    def load_run(self, run_id: str) -> RunRecord | None:
        """Read one run."""
        ...

    def runs(self, which: RunFilter) -> Sequence[RunSummary]:
        """List runs, the newest first, with the number of their steps by status."""
        ...

    def steps(self, run_id: str, query: StepQuery) -> Sequence[StepRecord]:
        """Read steps in the order of `seq`.

        May return fewer than `limit` rows when they are large; only an empty answer means that there are no more.
        """
        ...

    def step_tasks(self, run_id: str, query: StepQuery) -> frozenset[str]:
        """Give the distinct task names among the steps that match, whatever the limit."""
        ...

    def replayed(self, run_id: str, parent: int, last: int, epoch: int) -> Replayed:
        """Count the steps called in `parent`, with numbers up to `last` (-1: all), that were written before this epoch, had a
        body, and succeeded, failed or were cancelled; and the seconds that they took.
        """
        ...

    def is_alive(self, owner: str) -> bool:
        """Tell whether the process with this owner token lives (a stopped one does)."""
        ...

    def post_request(self, run_id: str, request: str) -> None:
        """Leave a request (`cancel`, `pause` or `resume`) for the run's owner; the last one wins."""
        ...

    def requests(self) -> Mapping[str, Request]:
        """Give what is pending for the runs that this process owns, by run id: requests, and messages that wait."""
        ...

    def changes(self) -> object:
        """Give something that differs after another process has written, without a query; None: no such thing is known."""
        ...

    def post_message(self, message: Message) -> int:
        """Make a message for a run durable and give its number; 0 if there is no such run, or it has succeeded or was
        superseded. One whose key this run has had, consumed or not, is not added again: its first number comes back.
        """
        ...

    def next_message(self, run_id: str, name: str, *, after: int = 0) -> Message | None:
        """Give the oldest message of a name that no step has consumed, among those with numbers above `after`."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Delete a run that nobody owns, with its steps, its messages and the values that nothing else refers to."""
        ...

    def sweep(self) -> int:
        """Remove values that nothing refers to, which writers that were killed left; gives their number."""
        ...

    def report(self) -> Mapping[str, str]:
        """Describe the store for `durable doctor`: path, versions, known faults, permissions, durability in force."""
        ...

    def close(self) -> None:
        """Give up ownership of everything and release files and connections. Closing twice does no harm."""
        ...
