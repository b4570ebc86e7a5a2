"""Projections: which runs look different to people from what they are, and who is about to show it.

A run's row here is `dirty` from a change until somebody begins to show it. Changing and claiming lock that row, so a
change during a projection makes it dirty again and none is lost. Runs of no host have no row, and cost nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import Fenced
from engine.store import jobs, workers
from engine.store.database import LockedRun, Transaction
from engine.store.host_tables import projections as table
from engine.store.tables import RUNNABLE, runs
from engine.store.tables import workers as worker_table


async def create(tx: LockedRun) -> None:
    """Have the run shown from now on, and ring; twice is as good as once."""
    statement = insert(table).values(repository_id=tx.repository_id, run_id=tx.run_id).on_conflict_do_nothing()
    if (await tx.execute(statement)).rowcount:
        await _ring(tx, tx.run_id)


async def touch(tx: LockedRun) -> None:
    """Say that the run has changed; rings where that was not known yet, and does nothing for a run without projection.

    What is touched while somebody shows it is shown again afterwards.
    """
    if tx.repository_id <= 0:
        return
    # Locked before it is looked at: a claim that has not committed would still seem dirty, and the change be lost.
    seen = await tx.maybe(select(table.c.dirty).where(table.c.run_id == tx.run_id).with_for_update())
    if seen is None or seen["dirty"]:
        return
    await tx.execute(update(table).where(table.c.run_id == tx.run_id).values(dirty=True))
    await _ring(tx, tx.run_id)


async def get(tx: Transaction, run_id: UUID) -> RowMapping | None:
    """Return the run's projection, or None."""
    return await tx.maybe(select(table).where(table.c.run_id == run_id))


async def claim(
    tx: Transaction, run_id: UUID, worker_id: UUID, now: datetime, dead_after_seconds: float
) -> RowMapping | None:
    """Take a projection in hand; None where nothing has changed, it is not due, or one who lives is about it.

    What changes after this transaction makes it dirty again. A claim of the caller's own is renewed.
    """
    row = await tx.maybe(select(table).where(table.c.run_id == run_id, _open(now)).with_for_update())
    if row is None or await workers.has_other_holder(tx, row["claimed_by"], worker_id, dead_after_seconds):
        return None
    mine = update(table).where(table.c.run_id == run_id)
    return await tx.one(mine.values(dirty=False, claimed_by=worker_id, not_before=None, again_at=None).returning(table))


async def release(
    tx: Transaction,
    run_id: UUID,
    worker_id: UUID,
    again_at: datetime | None = None,
    error: str | None = None,
) -> None:
    """Give a projection back; raises `Fenced` where the claim was lost.

    Without an error, it comes again at `again_at` at the latest, and earlier where the run changes. With one, it comes
    again at `again_at` and not before, whatever changes; where that is None it waits for the next change.
    """
    failed = error is not None
    values: dict[str, Any] = {
        "claimed_by": None,
        "error": error,
        "attempts": table.c.attempts + 1 if failed else 0,
        "not_before": again_at if failed else None,
        "again_at": None if failed else again_at,
    }
    if failed and again_at is not None:
        values["dirty"] = True
    if not failed:
        values["projected_at"] = func.clock_timestamp()
    mine = (table.c.run_id == run_id) & (table.c.claimed_by == worker_id)
    row = await tx.maybe(update(table).where(mine).values(values).returning(table.c.dirty, table.c.not_before))
    if row is None:
        raise Fenced(f"the projection of run {run_id} is in other hands by now")
    if row["dirty"] and row["not_before"] is None:
        # The doorbell of what changed meanwhile may have been answered by one who found it claimed.
        await jobs.ring_unless_queued(tx, jobs.RUN_CHANGED, run_id)


async def hasten(tx: Transaction, run_ids: Sequence[UUID]) -> None:
    """Have runs shown at once that would be shown again later though nothing has gone wrong."""
    put_off = table.c.run_id.in_(run_ids) & table.c.again_at.is_not(None)
    await tx.execute(update(table).where(put_off).values(dirty=True, again_at=None))


async def unfinished_issues(tx: Transaction, repository_id: int) -> list[int]:
    """Return the issues with a run that has not ended, needs a worker, or is not shown as it is."""
    left = or_(text(RUNNABLE), runs.c.ended_at.is_(None), table.c.dirty, table.c.claimed_by.is_not(None))
    statement = (
        select(runs.c.issue_number)
        .select_from(runs.outerjoin(table, table.c.run_id == runs.c.run_id))
        .where(runs.c.repository_id == repository_id, or_(left, table.c.again_at.is_not(None)))
        .distinct()
    )
    return [row["issue_number"] for row in await tx.all(statement) if row["issue_number"] is not None]


async def waiting(
    tx: Transaction, now: datetime, worker_id: UUID, dead_after_seconds: float, limit: int = 100
) -> list[UUID]:
    """Return runs whose projection is due and which `worker_id` may claim: those that failed least often first."""
    statement = (
        select(table.c.run_id, table.c.claimed_by, worker_table)
        .add_columns(workers.alive(dead_after_seconds).label("alive"))
        .select_from(table.outerjoin(worker_table, worker_table.c.worker_id == table.c.claimed_by))
        .where(_open(now), workers.may_be_free(table.c.claimed_by, worker_id, dead_after_seconds))
        .order_by(table.c.attempts, table.c.run_id)
        .limit(limit)
    )
    return [row["run_id"] for row in await tx.all(statement) if workers.is_free(row, worker_id)]


def _open(now: datetime) -> Any:
    something = or_(table.c.dirty, table.c.claimed_by.is_not(None), table.c.again_at <= now)
    return something & or_(table.c.not_before.is_(None), table.c.not_before <= now)


async def _ring(tx: Transaction, run_id: UUID) -> None:
    await jobs.ring(tx, jobs.RUN_CHANGED, str(run_id).encode())
