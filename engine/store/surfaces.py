"""Surfaces: what people see of a run, by a key of our own, and what the host calls it.

A creation is written down before it is tried (`begin`) and after (`record`). So a row with `attempted_at` and without
`external_id` is a creation whose end nobody knows, and is looked for at the host before it is tried again.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select, update
from sqlalchemy import delete as deletion
from sqlalchemy.dialects.postgresql import insert

from engine.store.database import Transaction
from engine.store.host_tables import surfaces as table


async def get(tx: Transaction, repository_id: int, surface_key: str, *, lock: bool = False) -> RowMapping | None:
    """Return a surface's row, or None; with `lock`, nobody else changes it before the transaction ends."""
    statement = select(table).where(_is(repository_id, surface_key))
    return await tx.maybe(statement.with_for_update() if lock else statement)


async def of_run(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return the surfaces of a run, by key."""
    return await tx.all(select(table).where(table.c.run_id == run_id).order_by(table.c.surface_key))


async def any_of_repository(tx: Transaction, repository_id: int) -> bool:
    """Tell whether anything of a repository is shown, or was tried to be."""
    return (
        await tx.maybe(select(table.c.surface_key).where(table.c.repository_id == repository_id).limit(1)) is not None
    )


async def find_by_external(tx: Transaction, repository_id: int, kind: str, external_id: str) -> RowMapping | None:
    """Return the surface that the host knows by this id, the one shown last where there are several, or None."""
    named = (table.c.repository_id == repository_id) & (table.c.kind == kind) & (table.c.external_id == external_id)
    ordered = select(table).where(named).order_by(table.c.applied_at.desc().nulls_last(), table.c.surface_key)
    return await tx.maybe(ordered.limit(1))


async def begin(
    tx: Transaction,
    repository_id: int,
    surface_key: str,
    *,
    run_id: UUID | None,
    kind: str,
    target: dict[str, Any],
    at: datetime,
) -> None:
    """Write down that a creation is about to be tried; commit this before the host is called."""
    values = {"run_id": run_id, "kind": kind, "target": target, "attempted_at": at}
    await _put(tx, repository_id, surface_key, values)


async def record(
    tx: Transaction,
    repository_id: int,
    surface_key: str,
    *,
    run_id: UUID | None,
    kind: str,
    target: dict[str, Any],
    external_id: str,
    external_at: datetime | None,
    content_hash: str | None,
    at: datetime,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write down what is shown now and what the host calls it.

    `external_at` is the host's time of the creation, `facts` replaces what was remembered (None: it stays).
    """
    values: dict[str, Any] = {
        "run_id": run_id,
        "kind": kind,
        "target": target,
        "external_id": external_id,
        "external_at": external_at,
        "content_hash": content_hash,
        "attempted_at": None,
        "applied_at": at,
    }
    if facts is not None:
        values["facts"] = facts
    await _put(tx, repository_id, surface_key, values)


async def note(
    tx: Transaction,
    repository_id: int,
    surface_key: str,
    *,
    run_id: UUID,
    kind: str,
    target: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    """Remember something that is to be shown with others, and has nothing at the host by this key."""
    await _put(tx, repository_id, surface_key, {"run_id": run_id, "kind": kind, "target": target, "facts": facts})


async def withdraw(tx: Transaction, repository_id: int, surface_key: str) -> None:
    """Write down that the creation which was about to be tried has made nothing."""
    await tx.execute(update(table).where(_is(repository_id, surface_key)).values(attempted_at=None))


async def remember(tx: Transaction, repository_id: int, surface_key: str, facts: dict[str, Any]) -> None:
    """Replace what is remembered of a surface; what is shown has not changed."""
    await tx.execute(update(table).where(_is(repository_id, surface_key)).values(facts=facts))


async def unsettle(tx: Transaction, repository_id: int, surface_key: str, facts: dict[str, Any]) -> None:
    """Write down that the host no longer shows what was recorded, so that it is shown anew."""
    await tx.execute(update(table).where(_is(repository_id, surface_key)).values(content_hash=None, facts=facts))


async def delete(tx: Transaction, repository_id: int, surface_key: str) -> None:
    """Delete a surface's row: the host does not show it any more."""
    await tx.execute(deletion(table).where(_is(repository_id, surface_key)))


async def _put(tx: Transaction, repository_id: int, surface_key: str, values: dict[str, Any]) -> None:
    statement = insert(table).values(repository_id=repository_id, surface_key=surface_key, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["repository_id", "surface_key"], set_=values))


def _is(repository_id: int, surface_key: str) -> Any:
    return (table.c.repository_id == repository_id) & (table.c.surface_key == surface_key)
