"""Results that all runs share: a task with `cache=` takes one that is young enough in place of executing its body.

A cached result is kept in the store as a run without steps, named by what the call says. Failures are not cached.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable.errors import ConfigurationError
from durable.identity.encoding import Unencodable, encode, encode_type
from durable.identity.step_keys import content_digest
from durable.journal import Fence
from durable.records import RunRecord, RunStatus

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition
    from durable.identity.calls import Call
    from durable.runs.sessions import Session

WORKFLOW = "durable.cache"
_RESULT = "(cached)"
MISS = object()


def look_up(session: Session, task: TaskDefinition, call: Call, now: float) -> Any:
    """Give the cached result of a call, or `MISS`."""
    _refuse_arguments_without_value(call)
    run = session.store.load_run(_name(call))
    if run is None or run.result is None or not _is_young(run, task, now):
        return MISS
    result = session.fetch(run.result, run=run.id, step=_RESULT)
    return session.serializer.decode(result, run=run.id, step=_RESULT)


def keep(session: Session, call: Call, value: Any, now: float) -> None:
    """Share the result of a call with other runs; it becomes durable with the records of its own run."""
    name = _name(call)
    data = session.serializer.encode(value, run=name, step=_RESULT)
    data = session.serializer.lock(data, run=name, step=_RESULT) if call.task.sensitive else data
    claim = session.claim(name, now)
    if claim is not None and not claim.granted:
        return  # another process renews it at this moment
    run = RunRecord(
        id=name,
        workflow=WORKFLOW,
        status=RunStatus.SUCCEEDED,
        epoch=1 if claim is None else claim.run.epoch,
        owner=session.store.owner if claim is None else "",
        created_at=now,
        updated_at=now,
        ended_at=now,
        result=data,
        lineage=name,
    )
    fence = Fence(name, run.epoch, session.store.owner, lambda: None)
    session.journal.append(fence, run, created=claim is None)
    if claim is None:
        session.journal.append(fence, replace(run, owner=""))


def _name(call: Call) -> str:
    if not call.task.is_anonymous:
        return f"cache:{call.shared_content.hex()}"
    try:
        function = encode(call.task.plain)
    except Unencodable as error:
        if call.business_key is None:
            raise ConfigurationError(
                f"Task {call.task.full_name!r} was not executed: its result is shared by cache=, but its function cannot be "
                f"told from others of that name: function{error.path} is a {error.culprit}. Give the task a name= and a key= "
                f"that says what is shared."
            ) from error
        function = b""
    return f"cache:{content_digest(call.shared_content, function).hex()}"


def _is_young(run: RunRecord, task: TaskDefinition, now: float) -> bool:
    if isinstance(task.cache, timedelta):
        return run.ended_at is not None and now - run.ended_at < task.cache.total_seconds()
    return True


def _refuse_arguments_without_value(call: Call) -> None:
    if call.business_key is not None:
        return
    values = {**call.values, **({"self": call.instance} if call.instance is not None else {})}
    for name, value in values.items():
        if call.encoded.get(name) == encode_type(type(value)):
            raise ConfigurationError(
                f"Task {call.task.full_name!r} was not executed: its result is shared by cache=, but its argument {name!r} "
                f"counts by its type ({type(value).__qualname__}) alone. Give the task a key= that says what is shared."
            )
