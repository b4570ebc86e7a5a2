"""What a worker needs to know of a run before it touches it: all of it frozen at the start, checked by hash."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine.domain.envelope import FrozenTrigger
from engine.domain.errors import DevflowError
from engine.domain.persona import Persona
from engine.domain.workflow import PhaseSpec, Workflow
from engine.store import catalog_rows
from engine.store.database import Database, Transaction
from engine.store.runs import get_bindings, get_inputs, get_run


@dataclass(frozen=True)
class Role:
    """Who fills a role in this run."""

    id: str
    persona: Persona
    persona_hash: str
    backend: str
    model: str


@dataclass(frozen=True)
class Plan:
    """One run's frozen part. `options` are the JSON values that were stored with the run."""

    run_id: UUID
    repository_id: int
    number: int
    issue_number: int
    title: str
    branch: str
    base_branch: str
    base_sha: str
    workflow: Workflow
    template_hash: str
    roles: dict[str, Role]
    inputs: RowMapping
    options: dict[str, Any]

    @property
    def trigger(self) -> FrozenTrigger:
        """The issue as it stood at the start: with its comments where the run's repository is hosted."""
        metadata = self.inputs["metadata"]
        if "trigger" in metadata:
            return FrozenTrigger.from_json(metadata["trigger"])
        author = metadata.get("requested_by", "")
        return FrozenTrigger(title=self.title, body=self.inputs["requirements_md"], author=author)

    def role_of(self, phase: PhaseSpec) -> Role:
        """Return who does the phase; raises `run_metadata_missing`."""
        role = self.roles.get(phase.role)
        if role is None:
            raise DevflowError("run_metadata_missing", f"no persona is bound to role {phase.role}")
        return role

    def schema(self, schema_id: str) -> dict[str, Any]:
        """Return a frozen artifact schema; raises `run_metadata_missing`."""
        return stored_schema(self.options, schema_id)


def stored_schema(options: dict[str, Any], schema_id: str) -> dict[str, Any]:
    """Return an artifact schema from a run's options, its keys in the file's order; raises `run_metadata_missing`."""
    text = options["schemas"].get(schema_id)
    if text is None:
        raise DevflowError("run_metadata_missing", f"schema {schema_id} is not stored with the run")
    schema: dict[str, Any] = json.loads(text)
    return schema


async def load_workflow(tx: Transaction, run: RowMapping) -> Workflow:
    """Return the run's workflow as it was at the start; raises `template_load_failed`."""
    body = await catalog_rows.load_template(tx, run["repository_id"], run["template_hash"])
    return Workflow.model_validate_json(body)


async def load_plan(database: Database, run_id: UUID) -> Plan:
    """Return the frozen part of a run; raises `template_load_failed` or `run_metadata_missing`."""
    async with database.read() as tx:
        run = await get_run(tx, run_id)
        workflow = await load_workflow(tx, run)
        roles = {}
        for row in await get_bindings(tx, run_id):
            body = await catalog_rows.load_persona(tx, run["repository_id"], row["persona_hash"])
            persona = Persona.model_validate_json(body)
            roles[row["role"]] = Role(row["role"], persona, row["persona_hash"], row["backend"], row["model"])
        return Plan(
            run_id=run_id,
            repository_id=run["repository_id"],
            number=run["number"],
            issue_number=run["issue_number"],
            title=run["title"],
            branch=run["branch"],
            base_branch=run["base_branch"],
            base_sha=run["base_sha"],
            workflow=workflow,
            template_hash=run["template_hash"],
            roles=roles,
            inputs=await get_inputs(tx, run_id),
            options=run["options"],
        )
