"""Embedded Postgres: the database of whoever set no DEVFLOW_DATABASE_URL, shared by all processes on one data folder.

The first process that opens it starts the server, the last one that closes it stops it, so nothing stays behind a
finished command. Who uses it is known by a lock that the kernel drops when a process dies, never by a list of process
ids: a client that was killed leaves the server running for the next one, which then stops it in its turn.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path

import asyncpg
import platformdirs
from sqlalchemy import URL

from engine.domain.errors import DevflowError
from engine.store.cluster import DATABASE, ROLE, Cluster
from engine.store.installation import choose_home, find_programs, server_account

_LOCK_SECONDS = 120.0
_PROBE_SECONDS = 60.0
_DEAF_SECONDS = 2.0


def default_data_dir() -> Path:
    """Return the folder for Devflow's data where the settings name none: the user's data folder for `devflow`."""
    return platformdirs.user_data_path("devflow", appauthor=False)


class EmbeddedPostgres:
    """A running server with one more user: this object."""

    def __init__(self, cluster: Cluster, use: FileIO, *, keep_running: bool) -> None:
        self._cluster = cluster
        self._use = use
        self._keep_running = keep_running

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database; the password stays in the file that it names."""
        return database_url(self._cluster)

    @property
    def socket_folder(self) -> Path:
        """The folder of the server's socket, which no sandbox may show."""
        return self._cluster.socket_folder

    @property
    def home(self) -> Path:
        """The folder with everything of this server: data, socket and password file; no sandbox may show it."""
        return self._cluster.home

    async def close(self) -> bool:
        """Stop using the server; returns whether that stopped it, because nobody else uses it. Twice is harmless."""
        if self._use.closed:
            return False
        async with _exclusive(self._cluster.home / "start.lock"):
            try:
                if self._keep_running or not _try_lock(self._use, fcntl.LOCK_EX):
                    return False
                await asyncio.to_thread(self._cluster.stop)
                return True
            finally:
                self._use.close()

    async def stop(self) -> None:
        """Stop the server in order, whoever uses it; its data stays."""
        async with _exclusive(self._cluster.home / "start.lock"):
            await asyncio.to_thread(self._cluster.stop)
            self._use.close()


async def open_embedded(
    data_dir: Path, *, keep_running: bool = False, settings: Mapping[str, str] | None = None
) -> EmbeddedPostgres:
    """Use the server of `data_dir`, made and started where needed, and proved by a connection.

    With `keep_running` the end of this use does not stop the server. `settings` are lines for postgresql.conf, as they
    are written there; they hold from the next start. Raises `database_unavailable`.
    """
    try:
        account = await asyncio.to_thread(server_account)
        home = await asyncio.to_thread(choose_home, data_dir, account)
        programs = await asyncio.to_thread(find_programs, account)
        cluster = Cluster(home, programs, account, settings)
        async with _exclusive(home / "start.lock"):
            use = _open_lock(home / "users.lock")
            try:
                _try_lock(use, fcntl.LOCK_SH)
                await asyncio.to_thread(cluster.create)
                await _start(cluster)
            except BaseException:
                use.close()
                raise
        return EmbeddedPostgres(cluster, use, keep_running=keep_running)
    except OSError as error:
        raise DevflowError(
            "database_unavailable",
            f"embedded Postgres in {data_dir}: {error}",
            recovery_hint="set DEVFLOW_DATA_DIR to a folder that you may write, or DEVFLOW_DATABASE_URL",
        ) from error


def database_url(cluster: Cluster, database: str = DATABASE) -> str:
    """Return SQLAlchemy's asyncpg URL of a database in `cluster`, without the password."""
    query = {"host": str(cluster.socket_folder), "passfile": str(cluster.pgpass)}
    return URL.create("postgresql+asyncpg", username=ROLE, database=database, query=query).render_as_string()


async def _start(cluster: Cluster) -> None:
    deadline = time.monotonic() + _PROBE_SECONDS
    await asyncio.to_thread(cluster.start)
    started = time.monotonic()
    while (refusal := await _refusal(cluster)) is not None:
        if time.monotonic() > deadline:
            raise DevflowError("database_unavailable", f"embedded Postgres does not answer: {refusal}") from refusal
        # A server whose socket was cleaned away runs on unseen; nobody can be about to connect to it.
        if isinstance(refusal, FileNotFoundError) and time.monotonic() - started > _DEAF_SECONDS:
            await asyncio.to_thread(cluster.stop)
        if not await asyncio.to_thread(cluster.running):
            await asyncio.to_thread(cluster.start)
            started = time.monotonic()
        await asyncio.sleep(0.05)


async def _refusal(cluster: Cluster) -> Exception | None:
    try:
        connection = await asyncpg.connect(
            host=str(cluster.socket_folder), user=ROLE, database=DATABASE, passfile=str(cluster.pgpass), timeout=10
        )
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError, TimeoutError) as error:
        return error
    except asyncpg.PostgresError as error:
        raise DevflowError("database_unavailable", f"embedded Postgres refuses its own role: {error}") from error
    try:
        await connection.execute("SELECT 1")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return error
    finally:
        connection.terminate()
    return None


def _open_lock(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")


def _try_lock(lock: FileIO, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _exclusive(path: Path) -> AsyncIterator[None]:
    lock = _open_lock(path)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise DevflowError("database_unavailable", f"another process holds {path} for too long")
            await asyncio.sleep(0.02)
        yield
    finally:
        lock.close()
