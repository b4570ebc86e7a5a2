"""What a run goes by, read from one commit and checked before a row exists: files, personas, models, sandbox.

Second step of a start. The local and the hosted start find the repository and the commit in their own ways and come
together here; `insert_run` then writes what was prepared, in their transaction.
"""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy.dialects.postgresql import insert

from engine import models
from engine.agents.replay_agent import parse_cassette
from engine.catalog import Catalog, repository_prefixes
from engine.consents import Consents
from engine.domain.binding import Binding, bind
from engine.domain.canonical import canonical_body, content_hash, sha256_hex
from engine.domain.config import Check, RepositoryConfig, checks_of, detect_checks, with_extra_checks
from engine.domain.events import RunCreated
from engine.domain.persona import Persona
from engine.domain.workflow import Workflow
from engine.services import Services
from engine.store import catalog_rows, jobs, phases
from engine.store.database import LockedRun, Transaction
from engine.store.events import append
from engine.store.runs import NewRun, create_run
from engine.store.tables import bindings
from engine.workspace import sandbox
from engine.workspace.mirror import Mirror

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may be chosen for a run; None means: as the repository's files, the settings or the built-in files say."""

    workflow: str | None = None
    personas: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    budget_usd: Decimal | None = None
    checks: list[str] = field(default_factory=list)
    sandbox: str | None = None
    cassette: tuple[str, bytes] | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything that a run goes by; `options` are the plain JSON values that are frozen with it."""

    config: RepositoryConfig
    workflow: Workflow
    bound: list[Binding]
    personas: list[Persona]
    budget_usd: Decimal | None
    model_override: str | None
    options: Json

    @property
    def workflow_id(self) -> str:
        """The workflow's name and version, such as `development@1`."""
        return f"{self.workflow.name}@{self.workflow.version}"

    @property
    def template_hash(self) -> str:
        """The hash under which the workflow is stored."""
        return sha256_hex(canonical_body(self.workflow).encode())


@dataclass(frozen=True)
class Definitions:
    """What the files of one commit say about a run: nothing of the machine, the settings or the moment is in here."""

    config: RepositoryConfig
    workflow: Workflow
    personas: list[Persona]
    options: Json

    @property
    def template_hash(self) -> str:
        """The hash under which the workflow is stored."""
        return sha256_hex(canonical_body(self.workflow).encode())

    @property
    def budget_usd(self) -> Decimal | None:
        """The cap that the files set, or None."""
        return self.config.budget_usd or self.workflow.budget_usd


async def read_definitions(
    mirror: Mirror, base_sha: str, workflow: str | None, checks: list[str], config_path: str
) -> Definitions:
    """Return what the commit says about a run of a workflow (None: the configuration's), with these further checks.

    Errors: those of the first group of the table that are about files.
    """
    catalog = Catalog(await mirror.read_files(base_sha, repository_prefixes(config_path)), config_path=config_path)
    config = catalog.config()
    template = catalog.workflow(workflow or config.workflow)
    known_checks, detected = await _checks(mirror, base_sha, config, checks)
    for phase in template.phases:
        checks_of(phase, known_checks)
    options: Json = {
        "checks": {name: check.model_dump(mode="json") for name, check in known_checks.items()},
        "checks_detected": detected,
        "required_approvals": config.required_approvals or 1,
        "setup": list(config.setup if config.setup is not None else template.setup),
        # as text, because the database does not keep the order of an object's keys, and people read in that order
        "schemas": {schema_id: json.dumps(schema) for schema_id, schema in catalog.schemas_of(template).items()},
        "prices": {name: price.model_dump(mode="json") for name, price in config.prices.items()},
    }
    return Definitions(config, template, catalog.personas(), options)


async def prepare(services: Services, choices: Choices, repository_id: int, mirror: Mirror, base_sha: str) -> Prepared:
    """Return what a run on `base_sha` goes by. Errors: the first group of the table, from `workflow_not_found` on."""
    path = services.settings.config_path
    found = await read_definitions(mirror, base_sha, choices.workflow, choices.checks, path)
    config = found.config
    bound, personas = await _bind(services, choices, repository_id, found)
    budget = choices.budget_usd or found.budget_usd or services.settings.budget_usd
    await models.check_models(services.settings, bound, budget, config.prices)
    sandbox_mode = choices.sandbox or services.settings.sandbox
    await sandbox.choose(sandbox_mode, sandbox.Toolchain.detect(services.settings.toolchain_paths))
    return Prepared(
        config=config,
        workflow=found.workflow,
        bound=bound,
        personas=personas,
        budget_usd=budget,
        model_override=choices.model or services.settings.model,
        options={"sandbox": sandbox_mode, **found.options},
    )


def frozen_cassette(cassette: tuple[str, bytes] | None) -> dict[str, str] | None:
    """Return a cassette as it is kept with the run, so that it can be resumed where the file is gone."""
    if cassette is None:
        return None
    parse_cassette(cassette[1], cassette[0])
    return {"name": cassette[0], "body": cassette[1].decode()}


async def insert_run(
    tx: Transaction, new: NewRun, prepared: Prepared, *, number: int, branch: str, by: str
) -> LockedRun:
    """Insert a new run with everything that it goes by, and ring for it; returns it locked."""
    template = prepared.workflow
    await catalog_rows.put_template(
        tx, new.repository_id, new.template_hash, template.name, template.version, canonical_body(template)
    )
    for persona in prepared.personas:
        key, body = content_hash(persona), canonical_body(persona)
        await catalog_rows.put_persona(tx, new.repository_id, key, persona.name, persona.version, body)
    run = await create_run(tx, new, number, branch)
    await write_bindings(run, [vars(binding) for binding in prepared.bound])
    await phases.create_phases(run, [phase.key for phase in template.phases])
    await append(run, run_created(new, by))
    await jobs.ring_run(run)
    return run


async def write_bindings(run: LockedRun, rows: list[Json]) -> None:
    """Write which persona fills which role of the run."""
    place = {"repository_id": run.repository_id, "run_id": run.run_id}
    await run.execute(insert(bindings).values([row | place for row in rows]))


def run_created(new: NewRun, by: str) -> RunCreated:
    """Return the first event of a run."""
    return RunCreated(
        workflow=new.workflow,
        template_hash=new.template_hash,
        input_hash=new.input_hash,
        base_sha=new.base_sha,
        by=by,
    )


async def _checks(
    mirror: Mirror, base_sha: str, config: RepositoryConfig, extra: list[str]
) -> tuple[dict[str, Check], bool]:
    """Return the checks of the run by name, and whether they were detected rather than configured."""
    if config.checks is not None:
        return with_extra_checks(config.checks, extra), False
    names = await mirror.list_root(base_sha)
    contents = await mirror.read_files(base_sha, names)
    found = detect_checks(names, contents.get)
    return with_extra_checks(found, extra), bool(found)


async def _bind(
    services: Services,
    choices: Choices,
    repository_id: int,
    found: Definitions,
) -> tuple[list[Binding], list[Persona]]:
    bound = bind(
        found.workflow,
        found.personas,
        available=models.availability(services.settings, choices.cassette),
        defaults={} if choices.cassette else found.config.personas,
        overrides=choices.personas,
        model=choices.model or services.settings.model,
        served_models=await models.served_models(services.settings, choices.cassette),
        consents=await Consents(services.database).granted(repository_id),
    )
    names = {binding.persona_name for binding in bound}
    return bound, [persona for persona in found.personas if persona.name in names]
