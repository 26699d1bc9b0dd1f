"""`%load_ext durable`: from then on the cells of this kernel call tasks as steps of the notebook's run."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any

from durable.declarations.naming import set_notebook_path
from durable.notebooks.kernels import Kernel
from durable.notebooks.magics import Magics
from durable.notebooks.names import find_name
from durable.notebooks.progress import CellProgress
from durable.steps.outside import set_notebook
from durable.telling.tracebacks import strip_for_caller

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_loaded: _Extension | None = None


class _Extension:
    """What is registered with one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel = Kernel(lambda: find_name(shell.user_ns, os.environ))
        self._progress = CellProgress(self._kernel, is_shown=hasattr(shell, "kernel"))
        self._magics = Magics(self._kernel, shell)
        self._shows: Any = None

    def load(self) -> None:
        shell: Any = self._shell  # whose annotations are not those of its methods
        shell.register_magic_function(self._magics.line, "line", "durable")
        shell.register_magic_function(self._magics.cell, "cell", "durable")
        shell.input_transformers_cleanup.append(self._magics.await_cell)
        shell.events.register("pre_run_cell", self._before_cell)
        shell.events.register("post_run_cell", self._after_cell)
        if not shell.custom_exceptions:  # nobody else shows them
            shell.set_custom_exc((Exception, KeyboardInterrupt), _show)
            self._shows = shell.CustomTB
        atexit.register(self._kernel.release)
        set_notebook(self._kernel)

    def unload(self) -> None:
        shell: Any = self._shell
        set_notebook(None)
        if shell.CustomTB == self._shows:
            shell.set_custom_exc((), None)
        atexit.unregister(self._kernel.release)
        self._kernel.release()
        set_notebook_path(None)
        shell.events.unregister("pre_run_cell", self._before_cell)
        shell.events.unregister("post_run_cell", self._after_cell)
        shell.input_transformers_cleanup.remove(self._magics.await_cell)
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("durable", None)

    def _before_cell(self, _: Any) -> None:
        self._kernel.begin_cell()
        self._progress.begin()

    def _after_cell(self, _: Any) -> None:
        self._progress.end()
        self._kernel.end_cell()


def _show(shell: Any, kind: type[BaseException], error: BaseException, _: object, tb_offset: int | None = None) -> None:
    """Show what a cell raised as IPython does, without our frames."""
    strip_for_caller(error)
    shell.showtraceback((kind, error, error.__traceback__), tb_offset=tb_offset, running_compiled_code=True)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Make `%durable` and `%%durable` known, and calls of tasks in cells durable."""
    global _loaded  # noqa: PLW0603 -- a process has one shell
    if _loaded is not None:
        _loaded.unload()
    _loaded = _Extension(shell)
    _loaded.load()


def unload_ipython_extension(_: InteractiveShell) -> None:
    """Take everything back; the run is left as it is."""
    global _loaded  # noqa: PLW0603 -- see above
    if _loaded is not None:
        _loaded.unload()
        _loaded = None
