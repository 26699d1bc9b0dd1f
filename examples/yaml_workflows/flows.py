"""Flows in YAML: everything that can be wrong with one is said before any of its steps is executed."""

from __future__ import annotations

import difflib
import graphlib
import shlex
import shutil
import string
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # PyYAML: the examples need it, the library does not

FOLDER = Path(__file__).parent / "flows"
_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_STEP_KEYS = {"id", "run", "flow", "with", "checkpoint", "each", "needs", "undo", "attempts", "once"}


class FlowError(Exception):
    """A flow or its inputs are wrong; nothing was executed."""


@dataclass(frozen=True)
class Step:
    id: str
    run: str = ""
    flow: str = ""
    with_: dict[str, str] = field(default_factory=dict)
    checkpoint: str = ""
    each: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    undo: str = ""
    attempts: int = 1
    once: bool = False

    @property
    def kind(self) -> str:
        return "run" if self.run else f"flow {self.flow}" if self.flow else "checkpoint"

    def templates(self) -> list[str]:
        return [self.run, self.checkpoint, *self.with_.values()]

    def names(self) -> set[str]:
        """What the step's texts stand for: inputs, other steps, its own result where it is undone, and the item."""
        own = names_in(self.undo) - {self.id}
        return own.union(*map(names_in, self.templates())) - ({"item"} if self.each else set())


@dataclass(frozen=True)
class Flow:
    name: str
    inputs: dict[str, dict[str, Any]]
    preflight: list[dict[str, str]]
    steps: tuple[Step, ...]  # in the order of their execution

    def check_machine(self) -> None:
        """Refuse to begin without a command that the flow needs."""
        for check in self.preflight:
            if shutil.which(check["command"]) is None:
                raise FlowError(
                    f"{self.name} needs the command {check['command']!r}. {check.get('remedy', '')}".strip()
                )

    def typed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Convert inputs to their types and fill in defaults."""
        if unknown := sorted(set(given) - set(self.inputs)):
            raise FlowError(f"{self.name} has no input {unknown[0]!r}.{_hint(unknown[0], self.inputs)}")
        values = {}
        for name, about in self.inputs.items():
            if name not in given and "default" not in about:
                raise FlowError(f"{self.name} needs the input {name!r}: write {name}=...")
            values[name] = self._converted(name, given.get(name, about.get("default")))
        return values

    def _converted(self, name: str, value: Any) -> Any:
        kind = self.inputs[name].get("type", "str")
        try:
            return _BOOLEANS[str(value).lower()] if kind == "bool" else _TYPES[kind](value)
        except (KeyError, ValueError):
            raise FlowError(f"{self.name}: {name}={value!r} is not of type {kind}.") from None


def load(name: str, callers: tuple[str, ...] = ()) -> Flow:
    """Read a flow by its name or path, with all flows that it calls, and check them."""
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise FlowError(f"There is no flow {name!r}.{_hint(name, [each.stem for each in FOLDER.glob('*.yaml')])}")
    if name in callers:
        raise FlowError(f"Flows call each other in a circle: {' -> '.join((*callers, name))}.")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise FlowError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
        raise FlowError(f"{path} has no list of steps.")
    inputs = {key: about or {} for key, about in (data.get("inputs") or {}).items()}
    for key, about in inputs.items():
        if about.get("type", "str") not in _TYPES:
            raise FlowError(f"{path}: input {key!r} has the type {about['type']!r}; known are {', '.join(_TYPES)}.")
    steps = [_step(path, number, data["steps"]) for number in range(len(data["steps"]))]
    flow = Flow(name, inputs, data.get("preflight") or [], tuple(_ordered(path, steps, set(inputs))))
    flow.typed({key: about.get("default", _example(about)) for key, about in inputs.items()})
    for step in steps:
        if step.flow:
            called = load(step.flow, (*callers, name))
            called.typed({key: _example(called.inputs.get(key, {})) for key in step.with_})
    return flow


def _step(path: Path, number: int, listed: list[Any]) -> Step:
    data = listed[number]
    if not isinstance(data, dict) or sum(key in data for key in ("run", "flow")) + ("checkpoint" in data) not in (1, 2):
        raise FlowError(f"{path}: step {number + 1} is one of run, flow and checkpoint.")
    if unknown := sorted(set(data) - _STEP_KEYS):
        raise FlowError(f"{path}: step {number + 1} has no key {unknown[0]!r}.{_hint(unknown[0], _STEP_KEYS)}")
    before = listed[number - 1] if number else None
    follows = [_id(before)] if isinstance(before, dict) else []
    try:
        return _made(data, follows)
    except (TypeError, ValueError, AttributeError) as error:
        raise FlowError(f"{path}: step {_id(data)!r} is not what a step looks like: {error}.") from None


def _made(data: dict[str, Any], follows: list[str]) -> Step:
    return Step(
        id=_id(data),
        run=str(data.get("run", "")),
        flow=str(data.get("flow", "")),
        with_={key: str(value) for key, value in data.get("with", {}).items()},
        checkpoint=str(data.get("checkpoint", "")),
        each=tuple(map(str, data.get("each", ()))),
        needs=tuple(data.get("needs", follows)),
        undo=str(data.get("undo", "")),
        attempts=int(data.get("attempts", 1)),
        once=bool(data.get("once", False)),
    )


def _id(data: dict[str, Any]) -> str:
    return str(data.get("id", data.get("checkpoint")))


def _ordered(path: Path, steps: list[Step], inputs: set[str]) -> list[Step]:
    """Bring the steps into an order in which each finds what it needs."""
    known = {step.id: step for step in steps}
    if len(known) < len(steps) or inputs & set(known):
        names = Counter([*inputs, *(step.id for step in steps)])
        raise FlowError(f"{path}: the name {names.most_common(1)[0][0]!r} is given twice.")
    graph = {}
    for step in steps:
        needs = {*step.needs} | step.names() - inputs
        if unknown := sorted(needs - set(known)):
            raise FlowError(f"{path}: step {step.id!r} names {unknown[0]!r}.{_hint(unknown[0], {*known, *inputs})}")
        graph[step.id] = needs
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise FlowError(f"{path}: steps need each other in a circle: {' -> '.join(error.args[1])}.") from None
    return [known[name] for name in order]


def _example(about: dict[str, Any]) -> Any:
    return {"int": 1, "float": 1.0, "bool": True}.get(about.get("type", "str"), "x")


def names_in(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def filled(template: str, values: dict[str, Any]) -> str:
    """Put values into a command, each as one word of the shell."""
    return template.format_map({name: shlex.quote(str(value)) for name, value in values.items()})


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(sorted(known)) or 'none'}."
