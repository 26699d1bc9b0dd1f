"""A snapshot is what a run has finished, as JSON; another store goes on from it as if the steps had been made there.

Nothing of a snapshot is believed before it was checked, and nothing in it is unpickled unless it is signed with a key of
this reader or the reader says that it trusts it. A step that may have happened is carried as such.
"""

from __future__ import annotations

import json
import math
from base64 import b85decode, b85encode
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from durable.called_runs import runs_by_step
from durable.declarations.naming import check_run_id, is_unicode
from durable.errors import CorruptRecordError, InputsChangedError, NotSerializableError, SnapshotError
from durable.identity.step_keys import idempotency_key
from durable.records import RunRecord, RunStatus, StepFlag, StepRecord, StepStatus
from durable.runs import sessions
from durable.runs.copies import FINISHED, carried, copyable, derived_id, named, plant, to_be_undone
from durable.runs.endings import sealed_result
from durable.runs.states import ADD, DELETE, SET
from durable.step_pages import all_steps
from durable.steps.details import Details
from durable.steps.verdicts import is_in_doubt
from durable.undoing.outstanding import is_being_undone
from durable.values.exceptions import describe, encode_exception
from durable.values.serializers import has_second, is_locked, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable.identity.run_calls import RunCall
    from durable.runs.sessions import Session

FORMAT = 1
_SEALS = ("digest", "signature")
_PARTS = ("steps", "doubts", "unfinished")
_KEPT = (StepStatus.SUCCEEDED, StepStatus.UNDONE)
_MAX_DEPTH = 50
_MAX_INT = 10**300  # beyond some thousand digits Python refuses to read an int
# the place of a step in its run: fields of its record, and what JSON makes of them
_PLACE: dict[str, type | tuple[type, ...]] = {
    "seq": int,
    "parent": int,
    "container": str,
    "branch": str,
    "task": str,
    "label": str,
    "content": str,
    "occurrence": int,
    "flags": int,
    "attempts": int,
    "started_at": (int, float),
    "ended_at": (int, float, type(None)),
    "done": (int, type(None)),
    "details": (str, type(None)),
}


def take(session: Session, run: RunRecord, steps: list[StepRecord]) -> dict[str, Any]:
    """Give the snapshot of a run."""
    content = _content(session, run, steps)
    data = _canonical(content)
    return content | {"digest": _digest(data), "signature": session.serializer.sign(data)}


def _content(session: Session, run: RunRecord, steps: list[StepRecord]) -> dict[str, Any]:
    finished = [step for step in steps if step.status in FINISHED]
    doubts = [step for step in steps if _may_have_happened(step)]
    unfinished = [step for step in steps if step.status == StepStatus.STARTED and not _may_have_happened(step)]
    keys = _keys(steps)
    return {
        "format": FORMAT,
        "run": run.id,
        "workflow": run.workflow,
        "status": str(run.status),
        "undoing": is_being_undone(run),
        "arguments": json.loads(run.arguments or b"{}"),
        "steps": {keys[step.seq]: _finished(session, step) for step in finished},
        "doubts": {
            keys[step.seq]: {"status": StepStatus.STARTED.value, "idempotency_key": idempotency_key(step)}
            | _placed(step)
            for step in doubts
        },
        "unfinished": {keys[step.seq]: _placed(step) for step in unfinished},
        "children": dict(_below(session, run, steps)),
    }


def _keys(steps: list[StepRecord]) -> dict[int, str]:
    """Give each step the key that people know; the few that look alike, their number too."""
    found: dict[int, str] = {}
    seen: set[str] = set()
    for step in steps:
        found[step.seq] = f"{step.key}#{step.seq}" if step.key in seen else step.key
        seen.add(step.key)
    return found


def _below(session: Session, run: RunRecord, steps: list[StepRecord]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the runs that steps are as far as another store needs them: to go on with them, or to undo them.

    Called again is also one that succeeded, if its caller was killed before its step said so.
    """
    finished = {step.key for step in steps if step.status == StepStatus.SUCCEEDED}
    for key, child in runs_by_step(session.store, run.id).items():
        is_derived = child.lineage == _derived(child.lineage, run.id, steps, key or "")
        if child.status == RunStatus.SUCCEEDED and key in finished:
            found = to_be_undone(session.store, child) if is_derived else None
        else:
            found = copyable(list(all_steps(session.store, child.id)))
        if found is not None and child.status != RunStatus.SUPERSEDED:
            yield key or "", _content(session, child, found) | {"lineage": child.lineage, "is_derived": is_derived}


def _may_have_happened(step: StepRecord) -> bool:
    """Whether a step must not be executed again: not idempotent, begun, and not known to have had no effect."""
    if not step.flags & StepFlag.NOT_IDEMPOTENT:
        return False
    if step.status in (StepStatus.FAILED, StepStatus.CANCELLED):
        return not step.flags & (StepFlag.NO_EFFECT | StepFlag.RESOLVED)
    return is_in_doubt(step)


def _placed(step: StepRecord) -> dict[str, Any]:
    place = {name: getattr(step, name) for name in _PLACE}
    details = step.details.decode() if step.details is not None else None
    return {"record": place | {"content": step.content.hex(), "details": details}}


def _finished(session: Session, step: StepRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {"status": str(step.status), "result": None}
    if step.error is not None:
        data = session.fetch(step.error, run=step.run_id, step=step.key)
        stored = describe(data, session.serializer, run=step.run_id, step=step.key)
        entry["error"] = f"{stored.type_name}: {stored.message}"
    if step.status == StepStatus.SUCCEEDED and step.value is not None:
        entry |= _carried(session, step, step.value)
    return entry | _placed(step)


def _carried(session: Session, step: StepRecord, value: bytes) -> dict[str, Any]:
    """Give a result, and what its step changed in the state: as JSON where that says all, else in bytes."""
    serializer, run, key = session.serializer, step.run_id, step.key
    data = session.fetch(value, run=run, step=key)
    unsealed = serializer.unseal(data, run=run, step=key)
    if is_locked(unsealed):
        return {"payload": b85encode(unsealed).decode()}
    try:
        result, changes = serializer.decode(data, run=run, step=key), serializer.decode_beside(data, run=run, step=key)
    except CorruptRecordError:  # damaged, or made by code that is not here: it is carried as it is
        result = changes = object()
    if _is_json(result) and _is_json(changes):
        return {"result": result} if changes is None else {"result": result, "changes": changes}
    return {"payload": b85encode(unsealed).decode()}


def _is_json(value: Any, seen: frozenset[int] = frozenset()) -> bool:
    kind = type(value)
    if kind is str:
        return is_unicode(str(value))
    if kind in (bool, type(None)):
        return True
    if kind is int:
        return bool(-_MAX_INT < value < _MAX_INT)
    if kind is float:
        return math.isfinite(value)
    if kind not in (list, dict) or id(value) in seen or len(seen) == _MAX_DEPTH:
        return False
    seen |= {id(value)}
    if kind is list:
        return all(_is_json(item, seen) for item in value)
    return all(_is_json(key) and type(key) is str and _is_json(item, seen) for key, item in value.items())


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _derived(lineage: str, run_id: str, steps: list[StepRecord], key: str) -> str:
    """Give the id that the child run of a step has in this run, if ids of its kind are derived."""
    for step in steps:
        if step.key == key:
            return derived_id(lineage, step._replace(run_id=run_id, flags=step.flags & ~StepFlag.COPIED))
    return ""


class Hydration:
    """A snapshot that a call brings along, checked, and the records that it becomes."""

    def __init__(self, call: RunCall) -> None:
        """Check the snapshot; raises `SnapshotError`, and `InputsChangedError` for one of other inputs."""
        self._call = call
        self._session = call.session
        snapshot = call.workflow.snapshot
        assert snapshot is not None
        self._content, self.digest = self._checked(snapshot)
        self._check_call()
        self._read(call.new_run(call.lineage, sessions.clock()))  # whatever is wrong shows before anything is done

    def _checked(self, snapshot: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        try:
            content = json.loads(_canonical({name: part for name, part in snapshot.items() if name not in _SEALS}))
        except (TypeError, ValueError, RecursionError) as error:
            raise SnapshotError(
                f"A snapshot holds JSON only, and this one does not: {error}. Nothing was executed."
            ) from error
        found = content.get("format")
        if type(found) is not int or found < 1:
            raise _damaged(f"its format is {found!r}")
        if found > FORMAT:
            raise SnapshotError(
                f"The snapshot has format {found}, and this release of durable knows formats up to {FORMAT}. Nothing was "
                f"executed. Upgrade durable, or take the snapshot with an older release."
            )
        data = _canonical(content)
        if snapshot.get("digest") != _digest(data):
            raise _damaged("it was changed since it was taken, or lost a part")
        signature = snapshot.get("signature")
        self._is_trusted = self._call.workflow.trust_snapshot or (
            isinstance(signature, str) and self._session.serializer.is_signed(data, signature)
        )
        return content, _digest(data)

    def _check_call(self) -> None:
        workflow, content = self._call.workflow, self._content
        name = str(content.get("workflow"))
        if name not in (workflow.full_name, *workflow.aliases) and not workflow.is_named(name):
            raise SnapshotError(
                f"The snapshot is one of workflow {name!r} (run {content.get('run')!r}), not of "
                f"{workflow.full_name!r}. Nothing was executed. Hydrate the workflow that it was taken from; after a "
                f"rename: @workflow(aliases=[{name!r}])."
            )
        recorded, current = content.get("arguments"), self._call.digests
        if recorded != current and not self._call.is_block:
            recorded = recorded if isinstance(recorded, dict) else {}
            changed = sorted(name for name in {*recorded, *current} if recorded.get(name) != current.get(name))
            raise InputsChangedError(
                f"The snapshot of run {content.get('run')!r} was taken with other inputs: {', '.join(map(repr, changed))} "
                f"differ. Nothing was executed. Call the workflow with the inputs of that run."
            )

    def check_run(self, run: RunRecord) -> None:
        """Refuse a run that is in the store already, unless it was made from this very snapshot."""
        if json.loads(run.entry).get("snapshot") != self.digest:
            raise SnapshotError(
                f"Run {run.id} is in this store already ({run.status}) and was not made from this snapshot, so it was not "
                f"hydrated. To go on with it, call without snapshot=. To go on from the snapshot: with_options(fresh=True, "
                f"snapshot=...), or run_id= for a run beside it."
            )

    def plant(self, run: RunRecord) -> None:
        """Store the new run with all steps of the snapshot, in one transaction."""
        planted = self._read(replace(run, status=RunStatus.PENDING))
        for child, _ in planted[1:]:
            if self._session.store.load_run(child.id) is not None:
                raise SnapshotError(
                    f"The snapshot holds the run {child.id}, which is in this store already, so nothing was "
                    f"hydrated. Remove that one with durable rm, or finish it in the store that the snapshot is from."
                )
        if not plant(self._session, planted):
            found = self._session.store.load_run(run.id)
            if found is not None:
                self.check_run(found)

    def _read(self, run: RunRecord) -> list[tuple[RunRecord, list[StepRecord]]]:
        try:
            return list(self._planted(self._content, run))
        except SnapshotError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, CorruptRecordError) as error:
            raise _damaged(f"{type(error).__name__}: {error}") from error

    def _planted(self, content: dict[str, Any], run: RunRecord) -> Iterator[tuple[RunRecord, list[StepRecord]]]:
        if content.get("undoing"):
            raise SnapshotError(
                f"The snapshot was taken while run {content['run']} was being undone: what its steps did may hold no more. "
                f"Nothing was executed. Resume that run, so that undoing ends, and take the snapshot then."
            )
        steps = list(self._records(content, run.id))
        kept = carried(steps, lambda step: step.status in _KEPT, is_in_doubt)
        run = replace(run, entry=json.dumps(json.loads(run.entry) | self._origin(content)))
        yield run, [named(step, run.id) for step in kept]
        for key, child in content["children"].items():
            lineage = _derived(child["lineage"], run.id, steps, key) if child["is_derived"] else child["lineage"]
            begun = self._child(run, check_run_id(lineage), key, child)
            value = next((step.value for step in kept if step.key == key), None)
            if child["status"] == RunStatus.SUCCEEDED and value is not None:
                result = sealed_result(self._session, value, run=run.id, step=key, to=begun.id)
                begun = replace(begun, status=RunStatus.SUCCEEDED, ended_at=begun.created_at, result=result)
            yield from self._planted(child, begun)

    def _child(self, run: RunRecord, run_id: str, key: str, content: dict[str, Any]) -> RunRecord:
        return RunRecord(
            id=run_id,
            workflow=content["workflow"],
            status=RunStatus.PENDING,
            epoch=1,
            owner="",
            created_at=run.created_at,
            updated_at=run.updated_at,
            parent_run=run.id,
            parent_step=key,
            entry=json.dumps({"missing": []}),
            arguments=json.dumps(content["arguments"]).encode(),
            lineage=run_id,
        )

    def _origin(self, content: dict[str, Any]) -> dict[str, Any]:
        labels = sorted({entry["record"]["task"] for part in _PARTS for entry in content[part].values()})
        return {"snapshot": self.digest, "hydrated_from": content["run"], "labels": labels}

    def _records(self, content: dict[str, Any], run_id: str) -> Iterator[StepRecord]:
        doubts = content["doubts"]
        for key, entry in content["steps"].items():
            if key not in doubts:
                yield self._with_result(_record(content, key, entry, StepStatus(entry["status"])), entry, run_id)
        for key, entry in doubts.items():
            step = _record(content, key, entry, StepStatus.STARTED)
            yield step._replace(flags=(step.flags | StepFlag.NOT_IDEMPOTENT) & ~StepFlag.RETRYING)
        for key, entry in content["unfinished"].items():
            step = _record(content, key, entry, StepStatus.STARTED)
            yield step._replace(flags=step.flags | StepFlag.RETRYING)

    def _with_result(self, step: StepRecord, entry: dict[str, Any], run_id: str) -> StepRecord:
        """Give a step that succeeded its result, sealed for the new run."""
        serializer, flags = self._session.serializer, step.flags & ~(StepFlag.STATE | StepFlag.VALUE_UNAVAILABLE)
        if step.status != StepStatus.SUCCEEDED:
            return step
        if step.flags & StepFlag.VALUE_UNAVAILABLE:
            error = NotSerializableError(str(entry["error"]))
            return step._replace(error=encode_exception(error, serializer, run=run_id, step=step.key))
        if "payload" in entry:
            payload = b85decode(entry["payload"])
            unsealed = self._unlocked(step, payload)
            self._check_trust(step, unsealed)
            has_state = has_second(unsealed)
            value = serializer.seal(unsealed, run=run_id, step=step.key)
            if is_locked(payload):
                value = serializer.lock(value, run=run_id, step=step.key)
        else:
            value, has_state = serializer.encode(entry["result"], run=run_id, step=step.key), "changes" in entry
            if has_state:
                _check_changes(step, entry["changes"])
                value = serializer.join(value, entry["changes"], run=run_id, step=step.key)
        return step._replace(value=value, flags=flags | StepFlag.STATE * has_state)

    def _unlocked(self, step: StepRecord, payload: bytes) -> bytes:
        try:
            return self._session.serializer.unlocked(payload, run=step.run_id, step=step.key)
        except CorruptRecordError:
            raise SnapshotError(
                f"The result of the sensitive step {step.key!r} in the snapshot of run {step.run_id!r} is locked with a key "
                f"that is not here. Nothing was executed. Set the same DURABLE_SECRET_KEY where the run is executed, where the "
                f"snapshot is taken and here."
            ) from None

    def _check_trust(self, step: StepRecord, unsealed: bytes) -> None:
        if not self._is_trusted and not is_plain(unsealed):
            raise SnapshotError(
                f"The result of step {step.key!r} in the snapshot of run {step.run_id!r} is pickled, and reading it would "
                f"execute what its author put there. The snapshot is not signed with a key of this process, so nothing was "
                f"read or executed. Set the DURABLE_SECRET_KEY that it was taken with, or, if you trust where it comes "
                f"from: with_options(snapshot=..., trust_snapshot=True)."
            )


def _record(content: dict[str, Any], key: str, entry: dict[str, Any], status: StepStatus) -> StepRecord:
    place = dict(entry["record"])
    for name, kinds in _PLACE.items():
        if not isinstance(place[name], kinds) or isinstance(place[name], bool):
            raise _damaged(f"{name} of step {key!r} is {place[name]!r}")
    if place.keys() != _PLACE.keys() or not 0 <= place["parent"] < place["seq"]:
        raise _damaged(f"the place of step {key!r} is {place!r}")
    details = place["details"]
    place |= {"content": bytes.fromhex(place["content"]), "details": None if details is None else details.encode()}
    Details.read(place["details"])
    return StepRecord(run_id=content["run"], status=status, epoch=1, interruptions=0, **place)


def _check_changes(step: StepRecord, changes: Any) -> None:
    if not all(
        isinstance(change, list) and len(change) > (change[1] != DELETE) + 1 and isinstance(change[0], str)
        for change in changes
    ) or not {change[1] for change in changes} <= {SET, ADD, DELETE}:
        raise _damaged(f"what step {step.key!r} changed in the state is {changes!r}")


def _damaged(how: str) -> SnapshotError:
    return SnapshotError(
        f"The snapshot is damaged: {how}. Nothing was executed or recorded. Take it again, with Run.snapshot()."
    )
