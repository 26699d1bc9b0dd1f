from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable.declarations.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable


def plain(a: Any, b: Any) -> None: ...
def default(a: Any, b: Any = [1], *, c: Any = None) -> None: ...  # noqa: B006 -- a default that has no literal
def positional(a: Any, b: Any = 2, /, c: Any = 3) -> None: ...
def variadic(a: Any, *args: Any, k: Any, **kwargs: Any) -> None: ...
def shadowed(a: Any, /, **a_: Any) -> None: ...
def nothing() -> None: ...


FUNCTIONS = [plain, default, positional, variadic, shadowed, nothing, functools.partial(variadic, k=1), len]
_calls = st.tuples(
    st.lists(st.integers(0, 2), max_size=4),
    st.dictionaries(st.sampled_from(("a", "b", "c", "k", "z")), st.integers(0, 2)),
)


@example(function=shadowed, call=([], {"a": 0}))
@given(function=st.sampled_from(FUNCTIONS), call=_calls)
def test_arguments_are_bound_as_python_binds_them(
    function: Callable[..., Any], call: tuple[list[int], dict[str, int]]
) -> None:
    """Every call gives the values that `inspect` gives, defaults included, or a TypeError where that gives one."""
    args, kwargs = call
    signature = Signature(function, bound=False)
    try:
        expected = inspect.signature(function).bind(*args, **kwargs)
        if function is not len:
            function(*args, **kwargs)  # Python 3.13.0 binds calls that it refuses
    except TypeError:
        with pytest.raises(TypeError):
            signature.bind(*args, **kwargs)
        return
    expected.apply_defaults()
    assert signature.named(tuple(args), kwargs) == expected.arguments


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (1,), {}),
        (plain, (1, 2, 3), {}),
        (default, (), {}),
        (default, (1,), {"d": 1}),
        (positional, (), {}),
        (positional, (1,), {"b": 2}),
        (variadic, (1,), {}),
        (variadic, (1,), {"a": 1, "k": 1}),
        (nothing, (1,), {}),
    ],
)
def test_the_type_error_is_the_functions_own(
    function: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    """A call that does not fit raises the very message that the function would."""
    with pytest.raises(TypeError) as expected:
        function(*args, **kwargs)
    with pytest.raises(TypeError) as raised:
        Signature(function, bound=False).bind(*args, **kwargs)
    assert str(raised.value) == str(expected.value)


def test_defaults_are_the_objects_themselves() -> None:
    """A default is given as the object that it is, not as a copy or its text."""
    value = Signature(default, bound=False).named((1,), {})["b"]
    assert default.__defaults__ is not None
    assert value is default.__defaults__[0]


def test_bound_drops_the_first_parameter() -> None:
    """For a method the first parameter is bound already; one that takes any number has none to drop."""
    assert Signature(positional, bound=True).names == ("b", "c")
    assert Signature(lambda *args: args, bound=True).names == ("args",)
    assert Signature(nothing, bound=True).names == ()


def test_a_builtin_may_name_a_parameter_like_a_keyword() -> None:
    """A positional parameter that is named like a keyword of Python can be bound, and keeps its name."""

    def builtin(*args: Any) -> None: ...

    kind = inspect.Parameter.POSITIONAL_ONLY
    builtin.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what builtins may say
        [inspect.Parameter("from", kind), inspect.Parameter("to", kind, default=2)]
    )
    assert Signature(builtin, bound=False).named((1,), {}) == {"from": 1, "to": 2}
