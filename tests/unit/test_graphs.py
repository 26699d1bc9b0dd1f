from __future__ import annotations

import pytest

from durable.errors import ConfigurationError
from durable.steps.verdicts import Past
from durable.telling.graphs import draw
from durable.testing.cases import make_run, make_step

STEPS = [
    make_step(1, label="fetch:1", done=3),
    make_step(2, label="fetch:2", done=4),
    make_step(5, label='bill:"a" #1', status="failed", done=9, container="shop"),
    make_step(6, label="number:1", parent=5, done=7, container="bill:1"),
    make_step(8, label="number:2", parent=5, status="started", done=None, flags=1),
    make_step(10, label="end:1", status="skipped", done=11),
]


def test_mermaid() -> None:
    """Steps are nodes with their status, those with steps below are frames around them, and what ended last before a call
    leads to it; texts cannot break out of their labels."""
    drawn = draw(make_run("import"), STEPS, Past(), "mermaid")
    assert drawn.splitlines() == [
        "---",
        "title: import running",
        "---",
        "flowchart TD",
        '    s1["fetch:1 (succeeded)"]',
        '    s2["fetch:2 (succeeded)"]',
        '    subgraph s5["bill:#34;a#34; #35;1 (failed)"]',
        '        s6["number:1 (succeeded)"]',
        '        s8["number:2 (in doubt)"]',
        "    end",
        '    s10["end:1 (skipped)"]',
        "    s1 --> s5",
        "    s2 --> s5",
        "    s5 --> s10",
        "    s6 --> s8",
        "    classDef failed fill:#ffcdd2,color:#000000",
        "    class s5 failed",
        "    classDef in_doubt fill:#ffe082,color:#000000",
        "    class s8 in_doubt",
        "    classDef skipped fill:#eeeeee,color:#000000",
        "    class s10 skipped",
        "    classDef succeeded fill:#c8e6c9,color:#000000",
        "    class s1,s2,s6 succeeded",
    ]


def test_dot() -> None:
    """The same for Graphviz, where the frame holds the node of its step."""
    drawn = draw(make_run('a "b"'), STEPS[2:], None, "dot")
    assert drawn.splitlines() == [
        r'digraph "a \"b\"" {',
        r'    label="a \"b\" running"',
        "    node [shape=box style=filled]",
        "    subgraph cluster_s5 {",
        r'        s5 [label="bill:\"a\" #1 (failed)" fillcolor="#ffcdd2"]',
        '        s6 [label="number:1 (succeeded)" fillcolor="#c8e6c9"]',
        '        s8 [label="number:2 (started)" fillcolor="#b3e5fc"]',
        "    }",
        '    s10 [label="end:1 (skipped)" fillcolor="#eeeeee"]',
        "    s5 -> s10",
        "    s6 -> s8",
        "}",
    ]


def test_a_run_without_steps() -> None:
    """A run that has no steps yet is drawn empty."""
    assert draw(make_run(), [], None, "dot").endswith("style=filled]\n}")


def test_an_unknown_format() -> None:
    """Another format is refused, naming those there are."""
    with pytest.raises(ConfigurationError, match="mermaid, dot"):
        draw(make_run(), [], None, "svg")
