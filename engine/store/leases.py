"""Leases: which worker may advance a run now, and the epoch that fences off whoever held it before.

Taking and handing back lock the run's row. A hand-back looks for undone work under that lock and a decision is written
under it, so one of the two always sees the other and no wake-up is lost. A worker whose heartbeat is too old, by the
database's clock, loses its leases; one that comes back finds its writes refused by the epoch. Who has to wait for its
turn, and for whom, is in `places`.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, select, text, update

from engine.domain.errors import DevflowError
from engine.domain.states import RunState
from engine.store import places
from engine.store.database import Database, FencedRun, Lease, LockedRun, Transaction
from engine.store.places import Caps, MustWait
from engine.store.runs import ENDED, update_run
from engine.store.tables import RUNNABLE, runs, workers
from engine.store.workers import alive, lives

HasWork = Callable[[FencedRun], Awaitable[bool]]


def needs_worker(run: RowMapping) -> bool:
    """Whether a run's row says that there is something to do: work, a request to stop, or a report to write."""
    state = RunState(run["state"])
    if state.terminal:
        return run["final_report_path"] is None or run["requested_action"] is not None
    return state in (RunState.CREATED, RunState.EXECUTING) or run["requested_action"] is not None


async def undone(tx: FencedRun) -> bool:
    """Whether the leased run still needs a worker; the usual answer to `hand_back`."""
    return needs_worker(tx.row)


async def nothing(tx: FencedRun) -> bool:
    """Say that there is no work, whatever the row says: for a worker that gives up or ends."""
    del tx
    return False


async def take(
    database: Database,
    run_id: UUID,
    worker_id: UUID,
    dead_after_seconds: float,
    queue: str | None = None,
    *,
    caps: Caps | None = None,
    if_needed: bool = False,
) -> Lease:
    """Take the run's lease, with a new epoch; `queue` becomes the one on which decisions ring.

    Raises `run_not_found`, `worker_already_running` where another worker lives and holds it, and `MustWait` where an
    earlier run of its issue is not out of the way, where `caps` leave no place, or, with `if_needed`, where there is
    nothing to do. The caller's own lease is renewed: a worker does not drive a run twice at once.
    """
    async with database.locked(run_id) as tx:
        if tx.row["lease_worker"] != worker_id:
            holder = await live_holder(tx, dead_after_seconds)
            if holder is not None:
                raise DevflowError("worker_already_running", f"run {run_id} is being worked on by {holder}")
        await _check_its_turn(tx, dead_after_seconds, caps, if_needed)
        values: dict[str, Any] = {"lease_worker": worker_id, "epoch": runs.c.epoch + 1}
        if queue is not None:
            values["queue"] = queue
        row = await tx.one(_update(tx).values(values).returning(runs.c.epoch))
        return Lease(tx.repository_id, run_id, worker_id, row["epoch"], taken_over=tx.row["lease_worker"] is not None)


async def hand_back(database: Database, lease: Lease, has_work: HasWork = undone) -> bool:
    """Give the lease up unless `has_work` finds something undone under the row lock; returns whether it was given up.

    Raises `Fenced` where it was lost already.
    """
    async with database.fenced(lease) as tx:
        if await has_work(tx):
            return False
        await tx.execute(_update(tx).values(lease_worker=None))
        return True


async def live_holder(tx: LockedRun, dead_after_seconds: float) -> str | None:
    """Return who holds the locked run's lease, as words for people, or None where nobody does who lives."""
    if tx.row["lease_worker"] is None:
        return None
    holder = await tx.maybe(
        select(
            workers,
            alive(dead_after_seconds).label("alive"),
            func.extract("epoch", func.clock_timestamp() - workers.c.heartbeat_at).label("age"),
        ).where(workers.c.worker_id == tx.row["lease_worker"])
    )
    if holder is None or not lives(holder):
        return None
    return f"process {holder['pid']} on {holder['host']}, last heard of {max(0, int(holder['age']))} s ago"


async def lease_is_live(tx: LockedRun, dead_after_seconds: float) -> bool:
    """Whether a worker that lives holds the locked run's lease."""
    return await live_holder(tx, dead_after_seconds) is not None


async def revoke(tx: LockedRun) -> None:
    """Take the lease from a holder that is taken for dead, so that it is fenced off should it only have been slow."""
    if tx.row["lease_worker"] is not None:
        await update_run(tx, lease_worker=None, epoch=runs.c.epoch + 1)


async def last_heartbeat(tx: Transaction, run_id: UUID) -> datetime | None:
    """Return when the worker that holds the run's lease was last heard of, or None where nobody holds it."""
    row = await tx.maybe(
        select(workers.c.heartbeat_at)
        .select_from(runs.join(workers, workers.c.worker_id == runs.c.lease_worker))
        .where(runs.c.run_id == run_id)
    )
    return row["heartbeat_at"] if row else None


async def runnable(
    tx: Transaction,
    dead_after_seconds: float,
    *,
    only_run: UUID | None = None,
    shared_queue: str | None = None,
    idle_worker: UUID | None = None,
    driven: Collection[UUID] = (),
    caps: Caps | None = None,
    limit: int = 100,
) -> list[UUID]:
    """Return the runs that need a worker, have none that lives and may be taken, in the order of `in_fair_order`.

    With `shared_queue`, a run of another queue counts only when nobody has touched it for `dead_after_seconds`: the
    process that it belongs to comes first. `idle_worker` names a worker that drives the runs `driven` and no others,
    whatever its leases say.
    """
    shown = (runs.c.repository_id, runs.c.run_id, runs.c.state, runs.c.requested_action, runs.c.created_at)
    statement: Select[Any] = (
        select(*shown, runs.c.started_at.label("begun_at"), workers, alive(dead_after_seconds).label("alive"))
        .select_from(runs.outerjoin(workers, workers.c.worker_id == runs.c.lease_worker))
        .where(text(f"({RUNNABLE})"))
        .order_by(runs.c.created_at, runs.c.run_id)
    )
    if only_run is not None:
        statement = statement.where(runs.c.run_id == only_run)
    if driven:
        statement = statement.where(runs.c.run_id.not_in(list(driven)))
    if shared_queue is not None:
        untouched = runs.c.updated_at < func.clock_timestamp() - timedelta(seconds=dead_after_seconds)
        statement = statement.where((runs.c.queue == shared_queue) | untouched)
    free = [row for row in await tx.all(statement) if not lives(row) or row["worker_id"] == idle_worker]
    unbegun = [row["run_id"] for row in free if places.is_to_begin(row["state"], row["begun_at"])]
    waiting = await places.behind_others(tx, unbegun, dead_after_seconds)
    free = [row for row in free if row["run_id"] not in waiting]
    if len(free) <= 1 and caps is None:
        return [row["run_id"] for row in free]  # there is nothing to share out
    taken = await places.driven(tx, dead_after_seconds, leave_out={row["run_id"] for row in free})
    return places.in_fair_order(free, taken, caps, limit)


async def unclosed(tx: Transaction, dead_after_seconds: float, limit: int = 100) -> list[UUID]:
    """Return the runs that have ended and were not closed to the end, oldest first.

    They lack their report, or are still held by a worker that is gone; those of a worker that lives are its own matter.
    """
    statement = (
        select(runs.c.run_id, workers, alive(dead_after_seconds).label("alive"))
        .select_from(runs.outerjoin(workers, workers.c.worker_id == runs.c.lease_worker))
        .where(ENDED, runs.c.final_report_path.is_(None) | runs.c.lease_worker.is_not(None))
        .order_by(runs.c.created_at, runs.c.run_id)
    )
    rows = [row for row in await tx.all(statement) if not lives(row)]
    return [row["run_id"] for row in rows[:limit]]


async def _check_its_turn(tx: LockedRun, dead_after_seconds: float, caps: Caps | None, if_needed: bool) -> None:
    if if_needed and not needs_worker(tx.row):
        raise MustWait(f"run {tx.run_id} needs nobody")
    if places.is_to_begin(tx.row["state"], tx.row["started_at"]) and await places.behind_others(
        tx, [tx.run_id], dead_after_seconds
    ):
        raise MustWait(f"run {tx.run_id} waits for an earlier run of its issue")
    if caps is not None and places.needs_place(tx.row):
        await places.one_at_a_time(tx)
        taken = await places.driven(tx, dead_after_seconds, leave_out=[tx.run_id])
        if not caps.leave_room(tx.repository_id, taken):
            raise MustWait(f"run {tx.run_id} waits for a place: {taken[tx.repository_id]} of its repository are driven")


def _update(tx: LockedRun) -> Any:
    return update(runs).where(runs.c.repository_id == tx.repository_id, runs.c.run_id == tx.run_id)
