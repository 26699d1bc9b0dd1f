"""Which tasks and workflows this program defines, by the names that records carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from durable.declarations.definitions import Definition

if TYPE_CHECKING:
    from durable.declarations.definitions import TaskDefinition, WorkflowDefinition

D = TypeVar("D", bound=Definition)


class Definitions(Generic[D]):
    """Definitions by full name and alias; a name is made at the first look-up, since it depends on the store."""

    def __init__(self) -> None:
        self._unnamed: list[D] = []
        self._named: dict[str, D] = {}
        self._anonymous: dict[str, WeakSet[D]] = {}

    def add(self, definition: D) -> None:
        """Register a definition; a later one of the same name takes its place."""
        self._unnamed.append(definition)
        if definition.is_anonymous:
            self._anonymous.setdefault(definition.qualname, WeakSet()).add(definition)

    def all(self) -> list[D]:
        """List all definitions that are known."""
        return [*self._unnamed, *self._named.values()]

    def namesakes(self, definition: D) -> list[D]:
        """List the definitions of living functions without a name of their own that are called like this one."""
        module = definition.plain.__module__
        return [each for each in list(self._anonymous.get(definition.qualname, ())) if each.plain.__module__ == module]

    def get(self, name: str, anchor: str | None = None) -> D | None:
        """Find a definition by the full name that it has in a store of this anchor, or by a former one."""
        while self._unnamed:
            definition = self._unnamed.pop(0)
            for each in (*definition.aliases, definition.full_name):
                self._named[each] = definition
        found = self._named.get(name)
        if anchor is None or (found is not None and found.at(anchor) is found):
            return found
        elsewhere = (definition.at(anchor) for definition in self._named.values())
        return next((definition for definition in elsewhere if definition.full_name == name), None)


tasks: Definitions[TaskDefinition] = Definitions()
workflows: Definitions[WorkflowDefinition] = Definitions()
# presets and targets, with options; None: only the program can say those
patched: dict[str, dict[str, Any] | None] = {}


def is_gone(label: str, anchor: str | None) -> bool:
    """Whether nothing of this program goes by a recorded label any more; what is ours, as durable.now, never goes."""
    name = label.partition("@")[0]
    return not name.startswith("durable.") and not (tasks.get(name, anchor) or workflows.get(name, anchor))
