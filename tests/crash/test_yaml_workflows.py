"""Flows in YAML on top of the library: killed and resumed, checked before anything is executed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import LIMIT, until

if TYPE_CHECKING:
    from tests.crash.scenes import Scene

_ROOT = Path(__file__).parents[2]
_RUN = _ROOT / "examples" / "yaml_workflows" / "run.py"
_AGENT = """#!/bin/sh
echo "$*" >> "$LEDGER"
case "$*" in
    "$STUCK"*) echo > "$REACHED"; exec sleep 60;;
    "$FAILS"*) exit 1;;
esac
echo "$1 done"
"""
IMPLEMENT = [
    "plan login",
    "write plan done",
    "lint login",
    "types login False",
    "test login",
    "review login correctness 1",
    "review login security 1",
    "review login clarity 1",
    "verdict login",
    "announce login write done",
]


class Flows:
    """Runs flows over one store, with an agent that notes what it is asked to do."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._agent = scene.folder / "agent"
        self._agent.write_text(_AGENT)
        self._agent.chmod(0o700)
        self._reached = scene.folder / "reached"

    @property
    def ledger(self) -> list[str]:
        return self._scene.ledger

    def _environment(self, stuck: str, fails: str) -> dict[str, str]:
        mine = {"AGENT": str(self._agent), "STUCK": stuck, "FAILS": fails, "REACHED": str(self._reached)}
        return {**os.environ, **self._scene.environ(**mine), "PYTHONPATH": str(_ROOT)}

    def __call__(self, *arguments: str, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(_RUN), *arguments],
            env=self._environment("nothing", fails),
            cwd=self._scene.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def kill(self, at: str, *arguments: str) -> None:
        """Run a flow and kill it, with all that it started, when the agent is asked for this."""
        flow = subprocess.Popen(
            [sys.executable, str(_RUN), *arguments],
            env=self._environment(at, "nothing"),
            cwd=self._scene.folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self._reached.exists() or flow.poll() is not None)
        assert flow.poll() is None, "it ended before"
        os.killpg(flow.pid, signal.SIGKILL)
        flow.wait()
        self._reached.unlink()


@pytest.fixture
def flows(scene: Scene) -> Flows:
    """Flows over an empty store."""
    return Flows(scene)


@pytest.mark.parametrize("at", ["write", "test", "review login security"])
def test_a_flow_that_was_killed_goes_on(flows: Flows, at: str) -> None:
    """Killed in the middle of a step, of a flow that it calls or of one of its items, `implement` goes on there: with the
    same line, or with --resume and nothing else. What was finished is not repeated."""
    line = ("implement", "feature=login", "tests=False")
    flows.kill(at, *line)
    before = len(flows.ledger)
    done = flows("implement", "--resume") if at == "test" else flows(*line)
    assert done.returncode == 0, done.stderr
    assert flows.ledger[:before] + flows.ledger[before + 1 :] == IMPLEMENT
    assert flows.ledger[before - 1] == flows.ledger[before]
    again = flows(*line)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert len(flows.ledger) == len(IMPLEMENT) + 1


@pytest.mark.parametrize(("flow", "at"), [("validate", "types"), ("review", "review login clarity")])
def test_each_built_in_flow_goes_on(flows: Flows, flow: str, at: str) -> None:
    """`validate` and `review` go on where they were killed, too."""
    flows.kill(at, flow, "subject=login")
    assert flows(flow, "--resume").returncode == 0
    assert len(flows.ledger) == len(set(flows.ledger)) + 1


def test_a_flow_is_begun_anew(flows: Flows) -> None:
    """--fresh executes all of it again, and --resume with other inputs than the run has is refused."""
    for options in ((), ("--fresh",)):
        assert flows("validate", "subject=a", *options).returncode == 0
    assert len(flows.ledger) == 6
    assert flows("validate", "subject=b", fails="test").returncode == 1
    refused = flows("validate", "subject=c", "--resume")
    assert (refused.returncode, "other inputs" in refused.stderr) == (2, True)
    assert [line for line in flows.ledger if line.endswith("c")] == []


def test_a_flow_that_fails_undoes_its_steps(flows: Flows) -> None:
    """A step fails: what has an undo command is undone, with its result."""
    failed = flows("implement", "feature=login", fails="test")
    assert failed.returncode == 1, failed.stderr
    assert flows.ledger[-1] == "forget plan done"
    assert flows.ledger.count("test login") == 2


WRONG = {
    "missing input": (("implement",), "needs the input 'feature'"),
    "unknown input": (("implement", "featur=x"), "Did you mean 'feature'"),
    "wrong type": (("implement", "feature=x", "tests=maybe"), "not of type bool"),
    "not an input": (("implement", "feature"), "name=value"),
    "unknown flow": (("implment",), "Did you mean 'implement'"),
    "nothing to resume": (("validate", "--resume"), "nothing was executed"),
    "unknown run": (("validate", "--resume", "nope"), "no run 'nope'"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_inputs_are_checked_before_anything_is_executed(flows: Flows, arguments: tuple[str, ...], message: str) -> None:
    """Inputs that are missing, unknown or of another type are an error, and so is resuming what is not there."""
    done = flows(*arguments)
    assert (done.returncode, message in done.stderr, flows.ledger) == (2, True, []), done.stderr


BROKEN = {
    "cycle of steps": ("[{id: a, run: 'echo {b}', needs: []}, {id: b, run: 'echo {a}'}]", "in a circle"),
    "cycle of flows": ("[{id: a, flow: broken.yaml}]", "in a circle"),
    "unknown step": ("[{id: a, run: 'echo {plam}'}]", "names 'plam'"),
    "unknown need": ("[{id: a, run: echo, needs: [c]}]", "names 'c'"),
    "unknown key": ("[{id: a, rum: echo, checkpoint: a}]", "Did you mean 'run'"),
    "unknown flow": ("[{id: a, flow: revue}]", "Did you mean 'review'"),
    "flow without its input": ("[{id: a, flow: review}]", "needs the input 'subject'"),
    "flow with another input": ("[{id: a, flow: review, with: {subjct: x}}]", "Did you mean 'subject'"),
    "same name twice": ("[{id: a, run: echo}, {id: a, run: echo}]", "given twice"),
    "nothing to do": ("[{id: a}]", "one of run, flow and checkpoint"),
    "wrong number": ("[{id: a, run: echo, attempts: many}]", "step 'a'"),
    "no steps": ("5", "no list of steps"),
    "no YAML": ("[", "not YAML"),
}


@pytest.mark.parametrize(("steps", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_flows_are_checked_before_anything_is_executed(flows: Flows, scene: Scene, steps: str, message: str) -> None:
    """A flow with cycles, unknown names or parts that it cannot have is an error that says where."""
    (scene.folder / "broken.yaml").write_text(f"name: broken\nsteps: {steps}\n")
    done = flows("broken.yaml", "--validate")
    assert (done.returncode, message in done.stderr, flows.ledger) == (2, True, []), done.stderr


def test_what_would_be_executed(flows: Flows, scene: Scene) -> None:
    """--dry-run, --list-steps and --validate execute and write nothing; inputs are typed, and defaults filled in."""
    listed = flows("implement", "--list-steps")
    assert [line.partition(":")[0] for line in listed.stdout.splitlines()][:4] == ["plan", "planned", "code", "written"]
    planned = flows("implement", "feature=a b", "tests=False", "--dry-run")
    assert "plan: ${AGENT:-echo} plan 'a b'" in planned.stdout.splitlines()
    assert "validate: flow validate subject=a b strict=False" in planned.stdout.splitlines()
    assert "review: flow review subject=a b rounds=1" in planned.stdout.splitlines()
    assert flows("implement", "feature=a", "--validate").returncode == 0
    assert flows.ledger == []
    assert not scene.db.exists()


def test_the_machine_is_checked(flows: Flows, scene: Scene) -> None:
    """A command that a flow needs and the machine does not have is an error that says what to do, before anything else."""
    (scene.folder / "needy.yaml").write_text(
        "preflight: [{command: no-such-tool, remedy: Install it.}]\nsteps: [{id: a, run: '${{AGENT:-echo}} x'}]\n"
    )
    done = flows("needy.yaml")
    assert (done.returncode, flows.ledger) == (2, [])
    assert "'no-such-tool'. Install it." in done.stderr
