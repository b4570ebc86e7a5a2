"""Starting a run: everything that can be wrong is found before a row exists, then one transaction creates all of it."""

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from engine import models
from engine.agents.replay_agent import parse_cassette
from engine.catalog import REPOSITORY_PREFIXES, Catalog
from engine.consents import Consents
from engine.domain.binding import Binding, bind
from engine.domain.canonical import canonical_body, canonical_json, content_hash, sha256_hex
from engine.domain.config import Check, RepositoryConfig, checks_of, detect_checks, with_extra_checks
from engine.domain.errors import DevflowError
from engine.domain.events import PhaseSkipped, RunCreated
from engine.domain.ids import uuid7
from engine.domain.persona import Persona
from engine.domain.safe_text import clean_untrusted, strip_hidden
from engine.domain.states import PhaseState, RunState
from engine.domain.workflow import Workflow
from engine.ports import Remotes
from engine.runner.plan import load_plan
from engine.services import Services
from engine.settings import Settings
from engine.store import catalog_rows, jobs, phases
from engine.store.database import LockedRun
from engine.store.events import append
from engine.store.runs import NewRun, create_run, get_bindings, get_inputs, get_location, next_number
from engine.store.tables import bindings
from engine.workspace import sandbox
from engine.workspace.mirror import Mirror
from engine.workspace.publish import branch_name
from engine.workspace.source import Source, inspect_source, resolve_base

_MAX_TITLE = 200


@dataclass(frozen=True)
class StartRequest:
    """What a person asks for; None means: as the repository's files, the settings or the built-in files say."""

    repository: Path
    issue_text: str
    by: str
    workflow: str | None = None
    base: str | None = None
    personas: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    budget_usd: Decimal | None = None
    checks: list[str] = field(default_factory=list)
    sandbox: str | None = None
    cassette: tuple[str, bytes] | None = None
    private_queue: bool = False


@dataclass(frozen=True)
class ConsentTarget:
    """A persona, as a repository has it now, that somebody may consent to."""

    repository_id: int
    persona_hash: str
    reasons: str


async def create_run_from(services: Services, request: StartRequest) -> UUID:
    """Create the run that was asked for and ring for it; returns its id. Errors: the first group of the table."""
    title = title_of(request.issue_text)
    cassette = _cassette(request.cassette)
    source = await inspect_source(request.repository)
    base_branch, base_sha = await resolve_base(source, request.base)
    remote = await services.remotes.remote(source.repository_id, str(source.common_dir))
    mirror = await Mirror.open(services.settings.mirrors, source.repository_id, remote)
    await mirror.fetch(base_branch, base_sha)
    catalog = Catalog(await mirror.read_files(base_sha, REPOSITORY_PREFIXES))
    config = catalog.config()
    workflow = catalog.workflow(request.workflow or config.workflow)
    known_checks, detected = await _checks(mirror, base_sha, config, request.checks)
    for phase in workflow.phases:
        checks_of(phase, known_checks)
    schemas = catalog.schemas_of(workflow)
    bound, personas = await _bind(services, request, source, catalog, config, workflow)
    budget = request.budget_usd or config.budget_usd or workflow.budget_usd or services.settings.budget_usd
    await models.check_models(services.settings, bound, budget, config.prices)
    sandbox_mode = request.sandbox or services.settings.sandbox
    await sandbox.choose(sandbox_mode, sandbox.Toolchain.detect(services.settings.toolchain_paths))
    run_id = uuid7()
    options: dict[str, Any] = {
        "sandbox": sandbox_mode,
        "checks": {name: check.model_dump(mode="json") for name, check in known_checks.items()},
        "checks_detected": detected,
        "required_approvals": config.required_approvals or 1,
        "setup": list(config.setup if config.setup is not None else workflow.setup),
        # as text, because the database does not keep the order of an object's keys, and people read in that order
        "schemas": {schema_id: json.dumps(schema) for schema_id, schema in schemas.items()},
        "prices": {name: price.model_dump(mode="json") for name, price in config.prices.items()},
    }
    metadata = {"requested_by": request.by, "identity": "local", "title": title, "cassette": cassette}
    inputs = {"requirements_md": request.issue_text, "objective": title, "metadata": metadata, "extra": {}}
    template_body = canonical_body(workflow)
    new = NewRun(
        repository_id=source.repository_id,
        run_id=run_id,
        location=str(source.common_dir),
        title=title,
        workflow=f"{workflow.name}@{workflow.version}",
        template_hash=sha256_hex(template_body.encode()),
        queue=jobs.private_queue(run_id) if request.private_queue else jobs.ADVANCE_RUN,
        base_branch=base_branch,
        base_sha=base_sha,
        head_sha=base_sha,
        options=options,
        budget_usd=budget,
        requirements_md=request.issue_text,
        objective=title,
        metadata=metadata,
        model_override=request.model or services.settings.model,
        input_hash=sha256_hex(canonical_json(inputs).encode()),
    )
    async with services.database.transaction() as tx:
        number = await next_number(tx, source.repository_id, new.location)
        await catalog_rows.put_template(
            tx, source.repository_id, new.template_hash, workflow.name, workflow.version, template_body
        )
        for persona in personas:
            await catalog_rows.put_persona(
                tx,
                source.repository_id,
                content_hash(persona),
                persona.name,
                persona.version,
                canonical_body(persona),
            )
        run = await create_run(tx, new, number, branch_name(number, title, run_id))
        await _write_bindings(run, [vars(binding) for binding in bound])
        await phases.create_phases(run, [phase.key for phase in workflow.phases])
        await append(run, _created(new, request.by))
        await jobs.ring_run(run)
    return run_id


async def create_retry(services: Services, run_id: UUID, by: str) -> UUID:
    """Create a run that adopts the completed phases, bindings and work of one that failed or was aborted."""
    plan = await load_plan(services.database, run_id)
    new_id = uuid7()
    async with services.database.locked(run_id) as tx:
        old = tx.row
        state = RunState(old["state"])
        if state not in (RunState.FAILED, RunState.ABORTED):
            hint = (
                "start a new one with `devflow run`"
                if state is RunState.COMPLETED
                else "continue it with `devflow resume RUN`"
            )
            raise DevflowError(
                "illegal_transition",
                f"the run is {state}; only a failed or aborted one can be retried",
                recovery_hint=hint,
            )
        done = [row for row in await phases.list_phases(tx, run_id) if row["state"] == PhaseState.COMPLETED]
        head = next((row["commit_sha"] for row in reversed(done) if row["commit_sha"]), old["base_sha"])
        inputs = await get_inputs(tx, run_id)
        private = old["queue"] != jobs.ADVANCE_RUN
        location = await get_location(tx, old["repository_id"])
        new = NewRun(
            repository_id=old["repository_id"],
            run_id=new_id,
            location=location,
            title=old["title"],
            workflow=old["workflow"],
            template_hash=old["template_hash"],
            queue=jobs.private_queue(new_id) if private else jobs.ADVANCE_RUN,
            base_branch=old["base_branch"],
            base_sha=old["base_sha"],
            head_sha=head,
            options=old["options"],
            budget_usd=old["budget_usd"],
            requirements_md=inputs["requirements_md"],
            objective=inputs["objective"],
            metadata=inputs["metadata"],
            extra=inputs["extra"],
            model_override=inputs["model_override"],
            input_hash=inputs["input_hash"],
            retry_of=run_id,
        )
        number = await next_number(tx, old["repository_id"], location)
        run = await create_run(tx, new, number, branch_name(number, old["title"], new_id))
        rows = [dict(row) for row in await get_bindings(tx, run_id)]
        await _write_bindings(run, rows)
        await phases.create_phases(run, [phase.key for phase in plan.workflow.phases])
        await append(run, _created(new, by))
        for row in done:
            await phases.adopt_phase(run, run_id, row)
            await append(run, PhaseSkipped(phase_key=row["phase_key"], reason=f"adopted from run {run_id}", number=0))
        await jobs.ring_run(run)
    return new_id


async def consent_target(settings: Settings, repository: Path, name: str, remotes: Remotes) -> ConsentTarget:
    """Return the persona `name` as the repository's base commit has it; raises `persona_not_found`."""
    source = await inspect_source(repository)
    base_branch, base_sha = await resolve_base(source, None)
    remote = await remotes.remote(source.repository_id, str(source.common_dir))
    mirror = await Mirror.open(settings.mirrors, source.repository_id, remote)
    await mirror.fetch(base_branch, base_sha)
    catalog = Catalog(await mirror.read_files(base_sha, REPOSITORY_PREFIXES))
    persona = catalog.persona(name)
    reasons = "it asks for none" if persona.consent is None else ", ".join(persona.consent.reasons)
    return ConsentTarget(source.repository_id, content_hash(persona), reasons)


def title_of(issue_text: str) -> str:
    """Return the issue's title: its first Markdown heading, else its first line; raises `issue_invalid`."""
    lines = [" ".join(strip_hidden(line).split()) for line in clean_untrusted(issue_text).splitlines()]
    headings = (match[1] for line in lines if (match := re.fullmatch(r"#{1,6} (.+?)(?: #+)?", line)))
    title = next(headings, None) or next((line for line in lines if line), "")
    if not title:
        raise DevflowError("issue_invalid", "the issue has no text that a person could see")
    return title[:_MAX_TITLE]


def _cassette(cassette: tuple[str, bytes] | None) -> dict[str, str] | None:
    if cassette is None:
        return None
    parse_cassette(cassette[1], cassette[0])
    # the text is kept with the run, so that it can be resumed where the file is gone
    return {"name": cassette[0], "body": cassette[1].decode()}


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
    request: StartRequest,
    source: Source,
    catalog: Catalog,
    config: RepositoryConfig,
    workflow: Workflow,
) -> tuple[list[Binding], list[Persona]]:
    personas = catalog.personas()
    bound = bind(
        workflow,
        personas,
        available=models.availability(services.settings, request.cassette),
        defaults={} if request.cassette else config.personas,
        overrides=request.personas,
        model=request.model or services.settings.model,
        served_models=await models.served_models(services.settings, request.cassette),
        consents=await Consents(services.database).granted(source.repository_id),
    )
    names = {binding.persona_name for binding in bound}
    return bound, [persona for persona in personas if persona.name in names]


async def _write_bindings(run: LockedRun, rows: list[dict[str, Any]]) -> None:
    place = {"repository_id": run.repository_id, "run_id": run.run_id}
    await run.execute(insert(bindings).values([row | place for row in rows]))


def _created(new: NewRun, by: str) -> RunCreated:
    return RunCreated(
        workflow=new.workflow,
        template_hash=new.template_hash,
        input_hash=new.input_hash,
        base_sha=new.base_sha,
        by=by,
    )
