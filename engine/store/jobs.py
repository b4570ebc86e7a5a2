"""Doorbells: PgQueuer jobs that tell somebody to look at a row, enqueued in the transaction that gave it work.

A job names a run or a delivery and nothing else. It may come twice, late or never: the row says what there is to do,
and whoever hears a queue also sweeps for rows that nobody looks at.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.queries import Queries
from sqlalchemy import text

from engine.store.database import LockedRun, Transaction, translated_errors

ADVANCE_RUN = "advance_run"
HANDLE_DELIVERY = "handle_delivery"
RUN_CHANGED = "run_changed"

# Spelled out, because PgQueuer would read names as common as CHANNEL and FUNCTION from the environment.
QUEUE_SETTINGS = DBSettings.model_construct(
    prefix="",
    db_schema=None,
    channel=Channel("ch_pgqueuer"),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
    durability=Durability.durable,
    widen_id=True,
)


def private_queue(run_id: UUID) -> str:
    """Return the queue of a run that one process drives by itself."""
    return f"{ADVANCE_RUN}:{run_id}"


def queries(connection: "asyncpg.Connection[asyncpg.Record]", driver: type[AsyncpgDriver] = AsyncpgDriver) -> Queries:
    """Return PgQueuer's queries on a connection, with the names that our migration gave its tables."""
    return Queries(
        driver(connection),
        qbe=QueryBuilderEnvironment(QUEUE_SETTINGS),
        qbq=QueryQueueBuilder(QUEUE_SETTINGS),
        qbs=QuerySchedulerBuilder(QUEUE_SETTINGS),
    )


async def ring(tx: Transaction, queue: str, payload: bytes) -> None:
    """Enqueue a job that comes to be if, and only if, the transaction commits."""
    await ring_many(tx, queue, [payload])


async def ring_many(tx: Transaction, queue: str, payloads: Sequence[bytes]) -> None:
    """Enqueue a job a payload, in one statement; they come to be if, and only if, the transaction commits."""
    if not payloads:
        return
    # SQLAlchemy begins the transaction with the first statement that it sends itself; before that, the driver's own
    # connection would commit the job at once.
    raw = (await tx.connection.get_raw_connection()).driver_connection
    if isinstance(raw, asyncpg.Connection) and not raw.is_in_transaction():
        await tx.execute(text("SELECT 1"))
    if not isinstance(raw, asyncpg.Connection) or not raw.is_in_transaction():
        raise RuntimeError("a job must be enqueued inside the transaction that calls for it")
    with translated_errors():
        await queries(raw).enqueue([queue] * len(payloads), list(payloads), [0] * len(payloads))


async def ring_run(tx: LockedRun) -> None:
    """Ring for the locked run on the queue of whoever drives it."""
    await ring(tx, tx.row["queue"], str(tx.run_id).encode())


async def ring_unless_queued(tx: Transaction, queue: str, run_id: UUID) -> None:
    """Ring for a run unless a doorbell for it is waiting in that queue already."""
    payload = str(run_id).encode()
    waiting = text(
        "SELECT 1 FROM pgqueuer WHERE entrypoint = :queue AND payload = :payload AND status = 'queued' LIMIT 1"
    )
    if (await tx.execute(waiting.bindparams(queue=queue, payload=payload))).first() is None:
        await ring(tx, queue, payload)


async def forget(tx: Transaction, run_id: UUID) -> None:
    """Delete the doorbells that call a worker to the run, from whichever queue, and that nobody has taken yet.

    Those that say that the run has changed stay: its end is still to be shown.
    """
    statement = text(
        "DELETE FROM pgqueuer WHERE entrypoint IN (:shared, :private) AND payload = :payload AND status = 'queued'"
    )
    await tx.execute(
        statement.bindparams(shared=ADVANCE_RUN, private=private_queue(run_id), payload=str(run_id).encode())
    )


async def prune(tx: Transaction) -> None:
    """Delete what PgQueuer has logged and is older than a day; it logs three rows a job."""
    await tx.execute(text("DELETE FROM pgqueuer_log WHERE created < now() - interval '1 day'"))
