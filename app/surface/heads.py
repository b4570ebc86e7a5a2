"""Where a run's branch is while that is not the run's own commit: somebody has pushed what it has not taken up.

Noted where a push is handled, read by the projector, which shows a check run on that commit as well. The row that
holds it is shown nowhere by itself. It counts as long as the run's own commit is the one that it was noted beside.
"""

import re
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import RowMapping

from app.surface.hands import CheckHand
from engine.store import projections, surfaces
from engine.store.database import Database

_NAME = "check/branch"
_SHA = re.compile(r"[0-9a-f]{40}")


async def note_head(database: Database, run_id: UUID, head: str | None) -> None:
    """Write down at which commit the run's branch is (None: there is none), and have the run shown if that is news."""
    async with database.locked(run_id) as tx:
        own, key = tx.row["pushed_sha"], f"run/{run_id}/{_NAME}"
        known = await surfaces.get(tx, tx.repository_id, key)
        away = own is not None and head not in (None, own)
        target, facts = ({"sha": head}, {"beside": own}) if away else ({}, {})
        before = ({}, {}) if known is None else (known["target"], known["facts"])
        if before != (target, facts):
            await surfaces.note(
                tx, tx.repository_id, key, run_id=run_id, kind=CheckHand.kind, target=target, facts=facts
            )
            await projections.touch(tx)


def other_head(rows: Iterable[RowMapping], run_id: UUID, own: str | None) -> str | None:
    """Return the commit at which the run's branch is instead of at `own`, or None, from the rows of its surfaces."""
    for row in rows:
        if row["surface_key"] == f"run/{run_id}/{_NAME}" and own is not None and row["facts"].get("beside") == own:
            sha = str(row["target"].get("sha"))
            return sha if _SHA.fullmatch(sha) else None
    return None
