"""What is written: whole batches, values of any bytes, ids of any characters."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from durable.errors import CorruptRecordError, StoreFailedError
from durable.records import Batch, RunStatus, StepQuery, StepStatus
from durable.testing.cases import StoreCase, make_run, make_step

if TYPE_CHECKING:
    from durable.stores.protocol import Store


_ODD_IDS = (
    "x" * 255,
    'it\'s "quoted"',
    "100%_of_[them]*?",
    "two\nlines\tand a tab",
    "søren 日本 🎈 e\u0301",
    " padded ",
    "..",
    "a/b\\c:d;--",
)


class WritingContract(StoreCase):
    """A batch is durable as a whole when `write` returns."""

    def test_batch_written_again(self) -> None:
        """Writing a batch again changes nothing and loses nothing."""
        store = self.make_store()
        run = make_run(owner=store.owner)
        batch = Batch((run,), (make_step(1), make_step(2)), fences=self.fences(run))
        for _ in range(2):
            assert store.write(batch) == frozenset()
            assert self.steps(store) == [make_step(1), make_step(2)]
            assert store.load_run("run") == run
        self.close(store)

    def test_last_batch_written_again(self) -> None:
        """Also a batch that ended its run, and with it its fence, can be written again without losing the run."""
        for with_creation in (False, True):
            store = self.make_store()
            run = make_run(owner=store.owner) if with_creation else self.begun(store)
            end = replace(run, status=RunStatus.SUCCEEDED, owner="", result=b"result")
            batch = Batch((run,) if with_creation else (), (make_step(1),), (end,), self.fences(run))
            for _ in range(2):
                assert store.write(batch) == frozenset()
                assert store.load_run("run") == end
                assert self.steps(store) == [make_step(1)]
            self.close(store)

    def test_step_written_again(self) -> None:
        """A step replaces the whole row of its number, absent fields included."""
        store = self.make_store()
        run = self.begun(store)
        self.record(store, run, make_step(1, error=b"error", details=b"details"))
        begun = make_step(1, status=StepStatus.STARTED, ended_at=None, done=None, value=None, flags=9, attempts=2)
        assert self.record(store, run, begun) == frozenset()
        assert self.steps(store) == [begun]
        self.close(store)

    def test_empty_batch(self) -> None:
        """An empty batch loses nothing."""
        store = self.make_store()
        assert store.write(Batch()) == frozenset()
        self.close(store)

    def test_large_batch(self) -> None:
        """A batch of thousands of steps of several runs is written as a whole."""
        store = self.make_store()
        held = [self.begun(store, f"run {number}") for number in range(3)]
        steps = [make_step(seq, run.id) for seq in range(1, 1001) for run in held]
        assert store.write(Batch(steps=tuple(steps), fences=self.fences(*held))) == frozenset()
        for run in held:
            assert self.steps(store, run.id) == [step for step in steps if step.run_id == run.id]
        self.close(store)

    def test_large_batch_of_a_lost_run(self) -> None:
        """Nothing of a lost run is written, however many steps it has; all of the other one is."""
        store = self.make_store()
        stale, kept = self.begun(store), self.begun(store, "kept")
        self.claim(store)
        steps = [make_step(seq, run_id) for seq in range(1, 301) for run_id in ("run", "kept")]
        assert store.write(Batch(steps=tuple(steps), fences=self.fences(stale, kept))) == frozenset({"run"})
        assert self.steps(store) == []
        assert [step.seq for step in self.steps(store, "kept")] == list(range(1, 301))
        self.close(store)

    def test_write_without_waiting(self) -> None:
        """Without waiting a batch is written, or nothing is and None says so."""
        store = self.make_store()
        run = self.begun(store)
        answer = store.write(Batch(steps=(make_step(1),), fences=self.fences(run)), wait=False)
        assert answer in (frozenset(), None)
        assert self.steps(store) == ([make_step(1)] if answer is not None else [])
        self.close(store)

    def test_write_after_closing(self) -> None:
        """A closed store of a kind that persists accepts no write."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            store.close()
            with contextlib.suppress(StoreFailedError):
                store.write(Batch(created=(make_run(),)))
                raise AssertionError("a closed store took a batch")
            assert other.load_run("run") is None
        self.close(other, store)

    def test_bytes_are_opaque(self) -> None:
        """Values of any bytes come back as they were, empty ones and absent ones apart."""
        store = self.make_store()
        run = self.begun(store, inputs=b"", result=bytes(range(1, 256)))
        values = [None, b"", b"\xff\x00\xff", bytes(range(255, -1, -1)), b"x" * 100_000]
        steps = [make_step(seq, value=value, error=value, details=value) for seq, value in enumerate(values, 1)]
        self.record(store, run, *steps)
        assert self.steps(store) == steps
        assert store.load_run("run") == run
        self.close(store)

    def test_large_values(self) -> None:
        """A large value comes back itself, or as a reference beginning with a zero byte that `fetch` resolves."""
        store = self.make_store()
        run = self.begun(store)
        value, error, result = (bytes([number]) * 700_000 for number in (1, 2, 3))
        self.record(store, run, make_step(1, value=value, error=error), make_step(2, value=value))
        store.write(Batch(ended=(replace(run, result=result, inputs=value),), fences=self.fences(run)))
        first, second = self.steps(store)
        assert [self._resolved(store, each) for each in (first.value, first.error, second.value)] == [
            value,
            error,
            value,
        ]
        ended = store.load_run("run")
        assert ended is not None
        assert (self._resolved(store, ended.result), self._resolved(store, ended.inputs)) == (result, value)
        self.close(store)

    def _resolved(self, store: Store, value: bytes | None) -> bytes:
        assert value is not None
        return store.fetch(value) if value[:1] == b"\0" else value

    def test_large_value_that_two_runs_share(self) -> None:
        """Deleting one of two runs with the same large value leaves the other's readable."""
        store = self.make_store()
        value = b"shared" * 100_000
        for run_id in ("one", "two"):
            self.record(store, self.begun(store, run_id), make_step(1, run_id, value=value))
        store.delete_run("one")
        (step,) = self.steps(store, "two")
        assert self._resolved(store, step.value) == value
        self.close(store)

    def test_sweeping(self) -> None:
        """Sweeping removes nothing that a run refers to, neither before nor after another run is deleted."""
        store = self.make_store()
        value = b"kept" * 200_000
        for run_id in ("one", "two"):
            run = self.begun(store, run_id, inputs=value)
            self.record(store, run, make_step(1, run_id, value=value), make_step(2, run_id, error=value + b"2"))
        assert store.sweep() == 0
        store.delete_run("one")
        assert store.sweep() == 0
        first, second = self.steps(store, "two")
        assert (self._resolved(store, first.value), self._resolved(store, second.error)) == (value, value + b"2")
        self.close(store)

    def test_reference_to_nothing(self) -> None:
        """A reference that leads nowhere raises CorruptRecordError."""
        store = self.make_store()
        with contextlib.suppress(CorruptRecordError):
            store.fetch(b"\0" + b"n" * 32)
            raise AssertionError("a value came from nowhere")
        self.close(store)

    def test_odd_ids(self) -> None:
        """Ids, names and labels may be of any characters and are told apart exactly."""
        store = self.make_store()
        for number, odd in enumerate(_ODD_IDS, 1):
            run = self.begun(store, odd, workflow=odd, parent_run=odd, created_at=1000.0 - number)
            self.record(store, run, make_step(number, odd, container=odd, branch=odd, task=odd, label=odd))
        for number, odd in enumerate(_ODD_IDS, 1):
            (step,) = self.steps(store, odd, scope=(odd, odd), tasks=(odd,))
            assert (step.run_id, step.seq, step.label) == (odd, number, odd)
            assert store.step_tasks(odd, StepQuery()) == {odd}
            for condition in ("prefix", "lineage", "workflow", "parent_run"):
                assert self.ids(store, **{condition: odd}) == [odd]
            assert self.claim(store, odd).id == odd
        assert self.ids(store) == list(_ODD_IDS)
        store.delete_run(_ODD_IDS[2])
        assert self.ids(store) == [odd for odd in _ODD_IDS if odd != _ODD_IDS[2]]
        self.close(store)
