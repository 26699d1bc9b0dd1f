from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from durable.errors import ConfigurationError
from durable.scripts.arguments import converted, from_json, from_text


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: float = 0.0


TEXTS = [
    (int, "3", 3),
    (float, "3", 3.0),
    (bool, "False", False),
    (str, "3", "3"),
    (Any, "3", "3"),
    (int | None, "null", None),
    (int | str, "x", "x"),
    (str | int, "3", 3),
    (Path, "a/b", Path("a/b")),
    (Decimal, "1.10", Decimal("1.10")),
    (dt.date, "2026-01-02", dt.date(2026, 1, 2)),
    (dt.timedelta, "90", dt.timedelta(seconds=90)),
    (UUID, "12345678123456781234567812345678", UUID(int=0x12345678123456781234567812345678)),
    (Colour, "RED", Colour.RED),
    (Colour, "2", Colour.BLUE),
    (Literal[1, "a"], "1", 1),
    (list[int], "[1, 2]", [1, 2]),
    (dict[str, list[Path]], '{"a": ["b"]}', {"a": [Path("b")]}),
    (tuple[int, str], '[1, "b"]', (1, "b")),
    (set[int], "[1, 1]", {1}),
    (Point, '{"x": 1, "y": 2}', Point(1, 2.0)),
    (Annotated[int, "positive"], "3", 3),
]


@pytest.mark.parametrize(("hint", "text", "value"), TEXTS)
def test_a_text_becomes_a_value_of_its_type(hint: Any, text: str, value: Any) -> None:
    """A text from the command line is read as the type hint says."""
    found = from_text(hint, text)
    assert (found, type(found)) == (value, type(value))


REFUSED = [
    (int, "3.5"),
    (bool, "2"),
    (Colour, "GREEN"),
    (Literal["a"], "b"),
    (list[int], '["a"]'),
    (list[int], "x"),
    (tuple[int, int], "[1]"),
    (Point, '{"z": 1}'),
    (int | None, "x"),
]


@pytest.mark.parametrize(("hint", "text"), REFUSED)
def test_a_text_of_another_type_is_refused(hint: Any, text: str) -> None:
    """A text that is no value of its type is an error that names the parameter."""

    def function(count: Any) -> None: ...

    function.__annotations__["count"] = hint
    with pytest.raises(ConfigurationError, match="count"):
        converted(function, {"count": text}, {})


@pytest.mark.parametrize(
    ("hint", "value"), [(int, True), (int, 1.5), (str, 3), (bool, 1), (list[str], "a"), (int, [1])]
)
def test_json_of_another_type_is_refused(hint: Any, value: Any) -> None:
    """JSON is taken at its word: a number is no text, and true is no number."""

    def function(count: Any) -> None: ...

    function.__annotations__["count"] = hint
    with pytest.raises(ConfigurationError, match="count has to be"):
        converted(function, {}, {"count": value})


def test_json_passes_as_it_is_where_nothing_is_asked_for() -> None:
    """Without a type hint a value of JSON is the input."""
    assert from_json(Any, {"a": [1]}) == {"a": [1]}


def test_all_problems_are_told_at_once() -> None:
    """Unknown, missing and doubled inputs are named together, with the closest name and what the function takes."""

    def function(count: int, *, name: str = "x") -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        converted(function, {"nmae": "a", "name": "b"}, {"name": "c"})
    for problem in ("nmae is unknown (did you mean name?)", "count is missing", "name is given by --arg and by --json"):
        assert problem in str(caught.value)


def test_other_names_pass_where_the_function_takes_any() -> None:
    """`**options` of a workflow takes inputs of any name."""

    def function(**options: int) -> None: ...

    assert converted(function, {"a": "1"}, {}) == {"a": 1}
