"""Allowances: how much an installation may still create at its host, over all processes.

The host counts what was created within the last minute and the last hour, so that is what is counted here. (A token
bucket of the same size would let through almost twice the limit within one span: a full bucket, and what flows in.)
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from engine.store.database import Transaction
from engine.store.host_tables import content_allowances as table

SPANS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
LIMITS = (("minute", 80), ("hour", 500))

_LOCK = text("SELECT pg_advisory_xact_lock(:space, hashint8(:installation_id))")
_LOCK_SPACE = 0x616C6C6F  # any number that no other lock of two numbers uses


async def spend(
    tx: Transaction, installation_id: int, now: datetime, limits: Sequence[tuple[str, int]] = LIMITS
) -> datetime | None:
    """Spend one creation and return None, or spend nothing and return when there is one to spend.

    `limits` are pairs of a span of `SPANS` and how many may be created within it.
    """
    await tx.execute(_LOCK.bindparams(space=_LOCK_SPACE, installation_id=installation_id))
    spans = [(SPANS[name], most) for name, most in limits]
    longest = max(span for span, _ in spans)
    ours = table.c.installation_id == installation_id
    await tx.execute(delete(table).where(ours, table.c.spent_at <= now - longest))
    rows = await tx.all(select(table.c.spent_at, table.c.spends).where(ours).order_by(table.c.spent_at.desc()))
    spent = [(row["spent_at"], int(row["spends"])) for row in rows]
    again = max((_free_at(spent, now, span, most) for span, most in spans), default=now)
    if again > now:
        return again
    spending = insert(table).values(installation_id=installation_id, spent_at=now, spends=1)
    await tx.execute(
        spending.on_conflict_do_update(
            index_elements=["installation_id", "spent_at"], set_={"spends": table.c.spends + 1}
        )
    )
    return None


def _free_at(spent: Sequence[tuple[datetime, int]], now: datetime, span: timedelta, most: int) -> datetime:
    """Return when fewer than `most` of the spendings, newest first, lie within the span; `now` where that is so."""
    within = 0
    for spent_at, count in spent:
        if spent_at <= now - span:
            break
        within += count
        if within >= most:
            return spent_at + span
    return now
