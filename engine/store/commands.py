"""Commands that people gave to a run outside its gates, by the token that makes a repetition harmless.

A command is remembered in the transaction of its effect: either both are there or neither.
"""

from uuid import UUID

from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.store.database import LockedRun, Transaction
from engine.store.host_tables import commands


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
