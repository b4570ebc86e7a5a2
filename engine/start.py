"""Starting a run: what can be asked for, and the start on a local repository.

Everything that can be wrong is found before a row exists, then one transaction creates all of it. The start on a hosted
repository is in `hosted`, what both prepare in `prepare`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from engine.catalog import Catalog, repository_prefixes
from engine.domain.canonical import content_hash, input_hash
from engine.domain.config import OnConflict
from engine.domain.envelope import FrozenTrigger
from engine.domain.errors import DevflowError
from engine.domain.ids import uuid7
from engine.domain.safe_text import clean_untrusted, strip_hidden
from engine.ports import Remotes
from engine.prepare import Choices, frozen_cassette, insert_run, prepare
from engine.services import Services
from engine.settings import Settings
from engine.store import jobs
from engine.store.runs import NewRun, next_number
from engine.workspace.mirror import Mirror
from engine.workspace.publish import branch_name
from engine.workspace.source import inspect_source, resolve_base

_MAX_TITLE = 200


@dataclass(frozen=True)
class StartRequest(Choices):
    """A run on a local repository, as a person asks for it."""

    repository: Path
    issue_text: str
    by: str
    base: str | None = None
    private_queue: bool = False


@dataclass(frozen=True)
class HostedRepository:
    """A repository of the host: its id there, its URL without any credential, and its default branch."""

    repository_id: int
    location: str
    default_branch: str


@dataclass(frozen=True)
class Trigger:
    """An issue of a hosted repository as it stood when somebody triggered a run.

    `key` is unique in the repository: the same trigger twice is one run. `by` is a login and `by_id` its id.
    """

    issue_number: int
    snapshot: FrozenTrigger
    key: str
    by: str
    by_id: int


@dataclass(frozen=True)
class HostedStart(Choices):
    """A run for an issue of a hosted repository; `on_conflict` None means: as the repository's configuration says.

    `approver_ids` are the ids at the host of those on the configuration's list who have an account, by login.
    """

    repository: HostedRepository
    trigger: Trigger
    on_conflict: OnConflict | None = None
    approver_ids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """What became of a trigger: its run, and whether it is `new` or was there already.

    `waits_for` is the earlier run of the issue that has to be over first, `replaced` one that is being aborted for it.
    """

    run_id: UUID
    new: bool
    waits_for: UUID | None
    replaced: UUID | None
    workflow: str


@dataclass(frozen=True)
class ConsentTarget:
    """A persona, as a repository has it now, that somebody may consent to."""

    repository_id: int
    persona_hash: str
    reasons: str


async def create_run_from(services: Services, request: StartRequest) -> UUID:
    """Create the run that was asked for and ring for it; returns its id. Errors: the first group of the table."""
    title = title_of(request.issue_text)
    cassette = frozen_cassette(request.cassette)
    source = await inspect_source(request.repository)
    base_branch, base_sha = await resolve_base(source, request.base)
    location = str(source.common_dir)
    remote = await services.remotes.remote(source.repository_id, location)
    mirror = await Mirror.open(services.settings.mirrors, source.repository_id, remote)
    await mirror.fetch(base_branch, base_sha)
    prepared = await prepare(services, request, source.repository_id, mirror, base_sha)
    run_id = uuid7()
    metadata = {"requested_by": request.by, "identity": "local", "title": title, "cassette": cassette}
    new = NewRun(
        repository_id=source.repository_id,
        run_id=run_id,
        location=location,
        title=title,
        workflow=prepared.workflow_id,
        template_hash=prepared.template_hash,
        queue=jobs.private_queue(run_id) if request.private_queue else jobs.ADVANCE_RUN,
        base_branch=base_branch,
        base_sha=base_sha,
        head_sha=base_sha,
        options=prepared.options,
        budget_usd=prepared.budget_usd,
        requirements_md=request.issue_text,
        objective=title,
        metadata=metadata,
        model_override=prepared.model_override,
        input_hash=input_hash(request.issue_text, title, metadata, {}),
    )
    async with services.database.transaction() as tx:
        number = await next_number(tx, source.repository_id, location)
        branch = branch_name(number, title, run_id)
        await insert_run(tx, new, prepared, number=number, branch=branch, by=request.by)
    return run_id


async def consent_target(settings: Settings, repository: Path, name: str, remotes: Remotes) -> ConsentTarget:
    """Return the persona `name` as the repository's base commit has it; raises `persona_not_found`."""
    source = await inspect_source(repository)
    base_branch, base_sha = await resolve_base(source, None)
    remote = await remotes.remote(source.repository_id, str(source.common_dir))
    mirror = await Mirror.open(settings.mirrors, source.repository_id, remote)
    await mirror.fetch(base_branch, base_sha)
    catalog = Catalog(await mirror.read_files(base_sha, repository_prefixes()))
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
