"""Whatever the value, it comes back as it was, in types and in structure; whatever the damage, it is found."""

from __future__ import annotations

import math
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.errors import CorruptRecordError
from durable.values.exceptions import decode_exception, encode_exception
from durable.values.serializers import Serializer

PLAIN = Serializer()
KEYED = Serializer(keys=[b"key"])
SERIALIZERS = st.sampled_from([PLAIN, KEYED])
NAMES = st.text(max_size=20)

any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates, too
keys = st.none() | st.booleans() | st.integers() | any_text
leaves = (
    keys
    | st.floats()
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(UTC) | st.none())
    | st.uuids()
)
ordered_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)
values = ordered_values | st.lists(ordered_values | st.frozensets(st.integers() | any_text, max_size=5), max_size=5)


def same(one: Any, two: Any) -> bool:
    """Equal in types and contents all the way down, where NaN equals itself and dicts have an order."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(two)) or (one == two and math.copysign(1, one) == math.copysign(1, two))
    if isinstance(one, dict):
        return same(list(one.items()), list(two.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@given(value=values, serializer=SERIALIZERS, run=NAMES, step=NAMES)
def test_values_come_back_as_they_were(value: object, serializer: Serializer, run: str, step: str) -> None:
    """Types, order, signs and text survive in whichever codec the value is stored."""
    assert same(serializer.decode(serializer.encode(value, run=run, step=step), run=run, step=step), value)


@given(
    value=values,
    serializer=SERIALIZERS,
    position=st.integers(min_value=0),
    change=st.integers(min_value=1, max_value=255),
)
def test_one_changed_byte_is_found(value: object, serializer: Serializer, position: int, change: int) -> None:
    """No changed byte is decoded."""
    data = bytearray(serializer.encode(value, run="r", step="s"))
    data[position % len(data)] ^= change
    with pytest.raises(CorruptRecordError):
        serializer.decode(bytes(data), run="r", step="s")


@given(data=st.binary(max_size=200) | st.binary(max_size=100).map(b"D1pc".__add__), serializer=SERIALIZERS)
def test_anything_else_is_refused(data: bytes, serializer: Serializer) -> None:
    """Bytes that no serializer wrote are refused, never decoded."""
    with pytest.raises(CorruptRecordError):
        serializer.decode(data, run="r", step="s")


@given(writer=st.tuples(NAMES, NAMES), reader=st.tuples(NAMES, NAMES))
def test_a_record_belongs_to_its_step(writer: tuple[str, str], reader: tuple[str, str]) -> None:
    """A sealed record is read for the run and step that it was written for and for no other."""
    data = KEYED.encode(1, run=writer[0], step=writer[1])
    if writer == reader:
        assert KEYED.decode(data, run=reader[0], step=reader[1]) == 1
    else:
        with pytest.raises(CorruptRecordError):
            KEYED.decode(data, run=reader[0], step=reader[1])


@given(
    kind=st.sampled_from([ValueError, KeyError, OSError, RuntimeError, KeyboardInterrupt, SystemExit, UnicodeError]),
    args=st.lists(ordered_values, max_size=3),  # the message of a set depends on its order
    attributes=st.dictionaries(st.from_regex(r"[a-z]{1,5}_", fullmatch=True), values, max_size=3),
)
@settings(max_examples=60)
def test_exceptions_come_back_as_they_were(
    kind: type[BaseException], args: list[object], attributes: dict[str, object]
) -> None:
    """Class, arguments, attributes and message survive."""
    error = kind(*args)
    vars(error).update(attributes)
    back = decode_exception(encode_exception(error, PLAIN, run="r", step="s"), PLAIN, run="r", step="s")
    assert isinstance(back, kind)
    assert same(back.args, error.args)
    assert str(back) == str(error)
    assert all(same(getattr(back, name), value) for name, value in attributes.items())
