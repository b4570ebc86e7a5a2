"""Commands that people gave to a run outside its gates, by the token that makes a repetition harmless.

A command is remembered in the transaction of its effect: either both are there or neither.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.store.database import LockedRun, Transaction
from engine.store.host_tables import commands
from engine.store.tables import approval_requests, decisions


async def remember(tx: LockedRun, token: str | None, command: str, by: str) -> bool:
    """Remember a command of the locked run; False where it was carried out before, and then nothing is to be done.

    A command without token is always new. Raises `already_decided` where the token came with another command.
    """
    if token is None:
        return True
    place = {"repository_id": tx.repository_id, "run_id": tx.run_id, "token": token}
    added = await tx.execute(
        insert(commands)
        .values(**place, command=command, by=by)
        .on_conflict_do_nothing(index_elements=["repository_id", "run_id", "token"])
        .returning(commands.c.token)
    )
    if added.first() is not None:
        return True
    previous = await find(tx, tx.run_id, token)
    if previous is not None and previous["command"] != command:
        raise DevflowError(
            "already_decided", f"this was already carried out as {previous['command']}, it cannot become {command}"
        )
    return False


async def find(tx: Transaction, run_id: UUID, token: str) -> RowMapping | None:
    """Return the command of the run that carries this token."""
    return await tx.maybe(select(commands).where(commands.c.run_id == run_id, commands.c.token == token))


async def run_that_took(tx: Transaction, repository_id: int, tokens: Collection[str]) -> UUID | None:
    """Return the run that has carried out a command or taken a decision with one of these tokens, or None.

    What a host's event means is found out anew when it comes again; which run it was about must not change by that.
    """
    given = select(commands.c.run_id).where(commands.c.repository_id == repository_id, commands.c.token.in_(tokens))
    same = approval_requests.c.request_id == decisions.c.request_id
    decided = select(approval_requests.c.run_id).join(
        decisions, same & (approval_requests.c.repository_id == decisions.c.repository_id)
    )
    decided = decided.where(decisions.c.repository_id == repository_id, decisions.c.token.in_(tokens))
    row = await tx.maybe(given.union(decided).limit(1))
    run_id: UUID | None = None if row is None else row["run_id"]
    return run_id
