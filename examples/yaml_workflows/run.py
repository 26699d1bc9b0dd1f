"""Run flows written in YAML so that a kill loses nothing: `pip install pyyaml`, then

python run.py implement feature=login tests=False     the same line again goes on where it was killed
python run.py implement --resume                      goes on with the run of this flow that was not finished
python run.py implement feature=login --fresh         begins anew
python run.py implement feature=login --dry-run       shows the commands; also --list-steps, --validate
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from typing import Any

from flows import Flow, FlowError, Step, filled, load, names_in

import durable
from durable import task, workflow


@task
def shell(command: str) -> str:
    return _output(command)


def undo_shell(result: str, step: str, command: str, undo: str, values: dict[str, Any]) -> None:
    _output(filled(undo, {**values, step: result}))


@task(undo=undo_shell)
def undoable_shell(step: str, command: str, undo: str, values: dict[str, Any]) -> str:
    return _output(command)


def _output(command: str) -> str:
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {command}")
    return done.stdout.strip()


@workflow(name="flow")
def execute(flow: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Execute the steps of a flow in their order; gives what each returned."""
    values = dict(inputs)
    outcomes: dict[str, Any] = {}
    for step in load(flow).steps:
        with durable.scope(step.id):
            outcomes[step.id] = values[step.id] = _perform(step, values)
    return outcomes


def _perform(step: Step, values: dict[str, Any]) -> Any:
    if step.each:
        return [_perform_one(step, {**values, "item": item}) for item in step.each]
    return _perform_one(step, values)


def _perform_one(step: Step, values: dict[str, Any]) -> Any:
    result: Any = None
    if step.flow:
        called = load(step.flow)
        given = {name: template.format_map(values) for name, template in step.with_.items()}
        result = execute(step.flow, called.typed(given))
    elif step.run:
        result = _shell(step, values)
    if step.checkpoint:
        durable.checkpoint(step.checkpoint.format_map(values))
    return result


def _shell(step: Step, values: dict[str, Any]) -> str:
    options = {"attempts": step.attempts, "idempotent": not step.once}
    command = filled(step.run, values)
    if not step.undo:
        return shell.with_options(**options)(command)
    used = {name: values[name] for name in names_in(step.undo) - {step.id}}
    return undoable_shell.with_options(**options)(step.id, command, step.undo, used)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flow", help="name of a flow, or the path of a YAML file")
    parser.add_argument("inputs", nargs="*", metavar="NAME=VALUE")
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="go on with a run, by default the last one"
    )
    for option in ("fresh", "dry-run", "list-steps", "validate"):
        parser.add_argument(f"--{option}", action="store_true")
    wanted = parser.parse_intermixed_args()
    try:
        return _start(wanted, load(wanted.flow))
    except (FlowError, durable.ConfigurationError, durable.NotFoundError, durable.InputsChangedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (durable.DurableError, RuntimeError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1


def _start(wanted: argparse.Namespace, flow: Flow) -> int:
    if wanted.list_steps:
        print("\n".join(f"{step.id}: {step.kind}" for step in flow.steps))
        return 0
    if wrong := [given for given in wanted.inputs if "=" not in given]:
        raise FlowError(f"Inputs are written name=value, not {wrong[0]!r}.")
    given = dict(text.split("=", 1) for text in wanted.inputs)
    if wanted.resume is not None and not given:
        flow.check_machine()
        return _show(_unfinished(wanted.flow, wanted.resume).resume())
    inputs = flow.typed(given)
    flow.check_machine()
    if wanted.validate:
        return 0
    if wanted.dry_run:
        _show_plan(flow, inputs)
        return 0
    run_id = _unfinished(wanted.flow, wanted.resume).id if wanted.resume is not None else _run_id(wanted.flow, inputs)
    return _show(execute.with_options(run_id=run_id, fresh=wanted.fresh)(wanted.flow, inputs))


def _run_id(flow: str, inputs: dict[str, Any]) -> str:
    """Name a run after its flow and inputs: the same line means the same run."""
    digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"{flow.removesuffix('.yaml').rpartition('/')[2]}-{digest}"


def _unfinished(flow: str, run_id: str) -> durable.Run:
    if run_id:
        return durable.get_run(run_id)
    prefix = _run_id(flow, {}).rpartition("-")[0] + "-"
    for run in durable.list_runs(workflow="flow"):
        if run.id.startswith(prefix) and run.parent is None and run.status not in ("succeeded", "superseded"):
            return run
    raise FlowError(f"There is no unfinished run of {flow}: nothing to resume, and nothing was executed.")


def _show_plan(flow: Flow, inputs: dict[str, Any]) -> None:
    for step in flow.steps:
        values = {**inputs, **{each.id: f"<{each.id}>" for each in flow.steps}, "item": "<item>"}
        given = " ".join(f"{name}={template.format_map(values)}" for name, template in step.with_.items())
        what = filled(step.run, values) if step.run else f"flow {step.flow} {given}" if step.flow else "checkpoint"
        print(f"{step.id}: {what}")


def _show(outcomes: dict[str, Any]) -> int:
    print(json.dumps(outcomes, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
