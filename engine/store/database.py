"""The way to Postgres: pools, transactions, and the proofs that a run's row is locked or leased.

All commits of the engine happen here. A `LockedRun` proves that the transaction holds the run's row; a `FencedRun`
proves besides that the lease is still the caller's. Functions that write take one of them as an argument, so a write
without the lock does not type-check.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import RowMapping, event, select, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql import Executable

from engine import failpoints
from engine.domain.errors import DevflowError, Fenced
from engine.store.address import asyncpg_url
from engine.store.tables import runs

_STILL_SOUND = text("SELECT 1")
_USED = "devflow_used"
_FRESH_SECONDS = 1.0
_DISK_FULL = "53100"
_LOST_CONNECTION = ("08", "57P", "53300")  # broken, shut down by an operator or a crash, too many connections


@dataclass(frozen=True)
class Lease:
    """The right to advance one run, until another worker's epoch is higher.

    `taken_over` says that the last holder never handed it back: it may have left something half done.
    """

    repository_id: int
    run_id: UUID
    worker_id: UUID
    epoch: int
    taken_over: bool = False


class Transaction:
    """An open transaction; everything written through it commits together or not at all."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute one statement inside the transaction."""
        return await self.connection.execute(statement, parameters)

    async def one(self, statement: Executable) -> RowMapping:
        """Return the one row that the statement yields; anything else raises."""
        return (await self.execute(statement)).mappings().one()

    async def maybe(self, statement: Executable) -> RowMapping | None:
        """Return the row that the statement yields, or None; two rows raise."""
        return (await self.execute(statement)).mappings().one_or_none()

    async def all(self, statement: Executable) -> list[RowMapping]:
        """Return all rows that the statement yields."""
        return list((await self.execute(statement)).mappings())


class LockedRun(Transaction):
    """A transaction that holds the lock on one run's row, and the row as it was when it was locked."""

    def __init__(self, connection: AsyncConnection, row: RowMapping) -> None:
        super().__init__(connection)
        self.row = row
        self.repository_id: int = row["repository_id"]
        self.run_id: UUID = row["run_id"]


class FencedRun(LockedRun):
    """A locked run whose lease is the caller's until the transaction ends."""

    def __init__(self, connection: AsyncConnection, row: RowMapping, lease: Lease) -> None:
        super().__init__(connection, row)
        self.lease = lease


class Database:
    """One Postgres database, by its URL (`postgresql://...`)."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = asyncpg_url(url)
        self._engine = create_async_engine(self.url, pool_size=pool_size, max_overflow=10, pool_use_lifo=True)
        event.listen(self._engine.sync_engine, "checkin", _note_use)
        event.listen(self._engine.sync_engine, "checkout", _assure_alive)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self, *, consistent: bool = False) -> AsyncIterator[Transaction]:
        """Open a transaction that can only read; there is nothing to commit, and so no failure point.

        With `consistent`, all its statements see the database as it was at the first of them.
        """
        async with AsyncExitStack() as stack:
            with translated_errors(connecting=True):
                connection = await stack.enter_async_context(self._engine.connect())
                await connection.execution_options(postgresql_readonly=True)
                if consistent:
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                await connection.begin()
            try:
                yield Transaction(connection)
            except DBAPIError:
                with translated_errors():
                    raise
            finally:
                with suppress(DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.rollback()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction and commit it at the end of the block; an exception rolls it back."""
        async with self._connect() as connection:
            yield Transaction(connection)

    @asynccontextmanager
    async def locked(self, run_id: UUID) -> AsyncIterator[LockedRun]:
        """Open a transaction that holds the lock on the run's row; raises `run_not_found`."""
        async with self._connect() as connection:
            yield LockedRun(connection, await _lock(connection, run_id))

    @asynccontextmanager
    async def fenced(self, lease: Lease) -> AsyncIterator[FencedRun]:
        """Open a transaction that holds the run's row and the lease; raises `Fenced` where the lease was lost."""
        async with self._connect() as connection:
            row = await _lock(connection, lease.run_id)
            if row["epoch"] != lease.epoch or row["lease_worker"] != lease.worker_id:
                raise Fenced(f"run {lease.run_id} is at epoch {row['epoch']}, this worker had {lease.epoch}")
            yield FencedRun(connection, row, lease)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            with translated_errors(connecting=True):
                connection = await stack.enter_async_context(self._engine.connect())
                transaction = await connection.begin()
            try:
                yield connection
                # A block that swallowed a database error would commit nothing, and Postgres would not say so.
                await connection.execute(_STILL_SOUND)
            except BaseException as error:
                with suppress(DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await transaction.rollback()
                with translated_errors():
                    if isinstance(error, DBAPIError):
                        raise
                raise
            with translated_errors(), failpoints.around(failpoints.Effect.SQL_COMMIT):
                await transaction.commit()


class translated_errors:  # noqa: N801 - used as a context manager
    """Turn a lost or refused connection into `database_unavailable`, and a full disk into `storage_full`.

    Every other database error passes as it is, but for a block that is `connecting`: there, nothing else can be meant.
    Code that uses the driver's own connection inside a transaction wraps those calls in this.
    """

    def __init__(self, *, connecting: bool = False) -> None:
        self._connecting = connecting

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, DevflowError):
            return
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        sqlstate = getattr(cause, "sqlstate", None) or ""
        if sqlstate == _DISK_FULL:
            raise DevflowError("storage_full", "the database's disk is full") from error
        lost = (
            isinstance(error, OSError | asyncpg.InterfaceError | InterfaceError)
            or (isinstance(error, DBAPIError) and error.connection_invalidated)
            or sqlstate.startswith(_LOST_CONNECTION)
        )
        refused = isinstance(error, SQLAlchemyError | asyncpg.PostgresError) and self._connecting
        if lost or refused:
            said = str(cause).splitlines() or [type(cause).__name__]
            raise DevflowError("database_unavailable", f"the database does not answer: {said[0][:200]}") from error


def _note_use(_: Any, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


def _assure_alive(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """Have the pool replace its connections where this one is dead.

    SQLAlchemy's own `pool_pre_ping` takes three round trips a transaction, one of which would do; and a connection that
    has just been used needs none, because the driver sees one that the server closed.
    """
    used = record.info.get(_USED)
    if used is None:
        return
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError
    if time.monotonic() - used > _FRESH_SECONDS:
        try:
            connection.run_async(lambda driver: driver.execute("SELECT 1"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise InvalidatePoolError from error


async def lock_run(tx: Transaction, run_id: UUID) -> LockedRun:
    """Lock one more run in a transaction that is open already; raises `run_not_found`."""
    return LockedRun(tx.connection, await _lock(tx.connection, run_id))


async def _lock(connection: AsyncConnection, run_id: UUID) -> RowMapping:
    row = (await connection.execute(select(runs).where(runs.c.run_id == run_id).with_for_update())).mappings().first()
    if row is None:
        raise DevflowError("run_not_found", f"there is no run {run_id}")
    return row
