"""The repositories of a host: by which installation, under which name, and whether they are still there.

A repository is known by its number; its name may change, and only deliveries and answers of the host say how it is
called now.
"""

from sqlalchemy import RowMapping, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.store.database import Transaction
from engine.store.host_tables import hosted_repositories as table


async def put(tx: Transaction, repository_id: int, installation_id: int, full_name: str, default_branch: str) -> None:
    """Write down what the host calls the repository now; one that was gone is there again."""
    values = {"installation_id": installation_id, "full_name": full_name, "default_branch": default_branch}
    differs = or_(table.c.gone_at.is_not(None), *(table.c[name].is_distinct_from(it) for name, it in values.items()))
    await tx.execute(
        insert(table)
        .values(repository_id=repository_id, **values)
        .on_conflict_do_update(
            index_elements=["repository_id"],
            set_={**values, "updated_at": func.clock_timestamp(), "gone_at": None},
            where=differs,  # each delivery comes by here, and hardly any of them changes something
        )
    )


async def get(tx: Transaction, repository_id: int) -> RowMapping | None:
    """Return the repository's row, or None for one that the host has never spoken of."""
    return await tx.maybe(select(table).where(table.c.repository_id == repository_id))


async def by_installation(tx: Transaction, installation_id: int) -> list[RowMapping]:
    """Return the repositories of an installation, those that are gone as well, by number."""
    chosen = select(table).where(table.c.installation_id == installation_id)
    return await tx.all(chosen.order_by(table.c.repository_id))


async def mark_gone(tx: Transaction, repository_id: int, gone: bool) -> bool:
    """Write down that the host does not show us the repository any more, or does again; returns whether that is new."""
    changed = update(table).where(
        table.c.repository_id == repository_id,
        table.c.gone_at.is_(None) if gone else table.c.gone_at.is_not(None),
    )
    result = await tx.execute(changed.values(gone_at=func.clock_timestamp() if gone else None))
    return bool(result.rowcount)
