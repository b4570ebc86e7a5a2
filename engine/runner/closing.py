"""Closing a run that has ended: its report in the data folder and on the branch, its worktree gone.

A crash anywhere here leaves a run that has ended without a report; the next worker, or the next start, closes it again.
"""

import asyncio
import logging
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine.atomic_file import write_file
from engine.domain.errors import DevflowError, Fenced
from engine.domain.events import ReportWritten
from engine.metering import settle_orphans
from engine.runner.report import build_report, report_bytes, report_markdown
from engine.services import Services
from engine.store import jobs, leases, workers
from engine.store.database import Lease
from engine.store.events import append
from engine.store.runs import get_location, get_run, next_waiting, update_run
from engine.store.workers import WorkerIdentity
from engine.workspace import publish
from engine.workspace.git import GitFailed
from engine.workspace.mirror import Mirror
from engine.workspace.push import delete_branch, forget_branch
from engine.workspace.secrets import redact
from engine.workspace.worktree import remove_worktree

_log = logging.getLogger(__name__)
# What is over after a while: the run is closed then, and not without the branch.
_WAITED_OUT = ("database_unavailable", "github_unavailable")

Json = dict[str, Any]


async def close_run(services: Services, lease: Lease) -> None:
    """Write the report of a run that has ended, publish it where that is possible, and remove its worktree.

    A run whose branch is to be discarded has it deleted instead. Raises `github_unavailable` where the branch can be
    reached later only.
    """
    run_id, settings, database = lease.run_id, services.settings, services.database
    async with database.fenced(lease) as tx:
        await settle_orphans(tx, own=True)  # before the report says what the run has cost
    async with database.read() as tx:
        run = await get_run(tx, run_id)
        report = await build_report(tx, run_id)
        location = await get_location(tx, run["repository_id"])
    changed: Json = {}
    mirror: Mirror | None = None
    try:
        remote = await services.remotes.remote(run["repository_id"], location)
        mirror = await Mirror.open(settings.mirrors, run["repository_id"], remote)
        changed = await _settle_branch(mirror, lease, run, report)
    except Exception as error:  # whatever keeps it from the branch, a run that has ended gets its report
        if isinstance(error, Fenced) or getattr(error, "code", "") in _WAITED_OUT:
            raise
        expected = isinstance(error, DevflowError | GitFailed | OSError)
        _log.warning("the branch of run %s is not as it should be: %s", run_id, error, exc_info=not expected)
        what = "branch could not be deleted" if run["discard_branch"] else "report could not be put on the branch"
        report["unresolved"].append(f"the {what}: {redact(str(error))}")
    path = settings.reports / str(run_id)
    await asyncio.to_thread(write_file, path / "report.json", report_bytes(report))
    await asyncio.to_thread(write_file, path / "report.md", report_markdown(report))
    if mirror is not None:
        await _clean_up(mirror, settings.workspaces, run_id, run["branch"])
    async with database.fenced(lease) as tx:
        await update_run(tx, final_report_path=str(path / "report.md"), **changed)
        await append(tx, ReportWritten(path=str(path / "report.md"), commit=changed.get("head_sha")))
        await jobs.forget(tx, run_id)
        if (waiting := await next_waiting(tx, run)) is not None:
            await jobs.ring(tx, waiting["queue"], str(waiting["run_id"]).encode())


async def _settle_branch(mirror: Mirror, lease: Lease, run: RowMapping, report: Json) -> Json:
    """Put the report on the run's branch, or delete the branch; returns what that changes in the run's row."""
    if run["discard_branch"]:
        return await _discard(mirror, lease, run)
    if run["repository_id"] > 0 and run["pushed_sha"] is None:
        return {}  # nobody has ever seen a branch of this run, and a report alone is no reason for one
    await mirror.fetch(run["base_branch"] if run["pushed_sha"] is None else run["branch"], run["head_sha"])
    await _drop_unrecorded(mirror, lease, run)
    folder = f".devflow/runs/{run['run_id']}"
    made = await publish.commit_files(
        mirror,
        run["branch"],
        parent=run["head_sha"],
        message=f"Report: run {run['number']} is {run['state']}",
        trailers=publish.trailers(run["run_id"], "report", lease.epoch),
        files={f"{folder}/report.json": report_bytes(report), f"{folder}/report.md": report_markdown(report)},
    )
    await publish.push(mirror, run["branch"], made, expected=run["pushed_sha"])
    return {"head_sha": made, "pushed_sha": made}


async def _discard(mirror: Mirror, lease: Lease, run: RowMapping) -> Json:
    there = await mirror.head_of_remote(run["branch"])
    if there is not None:
        await mirror.fetch(run["branch"], there)
        await _drop_unrecorded(mirror, lease, run)
        # what a person has pushed meanwhile is not thrown away: then this is a conflict, and the branch stays
        if run["pushed_sha"] is not None:
            await delete_branch(mirror, run["branch"], expected=run["pushed_sha"])
    return {"pushed_sha": None}


async def _drop_unrecorded(mirror: Mirror, lease: Lease, run: RowMapping) -> None:
    await publish.drop_unrecorded(
        mirror,
        run["branch"],
        recorded=run["head_sha"],
        pushed=run["pushed_sha"],
        run_id=run["run_id"],
        epoch=lease.epoch,
    )


async def _clean_up(mirror: Mirror, workspaces: Path, run_id: UUID, branch: str) -> None:
    try:
        await remove_worktree(mirror, workspaces, run_id)
        await forget_branch(mirror, branch)
    except (GitFailed, OSError, CalledProcessError) as error:
        # a file that cannot be deleted must not keep a run that has ended from being closed
        _log.warning("the worktree of run %s stays in %s: %s", run_id, workspaces, error)


async def write_missing_report(services: Services, run_id: UUID, worker: WorkerIdentity) -> None:
    """Close one run that has ended, with a lease of its own; another worker that is about it has precedence."""
    database = services.database
    async with database.transaction() as tx:
        await workers.register(tx, worker)
    try:
        lease = await leases.take(database, run_id, worker.worker_id, services.settings.worker_dead_after_seconds)
        async with database.read() as tx:
            missing = (await get_run(tx, run_id))["final_report_path"] is None
        if missing:  # unless another process was faster
            await close_run(services, lease)
        await leases.hand_back(database, lease, leases.nothing)
    except DevflowError as error:
        if error.code not in ("worker_already_running", "fenced"):
            raise
    finally:
        async with database.transaction() as tx:
            await workers.stop(tx, worker.worker_id)
