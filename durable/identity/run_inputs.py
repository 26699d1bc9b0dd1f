"""Inputs that name a run should have a value: what counts by its type alone may carry what tells two runs apart.

Clients, connections and locks count by their type, and nobody minds. With a generator, a file that is read, or an object
with attributes whose method is the workflow, the run of one is taken for that of another: the user is told.
"""

from __future__ import annotations

import itertools
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

from durable.identity.encoding import encode_type
from durable.identity.fingerprints import cheap_label
from durable.identity.type_names import slots_of
from durable.runs.execution import warn_once

if TYPE_CHECKING:
    from durable.identity.calls import Call

_CONTAINERS = (list, tuple, dict, set, frozenset)


def warn_of_inputs_without_value(call: Call) -> None:
    """Warn, once for each workflow and input, of a call that asks for whatever run was begun with other data."""
    encoded, workflow = call.encoded, call.task.full_name
    for name, value in call.values.items():
        if not name.startswith("_") and _carries_data(value) and encoded.get(name) == encode_type(type(value)):
            warn_once(
                "inputs",
                f"{workflow}:{name}",
                f"Workflow {workflow!r}: its input {name!r}, a {type(value).__qualname__}, counts by its type alone, so this "
                f"run is that of any other. Pass the data or a path, name the run with run_id=, or rename the parameter to "
                f"'_{name}' if it does not matter.",
            )
    told_apart = attributes_of(call.instance) if counts_by_type(call) else {}
    if told_apart:
        kind = type(call.instance).__qualname__
        warn_once(
            "inputs",
            f"{workflow}:self",
            f"Workflow {workflow!r}: its object counts by its type alone, so this run is that of any other {kind}, whatever "
            f"its attributes hold ({', '.join(sorted(told_apart))}). Give the class a __durable_key__(), make it a frozen "
            f"dataclass, or name the run with run_id=.",
        )


def counts_by_type(call: Call) -> bool:
    """Whether a method is called whose object is known by its type alone."""
    instance = call.instance
    return instance is not None and call.encoded.get("self") == encode_type(type(instance))


def attributes_of(instance: object) -> dict[str, bytes]:
    """Label the attributes of an object that hold plain data; those called `_name` are its own affair."""
    slots = [name for kind in type(instance).__mro__ for name in slots_of(kind) if hasattr(instance, name)]
    attributes = {**getattr(instance, "__dict__", {}), **{name: getattr(instance, name) for name in slots}}
    return {name: cheap_label(value) for name, value in attributes.items() if name[:1] != "_" and _is_data(value)}


def _is_data(value: Any) -> bool:
    if value is None or value is True or value is False:
        return False
    if isinstance(value, _CONTAINERS):
        return bool(value)
    return cheap_label(value) != encode_type(type(value))


def _carries_data(value: Any) -> bool:
    if isinstance(value, GeneratorType | AsyncGeneratorType) or type(value).__module__ == itertools.__name__:
        return True
    readable = getattr(value, "readable", None)
    try:
        return bool(callable(readable) and readable())
    except Exception:  # a closed file
        return False
