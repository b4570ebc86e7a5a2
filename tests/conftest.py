"""Fixtures that tests of all kinds share: one Postgres server a test session, one fresh database a test."""

import asyncio
import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from engine.store import embedded
from engine.store.address import connect_arguments
from engine.store.cluster import ROLE, Cluster
from engine.store.database import Database
from engine.store.installation import choose_home, find_programs, server_account
from engine.store.migrate import upgrade
from tests.github_double import GitHubDouble
from tests.servers import cluster_of
from tests.support.databases import Databases

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    # its workers are the superuser's: a database that one of them is in cannot be dropped by force
    "autovacuum": "off",
}
_TEMPLATE = "migrated"


def pytest_xdist_auto_num_workers() -> int:
    """Have `-n auto` mean two workers a core: half of a test's time goes by in waiting for a process or an answer."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what was imported: going through it again and again takes seconds."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Have every GitHub double's requests, answers and webhooks held against GitHub's schemas when it is closed."""
    GitHubDouble.at_end = staticmethod(_hold_against_schemas)


def _hold_against_schemas(github: GitHubDouble) -> None:
    from tests.github_double.schemas import assert_all_valid

    assert_all_valid(github)


@dataclass(frozen=True)
class PostgresServer:
    """The session's server; `url` gives the address of one of its databases."""

    cluster: Cluster

    def url(self, database: str) -> str:
        """Return the asyncpg URL of a database."""
        return embedded.database_url(self.cluster, database)

    async def execute(self, sql: str) -> None:
        """Run one statement outside any transaction."""
        connection = await asyncpg.connect(**connect_arguments(self.url("devflow")))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    @asynccontextmanager
    async def database(self, made_from: str = f"TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY") -> AsyncIterator[str]:
        """Yield the URL of a new database with the current schema, which is gone afterwards."""
        name = f"test_{uuid4().hex}"
        # a copy of the files takes a third less than Postgres' default, which writes every page to its log
        await self.execute(f"CREATE DATABASE {name} {made_from}")
        yield self.url(name)
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_server(testrun_uid: str) -> Iterator[PostgresServer]:
    """A Postgres server that all xdist workers of this session share; the last one stops and removes it."""
    # Not in pytest's own folder, which is closed to the user that Postgres runs as where the tests run as root.
    folder = Path(tempfile.gettempdir()) / f"devflow-tests-{testrun_uid}"
    folder.mkdir(mode=0o711, exist_ok=True)
    account = server_account()
    cluster = Cluster(choose_home(folder, account), find_programs(account), account, _SETTINGS)
    server = PostgresServer(cluster)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = not cluster.data.exists()
        if new:
            cluster.create()
            emptying = f"GRANT SET ON PARAMETER session_replication_role TO {ROLE}"
            cluster.single_user([f"ALTER ROLE {ROLE} CREATEDB", emptying])
        use = asyncio.run(embedded.open_embedded(folder, settings=_SETTINGS))
        try:
            if new:
                asyncio.run(server.execute(f"CREATE DATABASE {_TEMPLATE}"))
                asyncio.run(upgrade(server.url(_TEMPLATE)))
        except BaseException:
            asyncio.run(use.close())
            raise
    yield server
    if asyncio.run(use.close()):
        shutil.rmtree(folder)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder of this test alone, for an embedded server of its own, which is stopped at the end."""
    # As root, pytest's own folders are closed to the user that Postgres runs as, and the data would go elsewhere.
    folder = Path(tempfile.mkdtemp(prefix="devflow-test-"))
    folder.chmod(0o711)
    yield folder
    cluster_of(folder).stop()
    shutil.rmtree(folder)


@pytest.fixture
async def empty_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database of this test alone, without any table."""
    async with postgres_server.database(made_from="") as url:
        yield url


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Databases:
    """The databases of this process of the tests; they go with the server."""
    return Databases(postgres_server, _TEMPLATE)


@pytest.fixture
async def database_url(databases: Databases, postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database of this test alone, with the current schema and no rows."""
    name = await databases.take()
    yield postgres_server.url(name)
    await databases.give_back(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A `Database` on a fresh schema, closed after the test."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def other_database(databases: Databases, postgres_server: PostgresServer) -> AsyncIterator[Database]:
    """A second `Database` on a fresh schema, for what goes from one database to another."""
    name = await databases.take()
    opened = Database(postgres_server.url(name))
    yield opened
    await opened.close()
    await databases.give_back(name)


@pytest.fixture
async def own_server(data_dir: Path) -> AsyncIterator[tuple[Cluster, Database]]:
    """A server of this test alone, to be crashed and started again, and a database with the current schema on it."""
    server = await embedded.open_embedded(data_dir)
    await upgrade(server.url)
    opened = Database(server.url)
    yield cluster_of(data_dir), opened
    await opened.close()
    await server.close()
