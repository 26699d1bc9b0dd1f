"""A task whose module was edited and loaded again is an edited task, also where another body was put into the same function."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING

from durable.declarations import registry
from durable.identity.source_code import innermost

if TYPE_CHECKING:
    from types import CodeType

    from durable.declarations.definitions import TaskDefinition

_DIGESTS = ("code", "code_hex")  # what a definition keeps of its body


class Edits:
    """Knows the bodies of all tasks as they were in the last cell."""

    def __init__(self) -> None:
        # by id, of definitions that are kept alive
        self._bodies: dict[int, tuple[TaskDefinition, CodeType | None]] = {}
        self._is_looked = False

    def begin_cell(self) -> None:
        """Note that other cells, and extensions that load modules again, may have edited something."""
        self._is_looked = False

    def look(self) -> None:
        """Let tasks that have got another body be looked at anew, before the first call of a cell."""
        if not self._is_looked:
            self._is_looked = True
            linecache.checkcache()
            self.note()

    def note(self) -> None:
        """Note the bodies as they are now."""
        before, self._bodies = self._bodies, {}
        for definition in registry.tasks.all():
            function = innermost(definition.plain)
            body = function.__code__ if function is not None else None
            self._bodies[id(definition)] = definition, body
            if before.get(id(definition), (definition, body))[1] is not body:
                _forget_digests(definition)


def _forget_digests(definition: TaskDefinition) -> None:
    for each in (definition, *vars(definition).get("_elsewhere", {}).values()):
        for name in _DIGESTS:
            vars(each).pop(name, None)
