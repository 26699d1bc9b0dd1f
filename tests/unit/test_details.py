from __future__ import annotations

import pytest

from durable.errors import CorruptRecordError
from durable.steps.details import Argument, Details, preview, render, short_digest

FULL = Details(
    {"a": Argument("00ff00ff", "'text \"ü\"'"), "ü/\n": Argument("1", "\ud800")},
    "c0de",
    tries=2,
    until=1.5,
    retry=(3, 4),
)


@pytest.mark.parametrize("details", [Details(), FULL, Details(code="c0de"), Details(tries=1), Details(until=0.0)])
def test_what_is_written_is_read(details: Details) -> None:
    """Details come back from the record as they were."""
    assert Details.read(details.write()) == details


def test_no_details() -> None:
    """A record without details has none."""
    assert Details.read(None) == Details.read(b"") == Details()


@pytest.mark.parametrize("code", [None, "c0de"])
def test_the_fast_way_writes_the_same(code: str | None) -> None:
    """An intent that is rendered at once reads like one that was written."""
    arguments = [("a", b"encoded", 'ü "quoted" \\ \n'), ("ü/\n", b"", "\ud800")]
    for hidden in (False, True):
        shown = {name: "(sensitive)" if hidden else preview(name, value) for name, _, value in arguments}
        expected = Details({name: Argument(short_digest(data), shown[name]) for name, data, _ in arguments}, code)
        assert Details.read(render(arguments, code, hidden=hidden)) == expected


@pytest.mark.parametrize(
    "data", [b"{", b"[1]", b"\xff", b'{"a": 1}', b'{"a": {"x": ["1", "2", "3"]}}', b'{"r": 5}', b"null"]
)
def test_damaged_details_are_an_error(data: bytes) -> None:
    """What `write` cannot have given is reported as damage, with ways out, and not taken for something else."""
    with pytest.raises(CorruptRecordError, match="DURABLE_FRESH"):
        Details.read(data)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("x", "text", "'text'"),
        ("x", 5, "5"),
        ("x", None, "None"),
        ("x", [1, 2, 3], "<list of 3>"),
        ("x", {"password": "hunter2"}, "<dict of 1>"),
        ("x", object(), "<object>"),
        ("x", "y" * 100, f"'{'y' * 58}…"),
        ("password", "hunter2", "(hidden)"),
        ("my_api_key", b"hunter2", "(hidden)"),
        ("authToken", 5, "(hidden)"),
        ("AUTHORIZATION", "hunter2", "(hidden)"),
    ],
)
def test_previews(name: str, value: object, shown: str) -> None:
    """Plain values are shown up to sixty characters, others by type and size, secrets not at all."""
    assert preview(name, value) == shown
    assert len(shown) <= 60


def test_short_digests_are_pinned() -> None:
    """The digest of an argument is the same in every release, since it is compared with recorded ones."""
    assert (short_digest(b""), short_digest(b"encoded")) == ("00000000", "d6406181")
