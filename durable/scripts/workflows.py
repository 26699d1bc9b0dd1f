"""A workflow is called by its name, with inputs that were written on a command line and have the types that it asks for."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.declarations.loading import folder_of
from durable.declarations.wrappers import Workflow
from durable.errors import ConfigurationError
from durable.identity.run_calls import RunCall
from durable.runs.runs import run_life
from durable.scripts.arguments import converted
from durable.scripts.calls import refuse_lacking
from durable.scripts.launching import install
from durable.scripts.targets import ProjectSettings, Targets
from durable.steps.effects import drive, drive_async
from durable.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import RunRecord
    from durable.scripts.calls import Invocation


class WorkflowCall:
    """A call of `module:workflow`; making it imports the module and checks the inputs, calling it executes the run."""

    def __init__(self, invocation: Invocation, given: dict[str, str], as_json: str | None) -> None:
        """Raise `ConfigurationError` for what cannot be called so, before anything is executed."""
        import_from(os.getcwd())
        settings = ProjectSettings.load()
        targets = Targets.sort(invocation.tasks, settings, None)
        install(targets.foreign, tuple(dict.fromkeys((*settings.patches, *invocation.patches))))
        definition = find_workflow(invocation.program).definition
        kwargs = converted(definition.plain, given, _object(as_json))
        self._definition = definition.with_options(**invocation.options)
        self._kwargs = kwargs
        self._call = _CommandCall(self._definition, None, (), kwargs)
        self.run_id = self._call.lineage

    def __call__(self) -> Any:
        """Execute the run and give its result, an awaitable for an async workflow."""
        life = run_life(self._call, self._body)
        return drive_async(life) if self._definition.is_async else drive(life)

    def _body(self) -> Any:
        assert self._call.execution is not None
        self.run_id = self._call.execution.id
        return self._definition.plain(**self._kwargs)


class _CommandCall(RunCall):
    """The run of a command, which says anew what is patched."""

    def check_patches(self, run: RunRecord, begun: Iterable[str]) -> None:
        """Refuse to execute as plain functions what was recorded as tasks, whatever of it is recorded by now."""
        refuse_lacking(
            run, {name: "--task" if ":" in name else "--patch" for name in begun if name not in registry.patched}
        )


def install_as_begun(run: RunRecord) -> None:
    """Patch for a workflow what was patched when its run was begun, as far as the record tells.

    Raises `ConfigurationError` for what cannot be patched here.
    """
    entry = json.loads(run.entry)
    folder = folder_of(entry)
    if folder is not None:
        import_from(str(folder))
    begun = {name: options for name, options in entry.get("patched", {}).items() if options is not None}
    targets = {name: options for name, options in begun.items() if ":" in name}
    install(targets, tuple(name for name in begun if name not in targets))


def import_from(folder: str) -> None:
    """Let modules of a folder be found, before all others."""
    if not sys.flags.safe_path and sys.path[0] != folder:
        sys.path.insert(0, folder)


def find_workflow(target: str) -> Workflow[..., Any]:
    """Import `module:workflow` as seen from the current folder; raises `ConfigurationError`."""
    module_name, _, name = target.partition(":")
    import_from(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"{target}: the module {module_name!r} cannot be imported: {error}.") from error
    workflows = [known for known, value in vars(found).items() if isinstance(value, Workflow)]
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Workflow):
        return found
    what = "is no @workflow" if found is not None else "does not exist"
    hint = suggestion(name, workflows) or (f" It has: {', '.join(workflows)}." if workflows else "")
    raise ConfigurationError(f"{target}: {name!r} {what} in {module_name}.{hint} Nothing was executed.")


def _object(as_json: str | None) -> dict[str, Any]:
    if as_json is None:
        return {}
    try:
        found = json.loads(as_json)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--json is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"--json is an object of inputs by name, not {as_json}.")
    return found
