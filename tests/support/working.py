"""Workers in this process, for tests that need no runner: what they are started with and waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, update

from engine.domain.states import RunState
from engine.presence import Presence
from engine.settings import Settings
from engine.store.database import Database, Lease
from engine.store.tables import runs
from engine.worker import Advance, Worker
from tests.rows import run_row

FAST = Settings(
    data_dir=Path("/nowhere"),
    heartbeat_seconds=0.2,
    worker_dead_after_seconds=10,
    sweep_seconds=0.2,
    shutdown_drain_seconds=5,
)
ONLY_DOORBELLS = Settings(data_dir=Path("/nowhere"), sweep_seconds=60)


@contextlib.asynccontextmanager
async def working(
    database: Database,
    advance: Advance,
    settings: Settings = FAST,
    only_run: UUID | None = None,
    presence: Presence | None = None,
) -> AsyncIterator[Worker]:
    """Run a worker for the time of the block, and stop it in order."""
    worker = Worker(database, advance, settings=settings, only_run=only_run, presence=presence)
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], object], seconds: float = 40) -> None:
    """Wait until a condition in this process holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def until_state(database: Database, run_id: UUID, state: RunState, seconds: float = 40) -> None:
    """Wait until the run's row shows `state` and no lease."""
    async with asyncio.timeout(seconds):
        while True:
            row = await run_row(database, run_id)
            if row["state"] == state and row["lease_worker"] is None:
                return
            await asyncio.sleep(0.02)


def stops_at_gate(database: Database, advanced: list[UUID] | None = None) -> Advance:
    """Return an `advance` that writes down the run and takes it to a gate."""

    async def advance(lease: Lease) -> None:
        if advanced is not None:
            advanced.append(lease.run_id)
        async with database.fenced(lease) as tx:
            mine = runs.c.run_id == lease.run_id
            await tx.execute(
                update(runs).where(mine).values(state=RunState.AWAITING_APPROVAL, updated_at=func.clock_timestamp())
            )

    return advance
