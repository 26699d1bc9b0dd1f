from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from durable.identity.fingerprints import cheap_label, digest, encode

if TYPE_CHECKING:
    import random

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=5),
    max_leaves=8,
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(hashable, inner, max_size=5)
        | st.sets(hashable, max_size=5)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def shuffled(value: Any, order: random.Random) -> Any:
    """An equal value whose dicts and sets were filled in another order."""
    if type(value) in (list, tuple):
        return type(value)(shuffled(item, order) for item in value)
    if type(value) is dict:
        items = [(key, shuffled(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    if type(value) in (set, frozenset):
        members = [shuffled(item, order) for item in value]
        order.shuffle(members)
        return type(value)(members)
    return value


@given(values)
def test_copies_and_pickles_keep_the_digest(value: Any) -> None:
    """A deep copy and a pickled copy have the digest of the value."""
    assert digest(encode(copy.deepcopy(value))) == digest(encode(value))
    assert digest(encode(pickle.loads(pickle.dumps(value)))) == digest(encode(value))


@given(values, st.randoms(use_true_random=False))
def test_order_of_dicts_and_sets_leaves_no_trace(value: Any, order: random.Random) -> None:
    """Dicts and sets that were filled in another order have the same digest."""
    assert encode(shuffled(value, order)) == encode(value)


@given(values, values)
def test_different_values_differ(one: Any, other: Any) -> None:
    """Equal encodings mean equal values of equal types."""
    if encode(one) == encode(other):
        assert one == other
        assert type(one) is type(other)


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_encodings_delimit_themselves(one: list[Any], other: list[Any]) -> None:
    """Encodings put one after another are equal only if their values are equal one by one."""
    joined = b"".join(encode(value) for value in one) == b"".join(encode(value) for value in other)
    assert joined == ([encode(value) for value in one] == [encode(value) for value in other])


@given(values)
def test_labels_never_fail(value: Any) -> None:
    """A label is made of any value, and equal values have equal labels."""
    assert cheap_label(value) == cheap_label(copy.deepcopy(value))
