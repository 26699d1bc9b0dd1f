"""Which run a call of a workflow asks for: the same workflow with the same inputs means the same run."""

from __future__ import annotations

import json
import os
import socket
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from durable.declarations import registry
from durable.declarations.loading import stop_before_calls
from durable.declarations.naming import check_run_id, module_name, script_path, started_module
from durable.declarations.programs import is_another, program_digest
from durable.errors import ConfigurationError, CorruptRecordError, InputsChangedError
from durable.identity.calls import Call
from durable.identity.labels import escape
from durable.identity.namesakes import refuse_foreign_run
from durable.identity.run_inputs import warn_of_inputs_without_value
from durable.identity.secrets_of_calls import holds_secrets, secret_texts
from durable.identity.step_keys import content_digest
from durable.options import ABSENT
from durable.records import RunRecord, RunStatus, StepQuery
from durable.runs import sessions
from durable.telling import notices
from durable.values.serializers import Unserializable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.declarations.definitions import WorkflowDefinition
    from durable.runs.execution import Body, Execution
    from durable.runs.sessions import Session

_INPUTS = "(inputs)"
_SHOWN_NAME = 200  # characters


class RunCall:
    """One call of a workflow: which run it asks for, and with which inputs.

    `execution` is the one that it has begun; `succeeded_at` is when the run did if it is executed again to be replayed.
    """

    def __init__(
        self,
        workflow: WorkflowDefinition,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        parent: Body | None = None,
    ) -> None:
        if parent is None:
            stop_before_calls()
        self.parent = parent
        self.is_block = workflow.is_block
        self.session: Session = sessions.current() if parent is None else parent.execution.session
        self.workflow = workflow = workflow.at(self.session.anchor)
        self.switches = sessions.switches()
        self.execution: Execution | None = None
        self.succeeded_at: float | None = None
        self.context = workflow.context
        if parent is not None and self.context is ABSENT:
            self.context = parent.execution.context
        self._call = Call(workflow, instance, args, kwargs)
        self.digests = self._call.digests()
        self.lineage = self._identify()
        self.inputs = None if self.is_block else self._store_inputs()

    def _identify(self) -> str:
        workflow, parent = self.workflow, self.parent
        if workflow.exact_run_id is not None:
            return workflow.exact_run_id
        if workflow.run_id is not None:
            return self._format(workflow.run_id)
        if parent is not None:
            digest = content_digest(parent.execution.id.encode(), parent.idempotency_key.encode())
            ids = [implicit_id(title, digest) for title in (workflow.title, *workflow.former_titles)]
        else:
            warn_of_inputs_without_value(self._call)
            ids = [implicit_id(workflow.title, self._call.content)]
            for title, label in workflow.former_titles.items():
                ids.append(implicit_id(title, self._call.content_under(label)))
        known = (name for name in ids if self.session.store.load_run(name) is not None)
        return ids[0] if len(ids) == 1 else next(known, ids[0])

    def _format(self, template: str) -> str:
        try:
            return check_run_id(template.format_map(self._call.values))
        except Exception as error:
            raise ConfigurationError(
                f"Workflow {self.workflow.full_name!r} was not executed: its run_id={template!r} names no run for this call: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _store_inputs(self) -> bytes | None:
        try:
            given = self._call.args, self._call.kwargs
            inputs = self.session.serializer.encode(given, run=self.lineage, step=_INPUTS)
        except Unserializable:
            return None
        if holds_secrets(self._call):
            return self.session.serializer.lock(inputs, run=self.lineage, step=_INPUTS)
        return inputs

    @property
    def secrets(self) -> list[str]:
        """Inputs that are named like credentials: no text that is recorded may hold them."""
        return secret_texts(self._call.arguments)

    def tell_resumed(self, run: RunRecord, steps: int, now: float) -> None:
        """Tell people that the run goes on, which was left with so many steps."""
        notices.tell_resumed(run, run.status, steps, now)

    def means(self, run_id: str) -> bool:
        """Whether a run is one of those that this call asks for."""
        return run_id == self.lineage or run_id.startswith(f"{self.lineage}~")

    def has_begun(self, run: RunRecord) -> bool:
        """Whether a run is the one that this step of the parent began when it was executed before."""
        parent = self.parent
        return parent is not None and (run.parent_run, run.parent_step) == (parent.execution.id, parent.step_key)

    def entry(self) -> str:
        """Say, as JSON, how to import the workflow again and which inputs are missing."""
        function = self.workflow.plain
        missing = []
        if self.inputs is None and not self.is_block:
            for name, value in self._call.values.items():
                try:
                    self.session.serializer.encode(value, run="", step="")
                except Unserializable:
                    missing.append(name)
        return json.dumps(
            {
                "module": module_name(function),
                "qualname": getattr(function, "__qualname__", None),
                "path": script_path(function),
                **({"started": started} if (started := started_module(function)) is not None else {}),
                "missing": missing,
                "self": self._call.instance is not None,
                "block": self.is_block,
                "context": self.context is not ABSENT,
                **self.budget_entry(),
                **({"patched": registry.patched} if registry.patched else {}),
                **({"code": self.workflow.code_hex} if self.workflow.is_anonymous else {}),
                **({"program": program} if (program := program_digest(self.workflow)) is not None else {}),
            }
        )

    def budget_entry(self) -> dict[str, str | None]:
        """Say which budget was given for this run alone, in dollars, so that the run has it wherever it is resumed."""
        budget = self.workflow.budget
        return {"budget": None if budget is None else str(budget)} if self.workflow.has_own_budget else {}

    def check_inputs(self, run: RunRecord) -> None:
        """Refuse a run that was started with other inputs, or by another function of the same name."""
        try:
            texts = (run.entry, run.arguments, run.outcome)  # the last is read later, when the run is claimed
            entry, recorded, _ = (dict(json.loads(text or "{}")) for text in texts)
        except (ValueError, TypeError) as error:
            raise CorruptRecordError(
                f"The record of run {run.id!r} cannot be read: {error}. Nothing was executed. Restore the store from a backup, "
                f"or begin again with DURABLE_FRESH=1."
            ) from error
        refuse_foreign_run(self.workflow, run.id, entry.get("code"))
        if not self._is_named and is_another(entry.get("program"), program_digest(self.workflow)):
            raise InputsChangedError(
                f"Run {run.id} was recorded by another program that had no file either (python -c, or standard input), and "
                f"such programs cannot be told apart by their names. Nothing was executed. Put the program into a file, give "
                f"the workflow a name=, or start anew with {notices.fresh_way()}."
            )
        if recorded == self.digests or (self.is_block and not self.digests):
            self.check_patches(run, entry.get("patched", ()))
            return
        changed = sorted(name for name in {*recorded, *self.digests} if recorded.get(name) != self.digests.get(name))
        raise InputsChangedError(
            f"Run {run.id} was started with other inputs: {', '.join(map(repr, changed))} differ. Nothing was executed. "
            f"Call it with the recorded inputs, or choose another run id, or start anew with {notices.fresh_way()}."
        )

    def check_patches(self, run: RunRecord, begun: Iterable[str]) -> None:
        """Refuse to execute as plain code what was recorded as tasks because it was patched when the run was begun."""
        lacking = [name for name in begun if name not in registry.patched]
        if not lacking or self.is_block or run.status == RunStatus.SUCCEEDED:
            return
        labels = self.session.store.step_tasks(run.id, StepQuery())
        if any(registry.is_gone(label, self.session.anchor) for label in labels):
            raise InputsChangedError(
                f"Run {run.id} was begun in a program that had patched {', '.join(lacking)}, which this one has not: what is "
                f"recorded of it would be executed again as plain code. Nothing was executed. Patch it first, with "
                f"durable.patch({lacking[0]!r}), resume the run with: {notices.shell_command('resume', run.id)}, or start "
                f"anew with {notices.fresh_way()}."
            )

    @property
    def _is_named(self) -> bool:
        """Whether the caller says which run is meant."""
        return self.workflow.run_id is not None or self.workflow.exact_run_id is not None

    def new_run(self, run_id: str, now: float) -> RunRecord:
        """Make the record of a new run that this process owns."""
        parent = self.parent
        return RunRecord(
            id=run_id,
            workflow=self.workflow.full_name,
            status=RunStatus.RUNNING,
            epoch=1,
            owner=self.session.store.owner,
            created_at=now,
            updated_at=now,
            host=socket.gethostname(),
            pid=os.getpid(),
            parent_run=parent.execution.id if parent is not None else None,
            parent_step=parent.step_key if parent is not None else None,
            entry=self.entry(),
            inputs=self.inputs,
            arguments=json.dumps(self.digests).encode(),
            lineage=self.lineage,
        )


def own_budget(entry: dict[str, Any]) -> Decimal | None:
    """Read the budget that was given for a run alone."""
    budget = entry["budget"]
    return None if budget is None else Decimal(budget)


def implicit_id(title: str, digest: bytes) -> str:
    """Make the id of a run that nobody named: readable, and its own for each workflow, version and inputs."""
    return f"{escape(title)[:_SHOWN_NAME]}-{digest.hex()[:16]}"


def sealed_inputs(session: Session, run: RunRecord, lineage: str) -> bytes | None:
    """Give the stored arguments of a run as those of another one."""
    if run.inputs is None:
        return None
    inputs = session.fetch(run.inputs, run=run.lineage, step=_INPUTS)
    unsealed = session.serializer.unseal(inputs, run=run.lineage, step=_INPUTS)
    return session.serializer.seal(unsealed, run=lineage, step=_INPUTS)


def stored_inputs(session: Session, run: RunRecord) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the stored arguments of a run."""
    assert run.inputs is not None
    inputs = session.fetch(run.inputs, run=run.lineage, step=_INPUTS)
    stored: Any = session.serializer.decode(inputs, run=run.lineage, step=_INPUTS)
    args, kwargs = stored
    return args, kwargs
