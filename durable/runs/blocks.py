"""`with durable.run("id"):` makes a block a run, for code that has no workflow function.

The block is always executed; the tasks called in it are steps. Each statement is a scope of its own within the run. In a
program that `durable run` executes a block is the run that it is under plain Python, too, and a child of the program's.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import linecache
from typing import TYPE_CHECKING, Any

from durable.concurrency.branches import scoped_tasks
from durable.declarations.definitions import WorkflowDefinition
from durable.declarations.naming import check_run_id
from durable.disabled.plain_calls import handle_of, plain_life
from durable.disabled.plain_runs import BODY, plain_run
from durable.errors import OutsideRunError
from durable.identity.run_calls import RunCall
from durable.runs.execution import FRAME, Frame
from durable.runs.handles import Run
from durable.runs.runs import run_life
from durable.runs.sessions import is_disabled
from durable.runs.stopping import ended_when_stopped
from durable.steps.effects import Effect, Execute, drive, drive_async
from durable.steps.engine import continued, open_life
from durable.telling.notices import BLOCK
from durable.telling.tracebacks import ShownToCaller

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import CodeType, FrameType, TracebackType


class RunBlock:
    """Context manager, sync and async, that makes its block a run; gives the `Run`."""

    def __init__(self, run_id: str, made_in: FrameType | None, *, options: dict[str, Any]) -> None:
        self._run_id = run_id
        self._made_in = made_in
        self._label = _statement(made_in) if made_in is not None else "block"
        self._options = options
        self._life: Generator[Effect, Any, Any] | None = None
        self._effect: Execute | None = None
        self._scopes = contextlib.ExitStack()
        self._stopping = contextlib.ExitStack()
        self._tokens: list[Any] = []

    def _open(self, *, is_async: bool) -> Run:
        frame = FRAME.get()
        if (frame is not None and not _is_program(frame)) or BODY.get() is not None:
            inside = f" {frame.body.execution.id}" if frame is not None else ""
            raise OutsideRunError(
                f"durable.run({self._run_id!r}) was not entered: it stands inside run{inside}. For a part of that run use "
                f"durable.scope({self._run_id!r}), for a run of its own a @workflow."
            )
        function = _async_block if is_async else _block
        definition = WorkflowDefinition(function=function, name=BLOCK, is_block=True).with_options(
            run_id=self._run_id, **self._options
        )
        if is_disabled():
            return self._open_plain(definition, is_async=is_async)
        call = RunCall(definition, None, (), {}, parent=frame.body if frame is not None else None)
        self._life = run_life(call, _nothing)
        effect = open_life(self._life)
        self._effect = effect
        execution = effect.body.execution
        entered = _entered_in(inspect.currentframe())
        if entered is not None and entered is not self._made_in:
            self._label = _statement(entered)
        self._made_in = None
        self._tokens.append(FRAME.set(Frame(execution.body, execution.body.scope.named(self._label))))
        return Run(call.session, execution.id)

    def _open_plain(self, definition: WorkflowDefinition, *, is_async: bool) -> Run:
        run = plain_run(definition, (), {})
        self._life = plain_life(run, _nothing, is_async=is_async)
        next(self._life)
        return handle_of(run, definition.full_name)

    def _close(self, error: BaseException | None) -> Generator[Effect, Any, Any]:
        assert self._life is not None
        if self._tokens:
            FRAME.reset(self._tokens.pop())
        try:
            effect = self._life.throw(error) if error is not None else self._life.send(None)
        except StopIteration:
            return
        yield from continued(effect, self._life)

    def __enter__(self) -> Run:
        """Open the run: a new one, or the one with this id, whose recorded steps are replayed."""
        with ShownToCaller():
            return self._open(is_async=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run: succeeded, or failed with the exception that left the block."""
        with ShownToCaller():
            drive(self._close(error))

    async def __aenter__(self) -> Run:
        """Do what `with` does, for a block that awaits."""
        with ShownToCaller():
            opened = self._open(is_async=True)
        if self._effect is None:  # nothing is recorded
            return opened
        execution = self._effect.body.execution
        self._scopes.enter_context(scoped_tasks())
        self._stopping.enter_context(ended_when_stopped(execution))
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do what `with` does, for a block that awaits."""
        self._stopping.close()
        with ShownToCaller(), self._scopes:
            await drive_async(self._close(error))


def run(run_id: str, **options: Any) -> RunBlock:
    """Make a block a run: `with durable.run("import-2026-11") as run:`, or `async with`.

    `run_id` alone names the run. The block is executed whenever the program comes to it; its finished steps are replayed.
    Options are those of `Workflow.with_options`. Raises `ConfigurationError` for an id that is empty, longer than 255
    characters or holds NUL; entering raises `RunInProgressError` if the run is alive elsewhere, and `OutsideRunError` inside
    another run, but for a program that `durable run` executes.
    """
    check_run_id(run_id)
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    return RunBlock(run_id, caller, options=options)


def _block() -> None: ...


async def _async_block() -> None: ...


def _nothing() -> None: ...


def _is_program(frame: Frame) -> bool:
    """Whether code stands in a program itself, and not in one of its tasks."""
    return frame.body.outer is None and "script" in json.loads(frame.body.execution.run.entry)


def _entered_in(frame: FrameType | None) -> FrameType | None:
    """Give the frame of the statement that enters a block, through `contextlib` and generators that it drives."""
    while frame is not None and (_is_in(frame, __file__, contextlib.__file__) or _is_driven(frame)):
        frame = frame.f_back
    return frame


def _is_in(frame: FrameType, *files: str) -> bool:
    return frame.f_code.co_filename in files


def _is_driven(frame: FrameType) -> bool:
    is_generator = frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
    return bool(is_generator) and frame.f_back is not None and _is_in(frame.f_back, contextlib.__file__)


def _statement(frame: FrameType) -> str:
    """Name a statement that enters a block by its function and its place among those that read the same there."""
    code = frame.f_code
    name = code.co_qualname.replace("<locals>.", "").replace("<module>", "block")
    position = _position(code, frame.f_lineno)
    return name if position <= 1 else f"{name}#{position}"


def _position(code: CodeType, line: int) -> int:
    source = "".join(linecache.getlines(code.co_filename))
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return 1
    statements = [node for node in nodes if isinstance(node, ast.With | ast.AsyncWith)]
    mine = [
        node
        for node in statements
        if any(i.context_expr.lineno <= line <= (i.context_expr.end_lineno or 0) for i in node.items)
    ]
    if not mine:
        simple = [node for node in nodes if isinstance(node, ast.stmt) and not hasattr(node, "body")]
        this = [ast.unparse(node) for node in simple if node.lineno <= line <= (node.end_lineno or 0)]
        return sum(node.lineno <= line and ast.unparse(node) in this for node in simple) or 1
    text = ast.unparse(mine[-1].items[0].context_expr)
    alike = sorted(node.lineno for node in statements if ast.unparse(node.items[0].context_expr) == text)
    return alike.index(mine[-1].lineno) + 1
