"""Appending an event: the same cost after 10 events and after 20,000."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, text, update

from bench.stage import Figure, Step, engine, medians, start_run, workflow_repository
from engine.domain.events import PhaseSkipped
from engine.store.database import Database
from engine.store.events import append
from engine.store.tables import events, runs

HISTORIES = (10, 1_000, 20_000)
SAMPLES = 100


async def measure(folder: Path) -> list[Figure]:
    """Return the time of a transaction that appends one event, by the length of the history before it."""
    repository = workflow_repository(folder / "repository", 1)
    async with engine(folder) as opened:
        steps = []
        for length in HISTORIES:
            run_id = await start_run(opened, repository, 1)
            await _fill(opened.database, run_id, length)
            steps.append(_appending(opened.database, run_id))
        taken = await medians(steps, SAMPLES)
    named = zip(HISTORIES, taken, [None, *[taken[0]] * len(taken)], strict=False)
    return [Figure(f"append an event after {length:,}", seconds, SAMPLES, bare) for length, seconds, bare in named]


def _appending(database: Database, run_id: UUID) -> Step:
    numbers = itertools.count(1)

    async def append_one() -> None:
        async with database.locked(run_id) as tx:
            await append(tx, PhaseSkipped(phase_key="p0", reason="measured", number=next(numbers)))

    return append_one


async def _fill(database: Database, run_id: UUID, length: int) -> None:
    """Make the history so long with rows that only take up room."""
    async with database.locked(run_id) as tx:
        first = tx.row["event_seq"] + 1
        rows = [
            {
                "repository_id": tx.repository_id,
                "run_id": run_id,
                "seq": seq,
                "key": f"fill:{seq}",
                "type": "phase.skipped",
                "at": datetime.now(UTC),
                "payload": {"phase_key": "p0", "reason": "filled", "number": seq},
                "prev_hash": "0" * 64,
                "hash": "0" * 64,
            }
            for seq in range(first, length + 1)
        ]
        if rows:
            await tx.execute(insert(events), rows)
            await tx.execute(update(runs).where(runs.c.run_id == run_id).values(event_seq=length))
    async with database.transaction() as tx:
        await tx.execute(text("ANALYZE"))
