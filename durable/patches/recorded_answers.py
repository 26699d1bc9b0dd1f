"""Whether the recorded result of a patched call stands for a failure, as far as the record alone tells; executes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.identity.step_keys import items_container
from durable.patches.http_actions import failure, resolved_items, task_names
from durable.records import StepFlag, StepQuery, StepStatus

if TYPE_CHECKING:
    from durable.records import StepRecord
    from durable.runs.sessions import Session
    from durable.steps.verdicts import Past

_PROGRAM = "subprocess.run"
_REQUESTS = frozenset(name for library in ("requests", "httpx", "aiohttp", "urllib") for name in task_names(library))


def recorded_failure(session: Session, step: StepRecord, past: Past) -> bool | None:
    """Tell of a result that stands for a failure and may have ended the run whether nothing happened; None of any other."""
    if step.status != StepStatus.SUCCEEDED or step.value is None or step.task not in {_PROGRAM, *_REQUESTS}:
        return None
    ended_the_run = step.seq in past.retry
    if not ended_the_run and step.done != past.last_event:
        return None
    value: Any = _decoded(session, step, step)
    if step.flags & StepFlag.RESOLVED:
        return None if step.task == _PROGRAM else failure(resolved_items(value)[0])
    if step.task == _PROGRAM:
        return False if ended_the_run and value["returncode"] else None
    return failure(value if "status" in value else _head(session, step, value))


def _head(session: Session, step: StepRecord, manifest: dict[str, Any]) -> Any:
    """Give the first item of a response that was read piece by piece."""
    query = StepQuery(after=manifest["since"] - 1, limit=1, parent=step.seq, scope=(items_container(step.key), ""))
    [chunk] = session.store.steps(step.run_id, query)
    return session.serializer.decode(_decoded(session, step, chunk)[0], run=step.run_id, step=step.key)


def _decoded(session: Session, step: StepRecord, holder: StepRecord) -> Any:
    assert holder.value is not None
    data = session.fetch(holder.value, run=step.run_id, step=step.key)
    return session.serializer.decode(data, run=step.run_id, step=step.key)
