"""Brings a database to the schema of this code, and tells when it is ahead of it.

The revisions are in `migrations/`, as plain SQL. Any number of processes may do this at once.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from engine.domain.errors import DevflowError
from engine.store.database import Database, Transaction

REVISIONS = ("0001", "0002", "0003")  # oldest first; the last one is what this code works with

_LOCK = 0x64657666  # any number that every version of Devflow agrees on


async def upgrade(database_url: str) -> None:
    """Run the missing revisions, in one transaction; one query where there is nothing to do.

    Raises `database_unavailable`, and `database_schema_newer` where a later version of Devflow was here.
    """
    database = Database(database_url, pool_size=1)
    try:
        async with database.read() as tx:
            if await _revision(tx) == REVISIONS[-1]:
                return
        async with database.transaction() as tx:
            await tx.execute(text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_LOCK))
            if await _revision(tx) != REVISIONS[-1]:  # unless another process was faster
                await tx.connection.run_sync(_run)
    finally:
        await database.close()


async def check(database_url: str) -> str | None:
    """Return the database's revision, None where it is empty.

    Raises `database_unavailable`, and `database_schema_newer` where a later version of Devflow was here.
    """
    database = Database(database_url, pool_size=1)
    try:
        async with database.read() as tx:
            return await _revision(tx)
    finally:
        await database.close()


async def _revision(tx: Transaction) -> str | None:
    if (await tx.execute(text("SELECT to_regclass('alembic_version')"))).scalar_one() is None:
        return None
    found: str | None = (await tx.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    if found is not None and found not in REVISIONS:
        raise DevflowError(
            "database_schema_newer", f"the database has schema {found}; this version knows {REVISIONS[-1]} at most"
        )
    return found


def _run(connection: Connection) -> None:
    # alembic takes longer to import than asking whether there is anything to do
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_script(connection: Connection, script: Path) -> None:
    """Run a file of SQL statements in the open transaction; for the revisions."""
    sql = script.read_text(encoding="utf-8")
    driver: Any = connection.connection.dbapi_connection
    # The driver's own call, because SQLAlchemy prepares what it sends, and that takes one statement at a time.
    driver.run_async(lambda raw: raw.execute(sql))
