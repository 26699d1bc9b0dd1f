"""A submitted step is decided like any other; its arguments may be results of others, which its key names but does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable.errors import InputsChangedError
from durable.records import StepStatus
from durable.runs.execution import warn_once
from durable.runs.states import state_of
from durable.steps.details import Details
from durable.steps.replaying import recorded_changes
from durable.steps.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durable.records import StepRecord
    from durable.steps.attempts import Attempts
    from durable.steps.effects import Effect
    from durable.steps.matching import Match


@dataclass(frozen=True)
class StepReference:
    """Stands for the result of a submitted step where a key is made: which step it is, whatever the result will be."""

    container: str
    content: bytes
    occurrence: int
    shown: str

    def __str__(self) -> str:
        """Show the step key, for keys that are format strings."""
        return self.shown

    def __durable_key__(self) -> tuple[str, bytes, int]:
        """Count without the branch of asyncio tasks, which may be another one on resume."""
        return (self.container, self.content, self.occurrence)


class SubmittedStep(Step):
    """A step whose arguments may be the results of others."""

    __slots__ = ("attempts", "depends_on_results")

    def __init__(self, match: Match, function: Callable[..., Any], *, depends_on_results: bool) -> None:
        super().__init__(match, function)
        self.attempts: Attempts | None = None
        self.depends_on_results = depends_on_results

    def _attempts(self) -> Attempts:
        self.attempts = super()._attempts()
        return self.attempts

    def skip(self, error: BaseException) -> None:
        """Record that it is not executed, and why."""
        self._attempts().skip(error)

    def life(self) -> Generator[Effect, Any, Any]:
        """Do what every step does, but execute it again if it was recorded with other results of its dependencies."""
        if self.is_outdated:
            self._tell_outdated()
            self.match.scope.renewed = True
            return (yield from self._attempts().execute())
        return (yield from super().life())

    def _replay_changes(self, record: StepRecord) -> None:
        execution = self.execution
        state_of(execution).postpone(self.match.frame.body, recorded_changes(execution, record), record.done or 0)

    @property
    def is_outdated(self) -> bool:
        """Whether it succeeded with other results than its dependencies have now, because those were executed again."""
        record = self.match.record
        if not self.depends_on_results or self.task.key is not None:
            return False
        if record is None or record.status != StepStatus.SUCCEEDED:
            return False
        recorded = Details.read(record.details).arguments
        return {name: argument.digest for name, argument in recorded.items()} != self.match.call.digests()

    def _tell_outdated(self) -> None:
        assert self.match.record is not None
        key, run = self.match.record.key, self.execution.id
        message = f"Step {key!r} of run {run} was recorded with other results of the tasks that it depends on"
        if not self.match.is_idempotent:
            raise self.execution.stop(
                InputsChangedError(
                    f"{message}. It is not idempotent, so it was not executed again. To keep its recorded result give the "
                    f"task a key=, or let the dependencies keep theirs (replay=True, on_code_change='keep')."
                )
            )
        warn_once("outdated", f"{run}:{self.task.label}", f"{message}; it is idempotent, so it is executed again.")

    @property
    def is_replayed(self) -> bool:
        """Whether nothing is executed: a result or a failure is recorded and stands."""
        if self.match.record is None:
            return False
        self.match.prefer_equal_arguments()
        return self.is_delivered(self.match.record) and not self.is_outdated
