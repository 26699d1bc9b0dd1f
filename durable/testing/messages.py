"""Messages: each is consumed once, together with the result of the step that waited for it, and never lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.records import Batch, Message, Received, Request, RunRecord, RunStatus, StepRecord
from durable.testing.cases import StoreCase, make_step

if TYPE_CHECKING:
    from durable.stores.protocol import Store


class MessagesContract(StoreCase):
    """Messages wait in the store, first in first out for each name, until a step consumes them."""

    def sent(self, store: Store, payload: bytes = b"payload", *, run_id: str = "run", name: str = "go") -> int:
        """Send a message and give its number."""
        return store.post_message(Message(run_id, name, payload, 1500.0))

    def consume(self, store: Store, run: RunRecord, step: StepRecord, message: int) -> frozenset[str] | None:
        """Write the result of a step together with the message that it consumed."""
        return store.write(Batch(steps=(step,), fences=self.fences(run), received=(Received(step, message),)))

    def test_message(self) -> None:
        """A message waits as it was sent; of other names and runs there is none."""
        store = self.make_store()
        self.begun(store)
        self.begun(store, "other")
        number = self.sent(store)
        assert number > 0
        assert store.next_message("run", "go") == Message("run", "go", b"payload", 1500.0, None, number)
        for run_id, name in (("run", "stop"), ("other", "go"), ("absent", "go")):
            assert store.next_message(run_id, name) is None
        self.close(store)

    def test_order_of_messages(self) -> None:
        """Numbers grow, and the oldest message of a name comes first, also above a number."""
        store = self.make_store()
        self.begun(store)
        first, other, second = self.sent(store, b"1"), self.sent(store, name="other"), self.sent(store, b"2")
        assert first < other < second
        found = [store.next_message("run", "go", after=after) for after in (0, first, second)]
        assert [each and each.payload for each in found] == [b"1", b"2", None]
        self.close(store)

    def test_large_message(self) -> None:
        """A large payload comes back, if need be by its reference, and is still there after a sweep."""
        store = self.make_store()
        self.begun(store)
        self.sent(store, b"x" * 1_000_000)
        store.sweep()
        found = store.next_message("run", "go")
        assert found is not None
        payload = found.payload if found.payload[:1] != b"\0" else store.fetch(found.payload)
        assert payload == b"x" * 1_000_000
        self.close(store)

    def test_consumed_message(self) -> None:
        """A message that a step consumed is gone, the next one of its name is there, and the step is recorded."""
        store = self.make_store()
        run = self.begun(store)
        first, second = self.sent(store, b"1"), self.sent(store, b"2")
        assert self.consume(store, run, make_step(1), first) == frozenset()
        assert self.consume(store, run, make_step(1), first) == frozenset()
        found = store.next_message("run", "go")
        assert found is not None
        assert (found.number, found.payload) == (second, b"2")
        assert self.steps(store) == [make_step(1)]
        self.close(store)

    def test_numbers_are_not_used_again(self) -> None:
        """A message that comes after all others were consumed, or removed, has a number of its own."""
        store = self.make_store()
        run = self.begun(store)
        first = self.sent(store)
        self.consume(store, run, make_step(1), first)
        second = self.sent(store)
        store.delete_run("run")
        self.begun(store)
        assert first < second < self.sent(store)
        self.close(store)

    def test_message_of_a_lost_run(self) -> None:
        """A claim that was lost consumes nothing."""
        store = self.make_store()
        stale = self.begun(store)
        number = self.sent(store)
        self.claim(store)
        assert self.consume(store, stale, make_step(1), number) == frozenset({"run"})
        found = store.next_message("run", "go")
        assert found is not None
        assert found.number == number
        assert self.steps(store) == []
        self.close(store)

    def test_message_consumed_at_the_end(self) -> None:
        """The end of a run may come with the message that its last step consumed."""
        store = self.make_store()
        run = self.begun(store)
        number = self.sent(store)
        end = replace(run, status=RunStatus.SUCCEEDED, owner="")
        batch = Batch((), (make_step(1),), (end,), self.fences(run), (Received(make_step(1), number),))
        assert store.write(batch) == frozenset()
        assert store.write(batch) == frozenset()
        assert store.next_message("run", "go") is None
        assert store.load_run("run") == end
        self.close(store)

    def test_message_for_nobody(self) -> None:
        """A run that is absent, succeeded or superseded takes no message; one that failed or was cancelled does."""
        store = self.make_store()
        assert self.sent(store) == 0
        over = (RunStatus.SUCCEEDED, RunStatus.SUPERSEDED)
        for status in (*over, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.BLOCKED):
            run = self.begun(store, status)
            store.write(Batch(ended=(replace(run, status=status, owner=""),), fences=self.fences(run)))
            takes = status not in over
            assert (self.sent(store, run_id=status) > 0) is takes
            assert (store.next_message(status, "go") is not None) is takes
        self.close(store)

    def test_repeated_sending(self) -> None:
        """A message under a key that its run has had, consumed or not, is not added again; other runs have their own."""
        store = self.make_store()
        run = self.begun(store)
        self.begun(store, "other")
        message = Message("run", "go", b"payload", 1500.0, "key")
        number = store.post_message(message)
        assert store.post_message(message) == number
        assert store.next_message("run", "go", after=number) is None
        self.consume(store, run, make_step(1), number)
        assert store.post_message(message) == number
        assert store.next_message("run", "go") is None
        assert store.post_message(message._replace(run_id="other")) != number
        store.write(Batch(ended=(replace(run, status=RunStatus.SUCCEEDED, owner=""),), fences=self.fences(run)))
        assert store.post_message(message) == number
        assert store.post_message(message._replace(key="new")) == 0
        self.close(store)

    def test_notice_of_messages(self) -> None:
        """The owner of a run sees the number of its newest message beside a request until none waits any more."""
        store = self.make_store()
        run = self.begun(store)
        self.begun(store, "quiet")
        first, second = self.sent(store), self.sent(store, name="other")
        assert store.requests() == {"run": Request("", second)}
        store.post_request("run", "pause")
        self.consume(store, run, make_step(1), second)
        assert store.requests() == {"run": Request("pause", first)}
        self.consume(store, run, make_step(2), first)
        assert store.requests() == {"run": Request("pause")}
        self.close(store)

    def test_messages_between_processes(self) -> None:
        """A message reaches the owner from any process, outlives its sender, and the owner notices that there was one."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            self.begun(store)
            before = store.changes()
            number = self.sent(other)
            assert before is None or store.changes() != before
            assert other.requests() == {}
            other.close()
            assert store.requests() == {"run": Request("", number)}
            assert store.next_message("run", "go") is not None
        self.close(other, store)

    def test_messages_at_once(self) -> None:
        """Of messages that are sent at the same moment none is lost, and each has a number of its own."""
        store = self.make_store()
        other = self.open_again(store) or store
        self.begun(store)
        with ThreadPoolExecutor(4) as pool:
            senders = [store, other] * 20
            numbers = set(pool.map(lambda each: self.sent(each), senders))  # noqa: PLW0108 -- one argument of several
        assert len(numbers) == len(senders)
        self.close(None if other is store else other, store)

    def test_messages_of_a_deleted_run(self) -> None:
        """The messages of a run go with it."""
        store = self.make_store()
        self.begun(store)
        self.sent(store)
        store.delete_run("run")
        self.begun(store)
        assert store.next_message("run", "go") is None
        self.close(store)
