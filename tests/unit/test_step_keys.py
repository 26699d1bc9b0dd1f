from __future__ import annotations

import pytest

from durable.identity.labels import escape, label_prefix
from durable.identity.step_keys import Scope, content_digest, idempotency_key, join, shown_label
from durable.records import StepFlag
from durable.steps.history import StepHistory
from durable.stores.memory import MemoryStore
from tests.unit.histories import make_step

CALLS = 10

def scope(container: str = "", branch: str = "") -> Scope:
    return Scope(container, branch, StepHistory(MemoryStore(), "run", 0, 0))


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("plain ü 日本語 😀", "plain ü 日本語 😀"),
        ("a/b", "a%2Fb"),
        ("a~2", "a%7E2"),
        ("a:b", "a%3Ab"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("\0\n\r", "%00%0A%0D"),
        ("caf\udce9", "caf%uDCE9"),
        ("ü\ud800", "ü%uD800"),
        ("", ""),
    ],
)
def test_separators_are_escaped(text: str, segment: str) -> None:
    """A segment holds no separator and nothing that UTF-8 cannot hold, and is otherwise the text itself."""
    assert escape(text) == segment
    segment.encode()


def test_empty_parts_leave_no_separator() -> None:
    """A path is joined from what is there."""
    assert join("", "", "") == ""
    assert join("a", "", "b") == "a/b"


def test_identical_calls_are_counted_apart() -> None:
    """The n-th call with the same content in a scope is the n-th occurrence."""
    root = scope()
    assert [root.next_occurrence(b"x"), root.next_occurrence(b"y"), root.next_occurrence(b"x")] == [1, 1, 2]
    assert scope().next_occurrence(b"x") == 1


def test_a_named_scope_is_one_place() -> None:
    """The same name gives the same scope, so that calls in it are counted on; names are segments below the branch."""
    root = scope("outer", "task:1")
    inner = root.named("a/b")
    assert (inner.container, inner.branch) == ("outer/task:1/a%2Fb", "")
    assert root.named("a/b") is inner
    assert root.named("a").container == "outer/task:1/a"


def test_each_branch_is_a_place_of_its_own() -> None:
    """Tasks of the same label get scopes of their own, numbered in the order of their creation."""
    root = scope("outer")
    branches = [root.branched("fetch:1") for _ in range(3)] + [root.branched("other")]
    assert [each.branch for each in branches] == ["fetch:1", "fetch:1~2", "fetch:1~3", "other"]
    assert {each.container for each in branches} == {"outer"}
    assert branches[1].branched("deeper").branch == "fetch:1~2/deeper"


def _explained(place: Scope, *, idempotent: bool = False, flags: int = 0) -> list[int]:
    """List the numbers of the recorded calls that need not be made here again."""
    calls = [make_step(number, flags=flags) for number in range(1, CALLS + 1)]
    return [call.seq for call in calls if place.explains(call, idempotent=idempotent)]


def test_a_retry_counts_for_the_scopes_inside() -> None:
    """What follows a step that was tried again may differ: in its scope and those inside, not around or beside it."""
    root = scope()
    inner, beside = root.named("inner"), root.named("beside")
    deepest = inner.branched("task")
    inner.note_another_try(3, "outer/inner/step")
    assert [_explained(place, idempotent=True) for place in (root, beside)] == [[], []]
    assert [_explained(place)[0] for place in (inner, deepest)] == [4, 4]


def test_a_step_that_is_tried_again_is_not_behind_itself() -> None:
    """Inside a step that is tried again no effect is excused by that; what is idempotent may differ."""
    root = scope()
    body = Scope("step:1", "", root.history, root)
    inner = body.named("inner").branched("task")
    root.note_another_try(4, "step:1")
    assert [_explained(place) for place in (body, inner)] == [[], []]
    assert [_explained(place, idempotent=True)[0] for place in (body, inner)] == [1, 1]
    for number in (9, 7, 8):
        root.note_another_try(number, f"step:{number}")
    assert [_explained(place)[0] for place in (root, body, inner)] == [5, 8, 8]


def test_another_try_of_an_earlier_execution_counts_up_to_it() -> None:
    """It explains calls that were made before it, unless they were made once more after it."""
    root = scope()
    root.note_another_try(4, "step:1", 8)
    assert _explained(root) == [5, 6, 7, 8]
    assert _explained(root, idempotent=True) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _explained(root, flags=StepFlag.STILL_CALLED) == []
    root.note_another_try(6, "step:2")
    assert _explained(root)[-1] == CALLS
    assert _explained(root, flags=StepFlag.STILL_CALLED)[0] == 7


def test_a_retry_further_inside_counts_for_what_follows_around_it() -> None:
    """Not for what stands beside it; however many there are, the oldest decides."""
    root = scope()
    inner, beside = root.named("inner"), root.named("beside")
    for number in (9, 3, 8, 7, 6, 5, 9, 9, 9, 9):
        root.note_another_try(number)
    assert _explained(root)[0] == 4
    assert [_explained(place) for place in (inner, beside)] == [[], []]


def test_a_renewed_step_counts_for_idempotent_calls() -> None:
    """What follows a step that is executed every time may differ, but no effect is repeated for that reason."""
    root = scope()
    inner = root.named("inner")
    root.renewed = True
    assert [_explained(place, idempotent=True)[0] for place in (root, inner)] == [1, 1]
    assert [_explained(place) for place in (root, inner)] == [[], []]


def test_contents_are_pinned() -> None:
    """What a call says is digested as in every earlier release: another digest would strand all records."""
    assert label_prefix("module.charge") == b"\0\0\0\x0dmodule.charge"
    assert content_digest(label_prefix("module.charge"), b"arguments").hex() == "17a356daac28af474704b890deb59a93"
    assert content_digest(label_prefix("ab"), b"c") != content_digest(label_prefix("a"), b"bc")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, "1de33590-3c88-5d3a-9556-046542a3b78a"),
        ({"occurrence": 2}, "e5297d39-3389-5728-a24e-458475689afe"),
        ({"container": "a/b", "branch": "fetch:1~2"}, "8c413f86-ded7-5eb3-9c02-a12e4e664331"),
        ({"run_id": "odd/ü\n"}, "7c589605-eaf7-503d-935c-8dfe6f63b08f"),
    ],
)
def test_idempotency_keys_are_pinned(fields: dict[str, object], key: str) -> None:
    """The key that receivers know a step by follows from where it stands and what it says, in every release."""
    assert idempotency_key(make_step(1, **fields)) == key


def test_an_idempotency_key_does_not_depend_on_how_the_step_went() -> None:
    """Attempts, times, epochs and outcomes leave the key as it is."""
    first = make_step(1, status="started", epoch=1)
    again = make_step(1, status="failed", epoch=5, attempts=7, started_at=9.0, flags=1, done=8, label="shown")
    assert idempotency_key(again) == idempotency_key(first)


def test_labels_for_people() -> None:
    """A business key is shown as it is, escaped, and cut with a digest when long; a hidden one only as a digest."""
    content = bytes(range(16))
    assert shown_label("pay", content, None, hidden=False) == "pay:00010203"
    assert shown_label("pay", content, "order/1", hidden=False) == "pay:order%2F1"
    assert shown_label("pay", content, "4111 1111", hidden=True) == "pay:00010203"
    assert shown_label("pay", content, "x" * 120, hidden=False) == f"pay:{'x' * 120}"
    assert shown_label("pay", content, "x" * 100_000, hidden=False) == f"pay:{'x' * 120}…00010203"
    assert shown_label("pay", content, "\ud800", hidden=False) == "pay:%uD800"
