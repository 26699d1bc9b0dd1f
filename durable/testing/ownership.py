"""Who may write a run: claims, epochs, fences, requests, and who lives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from durable.records import ITEMS, Batch, Request, RunStatus, StepFlag, StepStatus
from durable.stores.protocol import Store
from durable.testing.cases import StoreCase, make_run, make_step


class OwnershipContract(StoreCase):
    """Nobody but the current owner of a run, at its current epoch, changes it."""

    def test_is_a_store(self) -> None:
        """It has every method of the protocol, a URL without credentials and an owner token."""
        store = self.make_store()
        assert isinstance(store, Store)
        assert store.url
        assert store.owner
        assert all(isinstance(line, str) for item in store.report().items() for line in item)
        self.close(store)

    def test_owners_differ(self) -> None:
        """Each opening is an owner of its own, and both live."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            assert other.owner != store.owner
            assert store.is_alive(other.owner)
            assert other.is_alive(store.owner)
        self.close(other, store)

    def test_liveness(self) -> None:
        """A store's own owner lives; one that closed, or that never was, does not."""
        store = self.make_store()
        assert store.is_alive(store.owner)
        assert not store.is_alive("0" * 32)
        other = self.open_again(store)
        if other is not None:
            token = other.owner
            other.close()
            assert not store.is_alive(token)
        self.close(store)

    def test_closing_twice(self) -> None:
        """Closing twice does no harm."""
        store = self.make_store()
        store.close()
        store.close()

    def test_persistence(self) -> None:
        """What one owner wrote another reads, at once and after the first has closed."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            run = self.begun(store, inputs=b"inputs")
            self.record(store, run, make_step(1))
            assert other.load_run("run") == run
            store.close()
            assert self.steps(other) == [make_step(1)]
        self.close(other, store)

    def test_claim_of_an_absent_run(self) -> None:
        """A claim of a run that does not exist gives None and makes nothing."""
        store = self.make_store()
        assert store.claim("run", host="here", pid=7, now=2000.0) is None
        assert store.load_run("run") is None
        self.close(store)

    def test_claim_of_a_free_run(self) -> None:
        """A granted claim adds one to the epoch and sets owner, host, pid, time, status and mark; the rest stays."""
        store = self.make_store()
        run = self.begun(store, inputs=b"inputs", arguments=b"digests", entry='{"a": 1}')
        steps = (
            make_step(1, done=4),
            make_step(2, done=5, flags=StepFlag.ALWAYS),
            make_step(3, status=StepStatus.STARTED, done=None, value=None),
            make_step(4, task=ITEMS, done=None),
        )
        self.record(store, run, *steps)
        free = replace(run, owner="", status=RunStatus.FAILED, ended_at=1500.0, error=b"error", outcome='{"b": 2}')
        store.write(Batch(ended=(free,), fences=self.fences(run)))
        claim = store.claim("run", host="here", pid=7, now=2000.0)
        assert claim is not None
        assert claim.granted
        assert claim.previous == free
        assert claim.run == store.load_run("run")
        assert claim.run == replace(
            free, epoch=2, owner=store.owner, host="here", pid=7, updated_at=2000.0, status=RunStatus.RUNNING, mark=5
        )
        history = claim.history
        assert (history.steps, history.last_seq, history.last_done, history.succeeded) == (3, 4, 5, 2)
        assert history.last_progress in (4, None)
        self.close(store)

    def test_claim_of_a_run_without_steps(self) -> None:
        """A run without steps has an empty history."""
        store = self.make_store()
        self.begun(store)
        claim = store.claim("run", host="here", pid=7, now=2000.0)
        assert claim is not None
        history = claim.history
        assert (history.steps, history.last_seq, history.last_done, history.succeeded) == (0, 0, 0, 0)
        self.close(store)

    def test_claim_of_an_own_run(self) -> None:
        """A run that this process owns is granted again, at a higher epoch."""
        store = self.make_store()
        self.begun(store)
        assert [self.claim(store).epoch for _ in range(3)] == [2, 3, 4]
        self.close(store)

    def test_claim_of_a_run_that_a_living_process_owns(self) -> None:
        """It is refused, changes nothing and tells whose the run is."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            run = self.begun(store)
            claim = other.claim("run", host="there", pid=8, now=2000.0)
            assert claim is not None
            assert not claim.granted
            assert claim.run == run == store.load_run("run")
            assert self.record(store, run, make_step(1)) == frozenset()
        self.close(other, store)

    def test_claim_of_a_run_whose_owner_has_closed(self) -> None:
        """It is granted, and the run is as its owner left it."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            run = self.begun(store)
            store.close()
            claim = other.claim("run", host="there", pid=8, now=2000.0)
            assert claim is not None
            assert claim.granted
            assert claim.previous == run
            assert claim.run.owner == other.owner
        self.close(other, store)

    def test_claims_at_once(self) -> None:
        """Of two processes that claim a free run at the same moment exactly one gets it, each time."""
        store = self.make_store()
        other = self.open_again(store)
        for number in range(10 if other is not None else 0):
            assert other is not None
            run = self.begun(store, f"run {number}")
            store.write(Batch(ended=(replace(run, owner="", status=RunStatus.FAILED),), fences=self.fences(run)))
            with ThreadPoolExecutor(2) as pool:
                claims = list(
                    pool.map(lambda each: each.claim(run.id, host="here", pid=7, now=2000.0), (store, other))  # noqa: B023 -- used at once
                )
            assert sorted(claim is not None and claim.granted for claim in claims) == [False, True]
            held = store.load_run(run.id)
            assert held is not None
            assert held.epoch == run.epoch + 1
        self.close(other, store)

    def test_writes_at_once(self) -> None:
        """Threads that write to runs of their own lose nothing."""
        store = self.make_store()
        held = [self.begun(store, f"run {number}") for number in range(8)]
        with ThreadPoolExecutor(len(held)) as pool:
            for answers in pool.map(
                lambda run: [self.record(store, run, make_step(seq, run.id)) for seq in range(1, 11)], held
            ):
                assert answers == [frozenset()] * 10
        for run in held:
            assert [step.seq for step in self.steps(store, run.id)] == list(range(1, 11))
        self.close(store)

    def test_steps_of_a_lost_run(self) -> None:
        """At an earlier epoch nothing is written and the run is named; other runs in the batch are written."""
        store = self.make_store()
        stale, kept = self.begun(store), self.begun(store, "kept")
        claimed = self.claim(store)
        batch = Batch(steps=(make_step(1), make_step(1, "kept"), make_step(2)), fences=self.fences(stale, kept))
        assert store.write(batch) == frozenset({"run"})
        assert self.steps(store) == []
        assert self.steps(store, "kept") == [make_step(1, "kept")]
        assert self.record(store, claimed, make_step(1, epoch=2)) == frozenset()
        self.close(store)

    def test_steps_of_another_owner(self) -> None:
        """The right epoch with the wrong owner writes nothing, and neither does any fence of a run that is absent."""
        store = self.make_store()
        run = self.begun(store)
        assert self.record(store, replace(run, owner="somebody else"), make_step(1)) == frozenset({"run"})
        absent = make_run("absent", owner=store.owner)
        assert self.record(store, absent, make_step(1, "absent")) == frozenset({"absent"})
        assert self.steps(store) == self.steps(store, "absent") == []
        self.close(store)

    def test_end_of_a_lost_run(self) -> None:
        """Neither the end nor the steps of a run that was claimed since are written."""
        store = self.make_store()
        stale = self.begun(store)
        claimed = self.claim(store)
        end = replace(stale, status=RunStatus.SUCCEEDED, owner="", result=b"late")
        assert store.write(Batch(steps=(make_step(1),), ended=(end,), fences=self.fences(stale))) == frozenset({"run"})
        assert store.load_run("run") == claimed
        assert self.steps(store) == []
        self.close(store)

    def test_end_of_a_run(self) -> None:
        """An end replaces the run's row and comes with the last steps; nothing can be written after it."""
        store = self.make_store()
        run = self.begun(store)
        end = replace(run, status=RunStatus.SUCCEEDED, owner="", ended_at=3000.0, result=b"result", outcome='{"c": 3}')
        assert store.write(Batch(steps=(make_step(1),), ended=(end,), fences=self.fences(run))) == frozenset()
        assert store.load_run("run") == end
        assert self.record(store, run, make_step(2)) == frozenset({"run"})
        assert self.steps(store) == [make_step(1)]
        self.close(store)

    def test_created_together_with_steps_and_end(self) -> None:
        """A run, its steps and its end may all be in one batch."""
        store = self.make_store()
        run = make_run(owner=store.owner)
        end = replace(run, status=RunStatus.SUCCEEDED, owner="", result=b"result")
        batch = Batch((run,), (make_step(1), make_step(2)), (end,), self.fences(run))
        assert store.write(batch) == frozenset()
        assert store.load_run("run") == end
        assert self.steps(store) == [make_step(1), make_step(2)]
        self.close(store)

    def test_created_run_whose_id_exists(self) -> None:
        """It is lost with all of its steps in the batch; the run that exists and other runs of the batch are not."""
        store = self.make_store()
        held = self.begun(store, inputs=b"first")
        self.record(store, held, make_step(1))
        second, other = make_run(owner="somebody else", inputs=b"second"), make_run("other", owner=store.owner)
        steps = (make_step(1, value=b"second"), make_step(2), make_step(1, "other"))
        assert store.write(Batch((second, other), steps, fences=self.fences(second, other))) == frozenset({"run"})
        assert store.load_run("run") == held
        assert self.steps(store) == [make_step(1)]
        assert store.load_run("other") == other
        assert self.steps(store, "other") == [make_step(1, "other")]
        self.close(store)

    def test_created_run_that_another_process_owns(self) -> None:
        """Of two processes that create the same run the second one loses it."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            run = self.begun(store)
            assert other.write(Batch(created=(make_run(owner=other.owner),))) == frozenset({"run"})
            assert other.load_run("run") == run
        self.close(other, store)

    def test_requests(self) -> None:
        """The owner of a run sees the last request for it until the run is claimed again."""
        store = self.make_store()
        self.begun(store)
        self.begun(store, "quiet")
        assert store.requests() == {}
        store.post_request("run", "pause")
        store.post_request("run", "cancel")
        store.post_request("absent", "cancel")
        assert store.requests() == {"run": Request("cancel")}
        self.claim(store)
        assert store.requests() == {}
        self.close(store)

    def test_requests_of_others(self) -> None:
        """A request reaches the run's owner from any process, and nobody but the owner sees it."""
        store = self.make_store()
        other = self.open_again(store)
        if other is not None:
            self.begun(store)
            other.post_request("run", "cancel")
            assert other.requests() == {}
            assert store.requests() == {"run": Request("cancel")}
        self.close(other, store)

    def test_request_and_steps(self) -> None:
        """A request neither changes the run's record nor is it undone by the owner's steps."""
        store = self.make_store()
        run = self.begun(store)
        store.post_request("run", "cancel")
        assert store.load_run("run") == run
        self.record(store, run, make_step(1))
        assert store.requests() == {"run": Request("cancel")}
        self.close(store)

    def test_deletion(self) -> None:
        """A deleted run is gone with its steps and requests, its owner has lost it, and its id can be used again."""
        store = self.make_store()
        run = self.begun(store)
        kept = self.begun(store, "kept")
        self.record(store, run, make_step(1))
        self.record(store, kept, make_step(1, "kept"))
        store.post_request("run", "cancel")
        store.delete_run("run")
        store.delete_run("absent")
        assert store.load_run("run") is None
        assert self.steps(store) == []
        assert store.requests() == {}
        assert self.record(store, run, make_step(2)) == frozenset({"run"})
        assert self.ids(store) == ["kept"]
        assert self.steps(store, "kept") == [make_step(1, "kept")]
        self.begun(store)
        assert self.steps(store) == []
        self.close(store)
