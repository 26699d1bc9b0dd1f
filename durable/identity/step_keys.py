"""A step key is fixed when the task is called, and depends on nothing but where the call stands and what it says.

Scope, task, discriminator and occurrence make the key. Task and discriminator are the *content* of a call; the
occurrence counts calls of the same content in the same scope.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from durable.identity.labels import escape
from durable.records import StepFlag
from durable.steps.details import Details

if TYPE_CHECKING:
    from durable.concurrency.submissions import Submission
    from durable.records import StepRecord
    from durable.steps.history import StepHistory

_SHOWN_DIGITS = 8
_SHOWN_KEY_LENGTH = 120
_TRIES_AT_MOST = 8  # before they are thinned out


class AnotherTry(NamedTuple):
    """A recorded step that had ended otherwise before it was tried again.

    Calls numbered above `number`, and up to `last` (None: it is tried again by this execution), may have been made because of
    that. `key` is empty for a step that stands in a scope or an asyncio task further inside.
    """

    number: int
    key: str
    last: int | None


class Scope:
    """A place in the run's tree that calls are made from; counts the occurrences of each content.

    `container` is the path of steps and named scopes, `branch` the path of asyncio tasks below it. `tried_again` holds steps
    that were recorded as failed or cancelled and had to be executed again, the two oldest of each kind, `renewed` is set once
    one with a recorded result was.
    """

    __slots__ = ("_children", "_counts", "branch", "container", "history", "outer", "renewed", "tried_again")

    def __init__(self, container: str, branch: str, history: StepHistory, outer: Scope | None = None) -> None:
        self.container = container
        self.branch = branch
        self.history = history
        self.outer = outer
        self.tried_again: tuple[AnotherTry, ...] = ()
        self.renewed = False
        self._counts: dict[bytes, int] = {}
        self._children: dict[str, Scope] | None = None

    def next_occurrence(self, content: bytes) -> int:
        """Count one more call of this content."""
        occurrence = self._counts.get(content, 0) + 1
        self._counts[content] = occurrence
        return occurrence

    def named(self, name: str) -> Scope:
        """Give the scope of this name below this one; the same object each time."""
        segment = escape(name)
        if self._children is None:
            self._children = {}
        if segment not in self._children:
            container = join(self.container, self.branch, segment)
            self._children[segment] = Scope(container, "", self.history, self)
        return self._children[segment]

    def under_way(self, content: bytes) -> Submission | None:  # noqa: ARG002 -- for scopes where equal calls are one
        """Give the submitted call of this content that the next one would be too: here each call is one of its own."""
        return None

    def note_submission(self, content: bytes, submission: Submission) -> None:
        """Note that a call was submitted."""

    def repetition(self, content: bytes) -> int | None:  # noqa: ARG002 -- as above
        """Give how many calls of a library like this one the present cell has made; None where code is no cell."""
        return None

    def has_named(self, container: str) -> bool:
        """Whether the named scope that this path of steps and scopes begins with was asked for here."""
        return self._children is not None and container.partition("/")[0] in self._children

    def has_named_around(self, container: str) -> bool:
        """Whether the named scope below this one that a path begins with was asked for here."""
        below = container[len(join(self.container, self.branch)) :].lstrip("/")
        return self._children is not None and below.partition("/")[0] in self._children

    def branched(self, label: str) -> Scope:
        """Give a new scope for an asyncio task created here."""
        occurrence = self.next_occurrence(b"branch:" + label.encode())
        branch = join(self.branch, label if occurrence == 1 else f"{label}~{occurrence}")
        self.history.enter(self.container, branch)
        return Scope(self.container, branch, self.history, self)

    def explains(self, record: StepRecord, *, idempotent: bool) -> bool:
        """Whether calls here may rightly differ from a recorded one: a step before that was tried again.

        The step stands in this scope, further inside, or in a scope around it; for an idempotent call it may also be the one
        that the call stands in, or one that is executed in every execution.
        """
        scope: Scope | None = self
        inside = None
        while scope is not None:
            if idempotent and scope.renewed:
                return True
            for each in scope.tried_again:
                if each.last is not None and (record.seq > each.last or record.flags & StepFlag.STILL_CALLED):
                    continue
                is_beside = not each.key and scope is not self
                if not is_beside and (idempotent or (record.seq > each.number and each.key != inside)):
                    return True
            inside = scope.container
            scope = scope.outer
        return False

    def note_another_try(self, number: int, key: str = "", last: int | None = None) -> None:
        """Note that a step is tried again, or was after the event `last`; see `AnotherTry`."""
        self.tried_again += (AnotherTry(number, key, last),)
        if len(self.tried_again) > _TRIES_AT_MOST:
            kinds: dict[tuple[bool, int | None], list[AnotherTry]] = {}
            for each in sorted(self.tried_again, key=attrgetter("number", "key")):
                kinds.setdefault((bool(each.key), each.last), []).append(each)
            self.tried_again = tuple(each for kind in kinds.values() for each in kind[:2])


def items_container(key: str) -> str:
    """Where the items of a generator stand: a place that no name can have."""
    return f"{key}~items"


def is_items_container(container: str) -> bool:
    """Whether records stand there that are items of a generator, and no steps."""
    return container.endswith("~items")


def join(*parts: str) -> str:
    """Join the parts of a path that are not empty."""
    return "/".join(part for part in parts if part)


def encloses(outer: str, inner: str) -> bool:
    """Whether a path is another one or leads to it."""
    return not outer or inner == outer or inner.startswith(f"{outer}/")


def content_hash(prefix: bytes) -> blake2b:
    """Begin to digest what a call says, with the framed label of the task; its arguments or business key follow."""
    return blake2b(prefix, digest_size=16)


def content_digest(prefix: bytes, discriminator: bytes) -> bytes:
    """Digest what a call says (16 bytes)."""
    content = content_hash(prefix)
    content.update(discriminator)
    return content.digest()


def shown_label(segment: str, content: bytes, business_key: str | None, *, hidden: bool) -> str:
    """Write task and discriminator for people; the digest is shown by its first digits."""
    if business_key is None or hidden:
        return f"{segment}:{content.hex()[:_SHOWN_DIGITS]}"
    shown = escape(business_key)
    if len(shown) > _SHOWN_KEY_LENGTH:
        shown = f"{shown[:_SHOWN_KEY_LENGTH]}…{content.hex()[:_SHOWN_DIGITS]}"
    return f"{segment}:{shown}"


def is_keyless(step: StepRecord) -> bool:
    """Whether the discriminator of a recorded call is the digest of its arguments, as far as the label tells."""
    return not step.flags & StepFlag.SENSITIVE and step.label.endswith(f":{step.content.hex()[:_SHOWN_DIGITS]}")


def idempotency_key(step: StepRecord) -> str:
    """Derive the UUID that names a step's effect to the outside world: the same on every attempt, resume and in copies."""
    if step.flags & StepFlag.COPIED:
        return Details.read(step.details).key
    from uuid import UUID  # noqa: PLC0415 -- slow to import, needed when a body asks for its key

    parts = (step.run_id, step.container, step.branch, step.content.hex(), str(step.occurrence))
    framed = b"".join(len(part := text.encode()).to_bytes(4, "big") + part for text in parts)
    return str(UUID(bytes=blake2b(framed, digest_size=16).digest(), version=5))
