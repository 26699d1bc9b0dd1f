"""Find a recorded workflow again: by its module, or by the script that it stood in.

A script, or a module that was started with `python -m`, is executed the way `multiprocessing` does it, under the name
`__mp_main__`, so that what stands behind `if __name__ == "__main__":` does not run; and no further than to its first call of
a workflow, so that nothing but the run that was asked for is resumed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.errors import ConfigurationError, NotFoundError
from durable.identity.type_names import LOADED_MAIN
from durable.telling.notices import shell_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.declarations.definitions import WorkflowDefinition
    from durable.records import RunRecord
    from durable.runs.sessions import Session

_loading = False


class _Reached(BaseException):
    """A script that is loaded calls a workflow: it has defined what that needs."""


def stop_before_calls() -> None:
    """Refuse to open a run while a script is loaded."""
    if _loading:
        raise _Reached


def refuse_programs(session: Session, run: RunRecord) -> None:
    """Raise `ConfigurationError` for the run of a program, or one that it called: a program is executed from its beginning."""
    top: RunRecord | None = run
    while top is not None and top.parent_run is not None:
        top = session.store.load_run(top.parent_run)
    if top is not None and "script" in json.loads(top.entry):
        raise ConfigurationError(
            f"Run {run.id} is {'a program' if top is run else f'a part of the program {top.workflow}'}, which is executed from "
            f"its beginning in a process of its own. Start it again as before, or with: {shell_command('resume', top.id)}"
        )


def load_workflow(run: RunRecord, anchor: str | None) -> WorkflowDefinition:
    """Import what defines a run's workflow; raises `NotFoundError` naming what was tried."""
    entry = json.loads(run.entry)
    module, path = entry.get("module"), entry.get("path")
    if module == "__main__" or "started" in entry:
        tried = _load_main(run, path, entry.get("started"), folder_of(entry))
    else:
        tried = _import_module(run, module, folder_of(entry))
    workflow = registry.workflows.get(run.workflow, anchor)
    if workflow is None:
        raise NotFoundError(
            f"Run {run.id} belongs to the workflow {run.workflow!r}, which {tried} does not define (any more, or not "
            f"before it calls a workflow). If it was renamed, give the new one aliases=({run.workflow!r},)."
        )
    return workflow


def folder_of(entry: dict[str, Any]) -> Path | None:
    """Give the folder from which the recorded module of a workflow is imported, or that of its script; None if it is gone."""
    path = Path(entry.get("path") or "")
    name = str(entry.get("started") or entry.get("module"))
    return path.parents[name.count(".") + (path.name == "__init__.py")] if path.is_file() else None


def _load_main(run: RunRecord, path: str | None, started: str | None, folder: Path | None) -> str:
    if path is None or folder is None or path.endswith(".ipynb"):
        raise NotFoundError(f"Run {run.id} was started from {_no_script(path)}. Call the workflow there to resume it.")
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.find_spec(started) if started else None
        loader = SourceFileLoader(LOADED_MAIN, path)
        main = importlib.util.module_from_spec(ModuleSpec(LOADED_MAIN, loader, origin=path))
        main.__file__ = path
        if spec is not None:
            main.__spec__, main.__package__ = spec, spec.parent
        sys.modules["__main__"] = sys.modules[LOADED_MAIN] = main
        with _stopped_before_calls(path):
            loader.exec_module(main)
    except (Exception, SystemExit) as error:
        raise NotFoundError(
            f"Run {run.id} needs the script {path}, which fails when it is loaded: {type(error).__name__}: {error}. Let it "
            f"do its work behind `if __name__ == '__main__':`, or start it as before to resume the run."
        ) from error
    return path


def _no_script(path: str | None) -> str:
    if path is None:
        return "a shell"
    return f"the notebook {path}" if path.endswith(".ipynb") else f"the script {path}, which is gone"


@contextlib.contextmanager
def _stopped_before_calls(path: str) -> Iterator[None]:
    """Let a script see itself as it was started, without arguments, up to its first call of a workflow."""
    global _loading  # one script is loaded at a time
    before = sys.argv
    _loading, sys.argv = True, [path]
    try:
        with contextlib.suppress(_Reached):
            yield
    finally:
        _loading, sys.argv = False, before


def _import_module(run: RunRecord, module: str | None, folder: Path | None) -> str:
    try:
        importlib.import_module(str(module))
    except ImportError as error:
        _import_from_folder(run, str(module), folder, error)
    return f"module {module}"


def _import_from_folder(run: RunRecord, module: str, folder: Path | None, error: ImportError) -> None:
    if folder is None:
        raise NotFoundError(f"Run {run.id} needs the module {module!r}, which cannot be imported: {error}.") from error
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except ImportError as again:
        raise NotFoundError(f"Run {run.id} needs the module {module!r}, which cannot be imported: {again}.") from again
