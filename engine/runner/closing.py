"""Closing a run that has ended: its report in the data folder and on the branch, its worktree gone.

A crash anywhere here leaves a run that has ended without a report; the next worker, or the next start, closes it again.
"""

import asyncio
import logging
from pathlib import Path
from subprocess import CalledProcessError
from uuid import UUID

from engine.atomic_file import write_file
from engine.domain.errors import DevflowError, Fenced
from engine.domain.events import ReportWritten
from engine.metering import settle_orphans
from engine.runner.report import build_report, report_bytes, report_markdown
from engine.services import Services
from engine.store import jobs, leases, workers
from engine.store.database import Lease
from engine.store.events import append
from engine.store.runs import get_location, get_run, update_run
from engine.store.workers import WorkerIdentity
from engine.workspace import publish
from engine.workspace.git import GitFailed
from engine.workspace.mirror import Mirror
from engine.workspace.push import forget_branch
from engine.workspace.secrets import redact
from engine.workspace.worktree import remove_worktree

_log = logging.getLogger(__name__)


async def close_run(services: Services, lease: Lease) -> None:
    """Write the report of a run that has ended, publish it where that is possible, and remove its worktree."""
    run_id, settings, database = lease.run_id, services.settings, services.database
    async with database.fenced(lease) as tx:
        await settle_orphans(tx, own=True)  # before the report says what the run has cost
    async with database.read() as tx:
        run = await get_run(tx, run_id)
        report = await build_report(tx, run_id)
        location = await get_location(tx, run["repository_id"])
    commit: str | None = None
    mirror: Mirror | None = None
    try:
        remote = await services.remotes.remote(run["repository_id"], location)
        mirror = await Mirror.open(settings.mirrors, run["repository_id"], remote)
        await mirror.fetch(run["base_branch"] if run["pushed_sha"] is None else run["branch"], run["head_sha"])
        await publish.drop_unrecorded(
            mirror, run["branch"], recorded=run["head_sha"], pushed=run["pushed_sha"], run_id=run_id, epoch=lease.epoch
        )
        folder = f".devflow/runs/{run_id}"
        made = await publish.commit_files(
            mirror,
            run["branch"],
            parent=run["head_sha"],
            message=f"Report: run {run['number']} is {run['state']}",
            trailers=publish.trailers(run_id, "report", lease.epoch),
            files={f"{folder}/report.json": report_bytes(report), f"{folder}/report.md": report_markdown(report)},
        )
        await publish.push(mirror, run["branch"], made, expected=run["pushed_sha"])
        commit = made
    except Exception as error:  # whatever keeps it from the branch, a run that has ended gets its report
        if isinstance(error, Fenced) or getattr(error, "code", "") == "database_unavailable":
            raise
        expected = isinstance(error, DevflowError | GitFailed | OSError)
        _log.warning("the report of run %s is not on its branch: %s", run_id, error, exc_info=not expected)
        report["unresolved"].append(f"the report could not be put on the branch: {redact(str(error))}")
    path = settings.reports / str(run_id)
    await asyncio.to_thread(write_file, path / "report.json", report_bytes(report))
    await asyncio.to_thread(write_file, path / "report.md", report_markdown(report))
    if mirror is not None:
        await _clean_up(mirror, settings.workspaces, run_id, run["branch"])
    async with database.fenced(lease) as tx:
        values = {} if commit is None else {"head_sha": commit, "pushed_sha": commit}
        await update_run(tx, final_report_path=str(path / "report.md"), **values)
        await append(tx, ReportWritten(path=str(path / "report.md"), commit=commit))
        await jobs.forget(tx, run_id)


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
