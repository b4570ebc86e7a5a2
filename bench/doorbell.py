"""From a decision to work: how long after a run was given something to do a worker holds its lease and begins."""

import asyncio
import statistics
import time
from pathlib import Path

from bench.stage import Figure, engine, start_run, workflow_repository
from engine import lifecycle
from engine.domain.states import RunState
from engine.store.database import Lease
from engine.store.runs import set_state
from engine.worker import Worker

SAMPLES = 100


async def measure(folder: Path) -> list[Figure]:
    """Return the time from the call that resumes a run to the worker's first step with the lease in its hand."""
    repository = workflow_repository(folder / "repository", 1)
    async with engine(folder) as opened:
        database = opened.database
        began = asyncio.Event()
        heard = 0.0

        async def advance(lease: Lease) -> None:
            nonlocal heard
            heard = time.perf_counter()
            async with database.fenced(lease) as tx:
                if tx.row["state"] == RunState.CREATED:
                    await set_state(tx, RunState.EXECUTING)
                await lifecycle.pause_run(tx, "paused_by_person", "measured")
            began.set()

        run_id = await start_run(opened, repository, 1)
        stop = asyncio.Event()
        worker = asyncio.create_task(
            Worker(database, advance, settings=opened.settings, only_run=run_id).run(stop), name="worker"
        )
        taken = []
        for _ in range(SAMPLES + 1):
            await began.wait()
            while (await opened.row(run_id))["lease_worker"] is not None:  # noqa: ASYNC110 - the row is the event
                await asyncio.sleep(0.005)
            began.clear()
            rang = time.perf_counter()
            async with database.locked(run_id) as tx:
                await lifecycle.resume_run(tx, "measured")
            await began.wait()
            taken.append(heard - rang)
        stop.set()
        await worker
    return [Figure("from resume to work: commit, doorbell, lease", statistics.median(taken[1:]), SAMPLES)]
