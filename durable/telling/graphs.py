"""A run as a graph, in the text that Mermaid or Graphviz draw: steps with their status, nested where they were called.

What is drawn is what is recorded: an arrow leads to a call from the calls below the same step that had ended last before
it was made. Values and arguments are not shown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from durable.errors import ConfigurationError
from durable.telling.explaining import is_left_in_doubt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable.records import RunRecord, StepRecord
    from durable.steps.verdicts import Past

GraphFormat = Literal["mermaid", "dot"]

_COLOURS = {
    "succeeded": "#c8e6c9",
    "failed": "#ffcdd2",
    "in doubt": "#ffe082",
    "started": "#b3e5fc",
    "cancelled": "#e1bee7",
    "skipped": "#eeeeee",
    "undone": "#d7ccc8",
}


def draw(run: RunRecord, steps: Sequence[StepRecord], past: Past | None, form: str) -> str:
    """Draw a run; `past` is what its next execution finds, None while one is under way.

    Raises `ConfigurationError` for a format that is not one of `GraphFormat`.
    """
    if form not in get_args(GraphFormat):
        raise ConfigurationError(f"There is no format {form!r}. Choose from: {', '.join(get_args(GraphFormat))}.")
    nodes: dict[int, list[_Node]] = {}
    called: dict[int, list[StepRecord]] = {}
    for step in steps:
        status = "in doubt" if past is not None and is_left_in_doubt(step, past) else str(step.status)
        nodes.setdefault(step.parent, []).append(_Node(step.seq, step.key, status))
        called.setdefault(step.parent, []).append(step)
    edges = [edge for beside in called.values() for edge in _edges(beside)]
    lines = _mermaid(run, nodes, edges) if form == "mermaid" else _dot(run, nodes, edges)
    return "\n".join(lines)


class _Node(NamedTuple):
    number: int
    key: str
    status: str


def _edges(steps: Sequence[StepRecord]) -> Iterator[tuple[int, int]]:
    """Lead from each call to those made after it had ended, leaving out what follows from others."""
    ended = sorted((step.done, step.seq) for step in steps if step.done is not None)
    ends = [done for done, _ in ended]
    latest = list(accumulate((seq for _, seq in ended), max))  # of the calls that had ended by then
    for step in steps:
        before = bisect_left(ends, step.seq)
        first = bisect_left(ends, latest[before - 1]) if before else 0
        yield from ((seq, step.seq) for _, seq in ended[first:before])


def _mermaid(run: RunRecord, nodes: dict[int, list[_Node]], edges: list[tuple[int, int]]) -> Iterator[str]:
    yield "---"
    yield f"title: {_mermaid_text(f'{run.id} {run.status}')}"
    yield "---"
    yield "flowchart TD"
    yield from _mermaid_nodes(nodes, 0, "    ")
    yield from (f"    s{before} --> s{after}" for before, after in edges)
    for status in sorted({node.status for below in nodes.values() for node in below}):
        name = status.replace(" ", "_")
        yield f"    classDef {name} fill:{_COLOURS.get(status, '#ffffff')},color:#000000"
        marked = ",".join(f"s{node.number}" for below in nodes.values() for node in below if node.status == status)
        yield f"    class {marked} {name}"


def _mermaid_nodes(nodes: dict[int, list[_Node]], below: int, indent: str) -> Iterator[str]:
    for node in nodes.get(below, ()):
        label = _mermaid_text(f"{_short(node.key)} ({node.status})")
        if node.number not in nodes:
            yield f'{indent}s{node.number}["{label}"]'
        else:
            yield f'{indent}subgraph s{node.number}["{label}"]'
            yield from _mermaid_nodes(nodes, node.number, f"{indent}    ")
            yield f"{indent}end"


def _dot(run: RunRecord, nodes: dict[int, list[_Node]], edges: list[tuple[int, int]]) -> Iterator[str]:
    yield f"digraph {_quoted(run.id)} {{"
    yield f"    label={_quoted(f'{run.id} {run.status}')}"
    yield "    node [shape=box style=filled]"
    yield from _dot_nodes(nodes, 0, "    ")
    yield from (f"    s{before} -> s{after}" for before, after in edges)
    yield "}"


def _dot_nodes(nodes: dict[int, list[_Node]], below: int, indent: str) -> Iterator[str]:
    for node in nodes.get(below, ()):
        label = _quoted(f"{_short(node.key)} ({node.status})")
        drawn = f's{node.number} [label={label} fillcolor="{_COLOURS.get(node.status, "#ffffff")}"]'
        if node.number not in nodes:
            yield f"{indent}{drawn}"
        else:
            yield f"{indent}subgraph cluster_s{node.number} {{"
            yield f"{indent}    {drawn}"
            yield from _dot_nodes(nodes, node.number, f"{indent}    ")
            yield f"{indent}}}"


def _short(key: str) -> str:
    """The part of a step key that its place in the drawing does not tell."""
    return key.rpartition("/")[2]


def _mermaid_text(text: str) -> str:
    """Write what Mermaid would take for its own as entities."""
    return re.sub(r"[^\w .()~:,-]", lambda found: f"#{ord(found[0])};", text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
