"""Deliveries of a host: stored before they are answered, handled once, kept for a while.

A delivery is stored without being read, so it belongs to no repository (0) until it is finished. Whoever handles it
claims it first; the claim of a worker that died is free. What the handling decided is stored before it is carried out,
so that a crash in between repeats the second half alone. Times to wait for are given by the caller's clock.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import LargeBinary, RowMapping, Text, bindparam, delete, func, null, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY

from engine.domain.errors import Fenced
from engine.store import jobs, workers
from engine.store.database import Transaction
from engine.store.host_tables import deliveries as table
from engine.store.tables import workers as worker_table

KEEP_DAYS = 30

# Columns as arrays, because a statement with a list of rows would be another one, and compiled anew, for each length.
_STORE = text(
    "INSERT INTO deliveries (repository_id, delivery_id, event, headers, body)"
    " SELECT 0, new.delivery_id, new.event, new.headers::jsonb, new.body"
    " FROM unnest(:delivery_id, :event, :headers, :body) AS new (delivery_id, event, headers, body)"
    " ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id"
).bindparams(
    bindparam("delivery_id", type_=ARRAY(Text)),
    bindparam("event", type_=ARRAY(Text)),
    bindparam("headers", type_=ARRAY(Text)),
    bindparam("body", type_=ARRAY(LargeBinary)),
)

Finished = Literal["handled", "ignored", "unreadable", "failed"]


@dataclass(frozen=True)
class NewDelivery:
    """A delivery as it came in: its GUID, the event's name, the headers worth keeping, and the raw body."""

    delivery_id: str
    event: str
    headers: Mapping[str, str]
    body: bytes


async def store_many(tx: Transaction, new: Sequence[NewDelivery]) -> set[str]:
    """Store deliveries and ring for each that was not known; returns the ids of those."""
    if not new:
        return set()
    # in one order for all, so that two transactions with the same deliveries wait for each other and never in a circle
    ordered = [item for _, item in sorted({item.delivery_id: item for item in reversed(new)}.items())]
    columns = {
        "delivery_id": [item.delivery_id for item in ordered],
        "event": [item.event for item in ordered],
        "headers": [json.dumps(dict(item.headers)) for item in ordered],
        "body": [item.body for item in ordered],
    }
    stored = {str(row["delivery_id"]) for row in (await tx.execute(_STORE, columns)).mappings()}
    # Rung in the order in which they came in, which is the likeliest one in which they happened.
    in_order = dict.fromkeys(item.delivery_id for item in new if item.delivery_id in stored)
    await jobs.ring_many(tx, jobs.HANDLE_DELIVERY, [delivery_id.encode() for delivery_id in in_order])
    return stored


async def get(tx: Transaction, delivery_id: str) -> RowMapping | None:
    """Return a delivery's row, or None."""
    return await tx.maybe(select(table).where(table.c.delivery_id == delivery_id))


async def known(tx: Transaction, delivery_ids: Collection[str]) -> set[str]:
    """Return which of the deliveries are stored."""
    found = select(table.c.delivery_id).where(table.c.delivery_id.in_(list(delivery_ids)))
    return {str(row["delivery_id"]) for row in await tx.all(found)}


async def claim(
    tx: Transaction, delivery_id: str, worker_id: UUID, now: datetime, dead_after_seconds: float
) -> RowMapping | None:
    """Take a delivery in hand and count the attempt; None where it is not due, done, or in hand of one who lives.

    A claim of the caller's own is renewed: a worker does not handle a delivery twice at once.
    """
    waiting = select(table).where(table.c.delivery_id == delivery_id, table.c.state == "received", _due(now))
    row = await tx.maybe(waiting.with_for_update())
    if row is None or await workers.has_other_holder(tx, row["claimed_by"], worker_id, dead_after_seconds):
        return None
    claimed = update(table).where(table.c.delivery_id == delivery_id)
    return await tx.one(claimed.values(claimed_by=worker_id, attempts=table.c.attempts + 1).returning(table))


async def decide(tx: Transaction, delivery_id: str, worker_id: UUID, responses: list[dict[str, Any]]) -> None:
    """Store what is to be answered, before any of it is; raises `Fenced` where the claim was lost."""
    await _change(tx, delivery_id, worker_id, responses=responses)


async def finish(
    tx: Transaction,
    delivery_id: str,
    worker_id: UUID,
    state: Finished,
    outcome: str | None = None,
    repository_id: int = 0,
) -> None:
    """Write down what became of a delivery, in a few words, and of which repository it was; raises `Fenced`."""
    await _change(
        tx,
        delivery_id,
        worker_id,
        state=state,
        outcome=outcome,
        repository_id=repository_id,
        claimed_by=None,
        handled_at=func.clock_timestamp(),
    )


async def postpone(
    tx: Transaction, delivery_id: str, worker_id: UUID, not_before: datetime | None, outcome: str | None = None
) -> None:
    """Put a delivery back until `not_before` (None: at once), with the reason; raises `Fenced`."""
    await _change(tx, delivery_id, worker_id, not_before=not_before, outcome=outcome, claimed_by=None)


async def waiting(
    tx: Transaction, now: datetime, worker_id: UUID, dead_after_seconds: float, limit: int = 100
) -> list[str]:
    """Return deliveries that are due and that `worker_id` may claim: those tried least first, then the oldest."""
    statement = (
        select(table.c.delivery_id, table.c.claimed_by, worker_table)
        .add_columns(workers.alive(dead_after_seconds).label("alive"))
        .select_from(table.outerjoin(worker_table, worker_table.c.worker_id == table.c.claimed_by))
        .where(table.c.state == "received", _due(now))
        .where(workers.may_be_free(table.c.claimed_by, worker_id, dead_after_seconds))
        # What fails again and again must not stand in the way of what has not been tried.
        .order_by(table.c.attempts, table.c.received_at, table.c.delivery_id)
        .limit(limit)
    )
    return [row["delivery_id"] for row in await tx.all(statement) if workers.is_free(row, worker_id)]


async def unfinished(tx: Transaction) -> list[RowMapping]:
    """Return the deliveries that are still to be handled, whoever has them in hand, oldest first."""
    statement = select(table).where(table.c.state == "received")
    return await tx.all(statement.order_by(table.c.received_at, table.c.delivery_id))


async def prune(tx: Transaction, days: float = KEEP_DAYS) -> int:
    """Delete deliveries that were finished `days` ago; returns how many. The host may repeat them for a few days."""
    old = table.c.handled_at < func.clock_timestamp() - timedelta(days=days)
    return (await tx.execute(delete(table).where(table.c.state != "received", old))).rowcount


async def forget_bodies(tx: Transaction) -> None:
    """Empty what finished deliveries brought; that they are known is all that still counts."""
    await tx.execute(update(table).where(table.c.state != "received", table.c.body != b"").values(body=b""))


async def forget_answers(tx: Transaction) -> None:
    """Have what was decided about unfinished deliveries decided again; what was carried out already is found done."""
    await tx.execute(update(table).where(table.c.state == "received").values(responses=null(), not_before=None))


def _due(now: datetime) -> Any:
    return or_(table.c.not_before.is_(None), table.c.not_before <= now)


async def _change(tx: Transaction, delivery_id: str, worker_id: UUID, **values: Any) -> None:
    mine = (table.c.delivery_id == delivery_id) & (table.c.claimed_by == worker_id) & (table.c.state == "received")
    if not (await tx.execute(update(table).where(mine).values(**values))).rowcount:
        raise Fenced(f"delivery {delivery_id} is in other hands by now")
