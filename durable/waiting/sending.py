"""A message is durable when `send` returns; sent by a step, it reaches its run once however often the step is executed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.declarations.definitions import TaskDefinition
from durable.declarations.naming import check_run_id, is_unicode
from durable.disabled.plain_runs import post
from durable.errors import ConfigurationError, NotFoundError, NotSerializableError, RunEndedError
from durable.records import Message
from durable.runs import sessions
from durable.runs.execution import FRAME
from durable.runs.inside import idempotency_key, is_async_body
from durable.steps.engine import call_task
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from durable.runs.sessions import Session


def send(run_id: str, name: str, payload: Any = None) -> Any:
    """Send a message to a run, which gets it from `durable.wait_for(name)`, now or later, once.

    The run may be executed by any process, or by none: the message waits in the store, and messages of one name are
    received in the order in which they were sent. Inside a run, sending is a step (to be awaited in an async task or
    workflow), and it is sent once; elsewhere it is sent when this returns, each time it is called.

    Raises `ConfigurationError` for a run id or name that cannot be one, `NotSerializableError` for a payload that cannot be
    stored, `NotFoundError` if there is no run of exactly this id, and `RunEndedError` if it succeeded or was superseded.
    """
    frame = FRAME.get()
    if frame is None and sessions.is_disabled():
        check_run_id(run_id)
        check_name(name)
        return post(run_id, name, payload)
    session = frame.body.execution.session if frame is not None else sessions.current()
    return send_to(session, run_id, name, payload)


def send_to(session: Session, run_id: str, name: str, payload: Any) -> Any:
    """Do what `send` does, with the store of a session."""
    check_run_id(run_id)
    check_name(name)
    data = _encode(session, run_id, name, payload)
    frame = FRAME.get()
    if frame is None:
        _post(session, run_id, name, data, None)
        return None
    definition = _SEND_ASYNC if is_async_body(frame) else _SEND
    return call_task(definition, definition.plain, None, (run_id, name, payload), {})


def check_name(name: object) -> None:
    """Refuse what cannot be the name of a message."""
    if not isinstance(name, str) or not name or "\0" in name or not is_unicode(name):
        raise ConfigurationError(
            f"A message has a name that is a string, not empty, valid Unicode and without NUL, not {name!r}."
        )


def payload_of(session: Session, message: Message) -> Any:
    """Give the payload of a message."""
    step = _place(message.name)
    data = session.fetch(message.payload, run=message.run_id, step=step)
    return session.serializer.decode(data, run=message.run_id, step=step)


def _place(name: str) -> str:
    return f"(message {name})"


def _encode(session: Session, run_id: str, name: str, payload: Any) -> bytes:
    try:
        return session.serializer.encode(payload, run=run_id, step=_place(name))
    except Unserializable as error:
        raise NotSerializableError(
            f"The message {name!r} to run {run_id} was not sent: payload{error.path} is a {error.culprit} "
            f"({error.reason}). Send only what can be stored."
        ) from None


def _post(session: Session, run_id: str, name: str, data: bytes, key: str | None) -> None:
    number = session.store.post_message(Message(run_id, name, data, sessions.clock(), key))
    if not number:
        run = session.store.load_run(run_id)
        if run is None:
            raise NotFoundError(
                f"There is no run {run_id!r} in {session.store.url}, so the message {name!r} was not sent. List them with: "
                f"durable ls"
            )
        raise RunEndedError(
            f"Run {run_id} is {run.status}, so the message {name!r} was not sent: nobody waits for it.", run_id
        )
    execution = session.active.get(run_id)
    if execution is not None:
        execution.standby.notice(number)


def _send(run_id: str, name: str, payload: Any) -> None:
    frame = FRAME.get()
    assert frame is not None
    session = frame.body.execution.session
    _post(session, run_id, name, _encode(session, run_id, name, payload), idempotency_key())


async def _send_async(run_id: str, name: str, payload: Any) -> None:
    await asyncio.to_thread(_send, run_id, name, payload)


_SEND = TaskDefinition(function=_send, name="durable.send", idempotent=True, on_code_change="keep")
_SEND_ASYNC = TaskDefinition(function=_send_async, name="durable.send", idempotent=True, on_code_change="keep")
registry.tasks.add(_SEND)
