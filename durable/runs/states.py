"""What a step changes in its run's state becomes visible to others, and is recorded, with its result and not before.

Changes are kept as what was done (set, add, delete) and not as what came of it, so steps that ran at the same time lose
nothing to each other, and a replayed step does again what it did. A body that fails leaves nothing behind. What the
workflow itself changes is not recorded with any step: it is done again whenever the workflow is executed.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from durable.declarations.naming import is_unicode
from durable.disabled.plain_runs import plain_body
from durable.errors import ConfigurationError, NotSerializableError, OutsideRunError
from durable.identity.encoding import Unencodable, encode
from durable.identity.secrets_of_calls import is_secret_name
from durable.options import ABSENT
from durable.runs.execution import FRAME, warn_once
from durable.runs.sessions import is_disabled
from durable.values.serializers import Serializer, Unserializable

if TYPE_CHECKING:
    from durable.runs.execution import Body, Execution

SET, ADD, DELETE = "set", "add", "delete"
Recorded = list[list[Any]]  # key, what was done, and the parts whose sum is the value
_Change = tuple[str, tuple[Any, ...]]
_Level = dict[Any, _Change]
_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
_NUMBERS = frozenset({int, float})
_MANY_PARTS = 16
_WATCHED, _WATCHED_ITEMS = frozenset({list, dict, set}), 1000  # whether they are changed in place is looked at


class _Frozen:
    """A value in bytes: nobody can change it in place."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class RunState:
    """The state of one execution: what holds in the workflow, and above it one level for each body under execution."""

    def __init__(self, run_id: str, body: Body, serializer: Serializer) -> None:
        self.guard = threading.RLock()
        self._run_id = run_id
        self._workflow = body
        self._serializer = serializer
        self.holds_secrets = False
        self._levels: dict[Body, _Level] = {body: {}}
        self._lent: dict[Body, dict[str, tuple[Any, bytes]]] = {}
        self._recorded: dict[Body, list[tuple[float, Recorded]]] = {}

    def change(self, body: Body, key: str, done: str, value: Any = None) -> None:
        """Do something to a key as this body sees it; the value counts as it is now."""
        part = () if done == DELETE else (self._freeze(key, value),)
        with self.guard:
            level = self._level(body)
            level[key] = _combined(level.get(key), (done, part))
            self._lent.get(body, {}).pop(key, None)

    def look_up(self, body: Body, key: str) -> Any:
        """Give a copy of the value that this body sees; raises KeyError."""
        with self.guard:
            value = self._value(body, key)
        if value is ABSENT:
            raise KeyError(key)
        if type(value) in _WATCHED and len(value) <= _WATCHED_ITEMS:
            self._lend(body, key, value)
        return value

    def keys(self, body: Body) -> list[str]:
        """List the keys that this body sees, in the order in which they were made."""
        with self.guard:
            found: dict[str, None] = {}
            for level in reversed(self._seen_by(body)):
                for key, (done, _) in level.items():
                    if done == DELETE:
                        found.pop(key, None)
                    elif isinstance(key, str):
                        found[key] = None
            return list(found)

    def changes_of(self, body: Body) -> Recorded:
        """List what a body changed, for its record."""
        with self.guard:
            self.catch_up(body)
            level = self._levels.get(body, {})
            return [
                [key, done, *map(self._thaw, parts)] for key, (done, parts) in level.items() if isinstance(key, str)
            ]

    def commit(self, body: Body) -> None:
        """Make what a body changed visible to the one around it; once, even if it is interrupted and called again."""
        assert body.outer is not None
        self.catch_up(body.outer)
        around = self._level(body.outer)
        if body not in around:  # one update, which no signal divides, makes the changes and notes that they are made
            own = self._levels[body]
            around.update(
                {key: _combined(around.get(key), change) for key, change in own.items()} | {body: (DELETE, ())}
            )

    def hand_on(self, body: Body) -> None:
        """Make what stands at a body that has no record of its own visible to the one around it."""
        with self.guard:
            if self.changes_of(body):
                self.commit(body)
            self.forget(body)

    def forget(self, body: Body) -> None:
        """Drop what is kept for a body that has ended."""
        with self.guard:
            self._levels.pop(body, None)
            self._lent.pop(body, None)
            self._recorded.pop(body, None)
            if body.outer is not None:
                self._levels.get(body.outer, {}).pop(body, None)

    def close(self, body: Body) -> None:
        """Forget a body whose end is recorded, and warn of what it changed in place."""
        lent = self._lent.get(body, {})
        self.forget(body)
        for key, (value, before) in lent.items():
            if _encoded(value) != before:
                warn_once(
                    "state",
                    f"{self._run_id}:{key}",
                    f"A value of durable.state[{key!r}] in run {self._run_id} was changed in place. It is a copy, so "
                    f"the state is as it was: assign the new value, or use durable.state.add({key!r}, ...).",
                )

    def replay(self, body: Body, recorded: Recorded, done: float) -> None:
        """Do again, in the body that makes the call, what a replayed step did: after all that ended before it."""
        with self.guard:
            self.postpone(body, recorded, done)
            self.catch_up(body, done)

    def postpone(self, body: Body, recorded: Recorded, done: float) -> None:
        """Do again what a step did that was submitted and is replayed, but not before anybody can know that it has ended."""
        with self.guard:
            heapq.heappush(self._recorded.setdefault(body, []), (done, recorded))

    def catch_up(self, body: Body, done: float = inf) -> None:
        """Do again what the steps did that ended up to this number, in the order in which they ended."""
        with self.guard:
            waiting = self._recorded.get(body)
            while waiting and waiting[0][0] <= done:
                level = self._level(body)
                for key, what, *parts in heapq.heappop(waiting)[1]:
                    level[key] = _combined(level.get(key), (what, tuple(self._freeze(key, part) for part in parts)))

    def catch_up_around(self, body: Body) -> None:
        """Do again all that was recorded around a body: it is executed now, after that."""
        outer = body.outer
        while outer is not None:
            self.catch_up(outer)
            outer = outer.outer

    def whole(self) -> Recorded:
        """List what makes up the state as the workflow sees it."""
        return self.changes_of(self._workflow)

    def _lend(self, body: Body, key: str, value: Any) -> None:
        encoded = _encoded(value)
        if encoded is not None:
            self._lent.setdefault(body, {})[key] = (value, encoded)

    def _level(self, body: Body) -> _Level:
        level = self._levels.get(body)
        if level is None:
            level = self._levels[body] = {}
        return level

    def _seen_by(self, body: Body) -> list[_Level]:
        found: list[_Level] = []
        current: Body | None = body
        while current is not None:
            if current in self._levels:
                found.append(self._levels[current])
            current = current.outer
        return found

    def _value(self, body: Body, key: str) -> Any:
        parts: list[Any] = []
        for level in self._seen_by(body):
            done, more = level.get(key, (ADD, ()))
            parts[:0] = more
            if done != ADD:
                break
        if not parts:
            return ABSENT
        value = _sum(list(map(self._thaw, parts)))
        root = self._levels[self._workflow]
        if len(parts) > _MANY_PARTS and root.get(key, (ADD, ()))[1] == tuple(parts):
            root[key] = (SET, (self._freeze(key, value),))
        return value

    def _freeze(self, key: str, value: Any) -> Any:
        if type(value) in _ATOMS:
            return value
        try:
            return _Frozen(self._serializer.encode(value, run="", step=""))
        except Unserializable as error:
            raise NotSerializableError(
                f"durable.state[{key!r}] of run {self._run_id} was not changed, because the value cannot be stored: "
                f"value{error.path} is a {error.culprit} ({error.reason}). Store what it is made from; hand live objects "
                f"over with with_options(context=...)."
            ) from None

    def _thaw(self, part: Any) -> Any:
        return self._serializer.decode(part.data, run="", step="") if type(part) is _Frozen else part


def _combined(before: _Change | None, change: _Change) -> _Change:
    """Give what comes of two changes of one key, the later one last. No value is computed, so this cannot fail."""
    done, parts = change
    if done != ADD or before is None:
        return change
    earlier = before[1]
    if earlier and type(earlier[-1]) is type(parts[0]) and type(parts[0]) in _NUMBERS:
        return (before[0], (*earlier[:-1], _sum([earlier[-1], *parts])))
    return (SET if before[0] == DELETE else before[0], earlier + parts)


def _sum(parts: list[Any]) -> Any:
    value = parts[0]
    for part in parts[1:]:
        value = value + part  # not `+=`, which changes a list in place
    return value


def _encoded(value: Any) -> bytes | None:
    try:
        return encode(value)
    except Unencodable:
        return None


def changes_secrets(recorded: Sequence[Any]) -> bool:
    """Whether changes are of keys that are named like credentials."""
    return any(is_secret_name(key) for key, *_ in recorded)


def folded(steps: list[Recorded]) -> dict[str, Any]:
    """Give the state after these changes, of one step after the other."""
    level: _Level = {}
    for recorded in steps:
        for key, done, *parts in recorded:
            level[key] = _combined(level.get(key), (done, tuple(parts)))
    return {key: _sum(list(parts)) for key, (done, parts) in level.items() if done != DELETE}


class State(MutableMapping[str, Any]):
    """The current run's own mapping, kept with it; keys are strings, values whatever can be stored.

    What a step changes is recorded with its result and seen by others from then on; a step that fails changes nothing, nor
    does one whose result was found in a cache or decided by a person. Of steps that set one key at the same time, the
    last to end counts.
    Each read gives a copy: changing it in place changes nothing (a `DurableWarning` says so). `add` is atomic;
    `state[key] = state[key] + 1` loses the changes that others make between the two.

    Every use raises `OutsideRunError` outside a run; a key that is no string raises `ConfigurationError`, a value that
    cannot be stored `NotSerializableError`.
    """

    def __getitem__(self, key: str) -> Any:
        """Give a copy of a value; raises KeyError."""
        found, body = _here()
        return found.look_up(body, _checked(key))

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a value as it is now."""
        found, body = _here()
        found.change(body, _checked(key), SET, value)

    def __delitem__(self, key: str) -> None:
        """Remove a key; raises KeyError."""
        found, body = _here()
        with found.guard:
            found.look_up(body, _checked(key))
            found.change(body, key, DELETE)

    def __iter__(self) -> Iterator[str]:
        """Go through the keys as they are now."""
        found, body = _here()
        return iter(found.keys(body))

    def __len__(self) -> int:
        """Count the keys."""
        found, body = _here()
        return len(found.keys(body))

    def __repr__(self) -> str:
        """Show the mapping as it is here."""
        return f"durable.state({dict(self)!r})" if FRAME.get() is not None else "durable.state"

    def add(self, key: str, amount: Any) -> None:
        """Add an amount to a value, with `+`; to one that is absent, set it. Nothing is lost to steps that do so too.

        Numbers are counted up, lists and strings are continued. Raises TypeError if the value takes no such amount.
        """
        found, body = _here()
        with found.guard:
            if _checked(key) in self:
                _sum([found.look_up(body, key), amount])
            found.change(body, key, ADD, amount)


state = State()


def _here() -> tuple[RunState, Body]:
    frame = FRAME.get()
    if frame is None and is_disabled():
        return _unrecorded()
    if frame is None:
        raise OutsideRunError(
            "durable.state belongs to a run and was used outside one, or in a thread that carries no run context. "
            "Use it in a @workflow, a @task that is called in one, or `with durable.run(...)`."
        )
    frame.body.check()
    found = state_of(frame.body.execution)
    found.catch_up_around(frame.body)
    return found, frame.body


def _unrecorded() -> tuple[RunState, Body]:
    """Give the state of a run of which nothing is recorded."""
    run: Any = plain_body("durable.state").run
    if run.state is None:
        run.state = RunState(run.id, run, Serializer())
    return run.state, run


def state_of(execution: Execution) -> RunState:
    """Give the state of an execution; made when it is asked for."""
    with execution.lock:
        if execution.state is None:
            execution.state = RunState(execution.id, execution.body, execution.serializer)
        return execution.state


def _checked(key: object) -> str:
    if not isinstance(key, str) or not is_unicode(key):
        raise ConfigurationError(f"A key of durable.state is a string of valid Unicode, not {key!r}.")
    return key
