"""Runs as tables for notebooks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import durable
from durable import task, workflow
from durable.notebooks.tables import RunTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "<script>alert('&')</script>"
SECRET = "canary-0815"


@task(key="{name}")
def greet(name: str) -> str:
    return name


@task(sensitive=True, key="{name}", idempotent=False)
def hide(name: str) -> str:
    raise ValueError(name)


@workflow(run_id="{run}")
def work(run: str) -> None:
    greet(EVIL)
    hide(SECRET)


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> Iterator[None]:
    durable.configure(tmp_path / "durable.db")
    yield
    durable.configure(None)


@pytest.fixture
def runs() -> list[durable.Run]:
    with pytest.raises(ValueError, match=SECRET):
        work(f"run {EVIL}")
    return durable.list_runs()


def test_everything_is_escaped(runs: list[durable.Run]) -> None:
    """Names and keys with markup in them are shown as text, of a run and of a list of runs."""
    for html in (runs[0]._repr_html_(), runs._repr_html_()):  # type: ignore[attr-defined]  # known to notebooks only
        assert "<script" not in html
        assert re.search(r"&lt;script&gt;alert\(&#x27;&amp;&#x27;\)", html)


def test_no_runs() -> None:
    """An empty list of runs is no empty output."""
    assert "No runs." in durable.list_runs()._repr_html_()  # type: ignore[attr-defined]


def test_an_error_is_shown_with_its_type(runs: list[durable.Run]) -> None:
    """A run that failed says by which kind of error, and has no column for costs that there were not."""
    html = runs[0]._repr_html_()
    assert "ValueError: (sensitive)" in html
    assert "cost" not in html


def test_secrets_are_hidden(runs: list[durable.Run]) -> None:
    """What belongs to a sensitive step is shown neither as a table nor as text."""
    shown = (runs[0]._repr_html_(), repr(RunTable(runs[0])), repr(runs[0]), runs._repr_html_())  # type: ignore[attr-defined]  # known to notebooks only
    assert not [text for text in shown if SECRET in text]
    assert "(sensitive)" in shown[0]


def test_colours_are_those_of_the_surroundings(runs: list[durable.Run]) -> None:
    """Text and ground have no colour of their own, so that dark themes can be read; only dots of a status have one."""
    html = runs[0]._repr_html_()
    assert set(re.findall(r"(?<![-\w])color:([^;\"]+)", html)) <= {"inherit", "#3fa45b", "#d9534f", "#c58b14"}
    assert "background:transparent" in html


def test_text_elsewhere(runs: list[durable.Run]) -> None:
    """Outside notebooks a run is one line, a list of runs is a list, and the table of a run is text."""
    assert repr(runs[0]).count("\n") == 0
    assert repr(runs) == f"[{runs[0]!r}]"
    assert isinstance(runs, list)
    title, columns, first, second, *_ = repr(RunTable(runs[0])).splitlines()
    assert "failed, 2 steps" in title
    assert columns.split()[:2] == ["step", "status"]
    assert (" succeeded  executed " in first, second.startswith("hide:")) == (True, True)


def test_costs() -> None:
    """What steps and runs cost stands in a column of its own."""

    @task(name="ask", cost=lambda _: 0.25)
    def ask() -> None: ...

    with durable.run("paid"):
        ask()
        greet("nobody")
    text = repr(RunTable(durable.get_run("paid"))).splitlines()
    assert text[0].endswith(", $0.25")
    assert [line.endswith("$0.25") for line in text[2:]] == [True, False]
    assert "$0.25" in durable.list_runs()._repr_html_()  # type: ignore[attr-defined]  # known to notebooks only


def test_long_runs_are_cut() -> None:
    """Of a run with many steps the latest are shown, and the number of the others."""
    with durable.run("long"):
        for number in range(130):
            greet(str(number))
    text = repr(RunTable(durable.get_run("long")))
    assert "The latest 100 steps; 30 earlier ones are not shown." in text
    assert "greet:29 " not in text
    assert "greet:129 " in text
