"""The start of a run for an issue of a hosted repository: one run a trigger, and what a second trigger does.

Step of a label or command on its way from the host's handler to the worker. Everything that can be wrong is found
before a row exists; then one transaction, in which the repository's row is held, looks for the runs that are there
already, stops them where the policy says so, and creates the new one.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine import control
from engine.domain.canonical import input_hash
from engine.domain.config import OnConflict, RepositoryConfig
from engine.domain.errors import DevflowError
from engine.domain.ids import short_id, uuid7
from engine.domain.safe_text import clean_untrusted, strip_hidden
from engine.domain.states import RunState
from engine.prepare import Prepared, frozen_cassette, insert_run, prepare
from engine.services import Services
from engine.start import HostedRepository, HostedStart, Started, Trigger, title_of
from engine.store import jobs, projections, runs
from engine.store.database import Transaction, lock_run
from engine.store.events import clean_json
from engine.store.runs import NewRun
from engine.workspace.mirror import Mirror
from engine.workspace.publish import branch_name
from engine.workspace.source import refuse_nested

_MAX_TITLE = 200


async def create_hosted_run(services: Services, start: HostedStart) -> Started:
    """Create the run of a trigger and ring for it, unless the trigger has its run already.

    Errors: the first group of the table, and `run_in_flight` where another run of the issue is live and the policy is
    to reject.
    """
    repository, trigger = start.repository, start.trigger
    async with services.database.read() as tx:
        known = await runs.find_by_trigger(tx, repository.repository_id, trigger.key)
        if known is not None:
            return await _started(tx, known, new=False)
    title = hosted_title(trigger)
    cassette = frozen_cassette(start.cassette)
    remote = await services.remotes.remote(repository.repository_id, repository.location)
    mirror = await Mirror.open(services.settings.mirrors, repository.repository_id, remote)
    base_sha = await _head_of_default_branch(mirror, repository)
    await refuse_nested(mirror.git, repository.default_branch, base_sha)
    prepared = await prepare(services, start, repository.repository_id, mirror, base_sha)
    metadata: dict[str, Any] = {
        "requested_by": trigger.by,
        "requested_by_id": trigger.by_id,
        "approver_ids": {login.casefold(): user_id for login, user_id in start.approver_ids.items()},
        "identity": "github",
        "title": title,
        "cassette": cassette,
        "trigger": clean_json(trigger.snapshot.to_json()),
    }
    new = _new_run(start, prepared, title, base_sha, metadata)
    policy = OnConflict(start.on_conflict or prepared.config.on_conflict)
    async with services.database.transaction() as tx:
        await runs.lock_repository(tx, repository.repository_id, repository.location)
        known = await runs.find_by_trigger(tx, repository.repository_id, trigger.key)
        if known is not None:
            return await _started(tx, known, new=False)
        replaced = await _make_way(services, tx, start, policy)
        number = await runs.next_number(tx, repository.repository_id, repository.location)
        branch = branch_name(trigger.issue_number, title, new.run_id)
        run = await insert_run(tx, new, prepared, number=number, branch=branch, by=trigger.by)
        await projections.create(run)
        return await _started(tx, run.row, new=True, replaced=replaced)


def hosted_title(trigger: Trigger) -> str:
    """Return the issue's title as a person sees it, else the first line of its body; raises `issue_invalid`."""
    title = " ".join(strip_hidden(clean_untrusted(trigger.snapshot.title)).split())
    return title[:_MAX_TITLE] or title_of(trigger.snapshot.body)


def taken_over(by: str) -> str:
    """Return the note of a run that ends because `by` has triggered another one of its issue."""
    return f"{by} started the issue anew"


def frozen_rules(config: RepositoryConfig) -> dict[str, Any]:
    """Return the repository's rules on who may steer a run and how, as they are frozen with it."""
    return {
        "approvers": list(config.approvers),
        "requester_may_approve": config.requester_may_approve,
        "publish_trigger": True,
        "commands": str(config.commands),
        "abort_on_unlabel": config.abort_on_unlabel,
    }


def frozen_approvers(options: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return which account each login on a run's list of approvers was when the run was started, by the login in
    lower case.

    Logins that nobody had are left out; a run of an earlier version has none.
    """
    ids = metadata.get("approver_ids")
    names = {str(name).casefold() for name in options.get("approvers", ())}
    found = ids if isinstance(ids, dict) else {}
    return {name: found[name] for name in sorted(names) if type(found.get(name)) is int}


def run_in_flight(live: RowMapping) -> DevflowError:
    """Return the refusal of a start while `live` is in flight for the same issue."""
    where = f"run {live['number']} ({short_id(live['run_id'])})"
    return DevflowError(
        "run_in_flight",
        f"{where} of this issue is {live['state']}",
        recovery_hint="wait until it has ended, or abort it and try again",
        details={"run_id": str(live["run_id"]), "number": live["number"], "state": live["state"]},
    )


def _new_run(start: HostedStart, prepared: Prepared, title: str, base_sha: str, metadata: dict[str, Any]) -> NewRun:
    body = clean_json(start.trigger.snapshot.body)
    return NewRun(
        repository_id=start.repository.repository_id,
        run_id=uuid7(),
        location=start.repository.location,
        title=title,
        workflow=prepared.workflow_id,
        template_hash=prepared.template_hash,
        queue=jobs.ADVANCE_RUN,
        base_branch=start.repository.default_branch,
        base_sha=base_sha,
        head_sha=base_sha,
        options=prepared.options | frozen_rules(prepared.config),
        budget_usd=prepared.budget_usd,
        requirements_md=body,
        objective=title,
        metadata=metadata,
        model_override=prepared.model_override,
        input_hash=input_hash(body, title, metadata, {}),
        issue_number=start.trigger.issue_number,
        trigger_key=start.trigger.key,
    )


async def _head_of_default_branch(mirror: Mirror, repository: HostedRepository) -> str:
    head = await mirror.head_of_remote(repository.default_branch)
    if head is None:
        raise DevflowError(
            "base_not_found",
            f"the default branch {repository.default_branch!r} has no commit",
            recovery_hint="make a first commit on it, then try again",
        )
    return await mirror.fetch(repository.default_branch, head)


async def _make_way(services: Services, tx: Transaction, start: HostedStart, policy: OnConflict) -> UUID | None:
    """Do what the policy says to the live runs of the issue; returns the first one that is being aborted."""
    trigger = start.trigger
    live = await runs.live_of_issue(tx, start.repository.repository_id, trigger.issue_number)
    if not live or policy is OnConflict.QUEUE:
        return None
    if policy is OnConflict.REJECT:
        raise run_in_flight(live[0])
    replaced: UUID | None = None
    for row in sorted(live, key=lambda row: int(row["number"])):
        old = await lock_run(tx, row["run_id"])
        if RunState(old.row["state"]).terminal:
            continue  # it ended before its row was locked
        if policy is OnConflict.ROLLBACK:
            await runs.update_run(old, discard_branch=True)
        await control.end_run(old, services.settings, trigger.by, taken_over(trigger.by))
        if replaced is None or row["run_id"] == live[0]["run_id"]:
            replaced = row["run_id"]
    return replaced


async def _started(tx: Transaction, run: RowMapping, *, new: bool, replaced: UUID | None = None) -> Started:
    ahead = await runs.waits_for(tx, run)
    return Started(
        run_id=run["run_id"],
        new=new,
        waits_for=None if ahead is None else ahead["run_id"],
        replaced=replaced,
        workflow=run["workflow"],
    )
