"""Rows that tests of the store need and nobody's flow has made."""

import dataclasses
import subprocess
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.ids import uuid7
from engine.domain.states import RunState
from engine.store import catalog_rows, jobs
from engine.store.database import Database
from engine.store.tables import repositories, runs, workers
from engine.store.workers import WorkerIdentity, register

REPOSITORY_ID = -1
TEMPLATE_BODY = '{"name":"test"}'
TEMPLATE_HASH = sha256(TEMPLATE_BODY.encode()).hexdigest()


async def add_run(database: Database, state: RunState = RunState.EXECUTING, **values: Any) -> UUID:
    """Insert a run in `state`, with whatever it must refer to; returns its id."""
    run_id = uuid7()
    repository_id = values.get("repository_id", REPOSITORY_ID)
    async with database.transaction() as tx:
        await catalog_rows.put_template(tx, repository_id, TEMPLATE_HASH, "test", 1, TEMPLATE_BODY)
        repository = {"repository_id": repository_id, "location": "/nowhere", "next_run_number": 2}
        number = await tx.one(
            insert(repositories)
            .values(repository)
            .on_conflict_do_update(
                index_elements=["repository_id"], set_={"next_run_number": repositories.c.next_run_number + 1}
            )
            .returning(repositories.c.next_run_number)
        )
        defaults = {
            "repository_id": repository_id,
            "run_id": run_id,
            "number": number["next_run_number"],
            "issue_number": number["next_run_number"],
            "title": "a run",
            "workflow": "test@1",
            "template_hash": TEMPLATE_HASH,
            "state": state,
            "paused_from_state": RunState.EXECUTING if state is RunState.PAUSED else None,
            "queue": jobs.ADVANCE_RUN,
            "branch": "devflow/1-a-run",
            "base_branch": "main",
            "base_sha": "0" * 40,
            "head_sha": "0" * 40,
            "options": {},
        }
        await tx.execute(insert(runs).values(**defaults | values))
    return run_id


async def add_worker(database: Database, **values: Any) -> WorkerIdentity:
    """Register a worker that says that it is this process, but for `values`."""
    worker = dataclasses.replace(WorkerIdentity.of_this_process(), **values)
    async with database.transaction() as tx:
        await register(tx, worker)
    return worker


async def add_dead_worker(database: Database) -> WorkerIdentity:
    """Register a worker whose process on this machine has ended, without a word."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return await add_worker(database, pid=ended.pid)


async def run_row(database: Database, run_id: UUID) -> RowMapping:
    """Return a run's row."""
    async with database.transaction() as tx:
        return await tx.one(select(runs).where(runs.c.run_id == run_id))


async def age_worker(database: Database, worker_id: UUID, seconds: float) -> None:
    """Step the clock for one worker: its last heartbeat is `seconds` older than it was."""
    async with database.transaction() as tx:
        older = workers.c.heartbeat_at - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        await tx.execute(update(workers).where(workers.c.worker_id == worker_id).values(heartbeat_at=older))


async def queued(database: Database) -> list[tuple[str, bytes]]:
    """Return queue and payload of each job that waits, oldest first."""
    async with database.transaction() as tx:
        rows = await tx.execute(text("SELECT entrypoint, payload FROM pgqueuer WHERE status = 'queued' ORDER BY id"))
        return [(row[0], row[1]) for row in rows]
