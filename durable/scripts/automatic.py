"""A script that asks for it by its first line is executed again from its beginning, in a run, in the place of the first time.

Nothing stands before that line, so nothing happens twice; the process ends when the script does.
"""

from __future__ import annotations

import ast
import sys
import warnings
from typing import TYPE_CHECKING

from durable.configuration import PACKAGE
from durable.errors import ConfigurationError, DurableWarning
from durable.scripts.calls import Invocation
from durable.scripts.launching import is_launched, launch
from durable.telling import notices

if TYPE_CHECKING:
    from types import FrameType

_NAME = "durable.auto"


def take_over() -> None:
    """Execute the program that is being executed in a run, and end the process; else say why not.

    Warns with `DurableWarning` where no program is the importer: a module, a shell, a notebook. Exits with 2 if
    statements stand before the import.
    """
    importer = _importer()
    name = importer.f_globals.get("__name__") if importer is not None else None
    if is_launched() or name == "__mp_main__":
        return
    path = importer.f_globals.get("__file__") if importer is not None else None
    if importer is None or name != "__main__" or importer.f_code.co_name != "<module>" or path is None:
        what = f"module {name!r}, which is not the main script" if name != "__main__" else "a program without a file"
        warnings.warn(
            f"import {_NAME} has no effect in {what}: nothing is recorded. Put it into the first line of the script that is "
            f"started, or start it with: durable run SCRIPT",
            DurableWarning,
            stacklevel=_depth(importer),
        )
        return
    spec = importer.f_globals.get("__spec__")
    try:
        _check_first(path)
    except ConfigurationError as error:
        notices.tell(str(error))
        sys.exit(2)
    program = sys.argv[0] if spec is None else spec.name.removesuffix(".__main__")
    sys.exit(launch(Invocation(program, tuple(sys.argv[1:]), is_module=spec is not None)))


def _importer() -> FrameType | None:
    """Give the frame of the statement that imports us."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- the documented way to find the caller
    while frame is not None and (_is_ours(frame) or frame.f_code.co_filename.startswith("<frozen importlib")):
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def _depth(frame: FrameType | None) -> int:
    """Count the frames up to this one, as `warnings` does, which leaves out those of the import system."""
    depth, current = 1, sys._getframe(1)  # noqa: SLF001 -- as above
    while current is not None and current is not frame:
        depth += not current.f_code.co_filename.startswith("<frozen importlib")
        current = current.f_back  # type: ignore[assignment]  # None ends the loop
    return depth


def _check_first(path: str) -> None:
    """Refuse a script that does something before it asks to be executed again."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    for node in tree.body:
        if isinstance(node, ast.Import) and any(alias.name == _NAME for alias in node.names):
            return
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not is_docstring and not is_future:
            raise ConfigurationError(
                f"{path}, line {node.lineno}: this stands before `import {_NAME}` and would be executed twice. Nothing was "
                f"recorded. Make the import the first statement of the script."
            )
    raise ConfigurationError(
        f"{path} does not import {_NAME} by a statement of its own. Write `import {_NAME}` as its first statement."
    )
