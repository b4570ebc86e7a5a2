"""The history of a run: appended under the run's row lock, hash-chained, never changed.

An append costs the same however long the history is: sequence number and predecessor's hash stand in the run's row.
"""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.canonical import canonical_json
from engine.domain.events import Event
from engine.store import projections
from engine.store.database import LockedRun, Transaction
from engine.store.tables import GENESIS_HASH, events, runs


async def append(tx: LockedRun, event: Event) -> bool:
    """Append `event` to the run's history; an event whose key is there already changes nothing and gives False."""
    payload = clean_json(event.payload)
    head = await tx.one(
        select(runs.c.event_seq, runs.c.event_hash, func.clock_timestamp().label("at")).where(
            runs.c.run_id == tx.run_id
        )
    )
    seq = head["event_seq"] + 1
    row = {
        "repository_id": tx.repository_id,
        "run_id": tx.run_id,
        "seq": seq,
        "key": event.key,
        "type": event.type,
        "at": head["at"],
        "phase_key": payload.get("phase_key"),
        "attempt": payload.get("attempt"),
        "payload": payload,
        "prev_hash": head["event_hash"],
    }
    row["hash"] = chain_hash(row)
    added = await tx.execute(
        insert(events)
        .values(row)
        .on_conflict_do_nothing(index_elements=["repository_id", "run_id", "key"])
        .returning(events.c.seq)
    )
    if added.first() is None:
        return False
    await tx.execute(
        update(runs)
        .where(runs.c.run_id == tx.run_id)
        .values(event_seq=seq, event_hash=row["hash"], updated_at=func.clock_timestamp())
    )
    await projections.touch(tx)
    return True


async def history(tx: Transaction, run_id: UUID, after: int = 0) -> list[RowMapping]:
    """Return the events of a run with a sequence number above `after`, in order."""
    return await tx.all(select(events).where(events.c.run_id == run_id, events.c.seq > after).order_by(events.c.seq))


async def of_types(tx: Transaction, run_id: UUID, *types: str) -> list[RowMapping]:
    """Return the events of a run that are of these types, in order."""
    wanted = select(events).where(events.c.run_id == run_id, events.c.type.in_(types))
    return await tx.all(wanted.order_by(events.c.seq))


async def latest(tx: Transaction, run_id: UUID, count: int) -> list[RowMapping]:
    """Return the last `count` events of a run, in order."""
    rows = await tx.all(select(events).where(events.c.run_id == run_id).order_by(events.c.seq.desc()).limit(count))
    return rows[::-1]


def chain_hash(row: dict[str, Any] | RowMapping) -> str:
    """Return SHA-256 (hex) over the event's canonical JSON, which holds its predecessor's hash."""
    at: datetime = row["at"]
    content = {
        "run_id": str(row["run_id"]),
        "seq": row["seq"],
        "key": row["key"],
        "type": row["type"],
        "at_us": round(at.timestamp() * 1_000_000),
        "payload": row["payload"],
        "prev_hash": row["prev_hash"],
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def first_broken_link(rows: list[RowMapping]) -> int | None:
    """Return the sequence number at which the chain of a whole history breaks, or None where it holds."""
    previous = GENESIS_HASH
    for position, row in enumerate(rows, start=1):
        if row["seq"] != position or row["prev_hash"] != previous or row["hash"] != chain_hash(row):
            return position
        previous = row["hash"]
    return None


def clean_json(value: Any) -> Any:
    """Return `value` without what Postgres cannot keep in JSON or text: NUL characters and lone surrogates."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean_json(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value
