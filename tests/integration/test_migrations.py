"""Migrations: they make what the code expects, once, whoever comes first."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from engine.domain.errors import DevflowError
from engine.store import agent_tables, host_tables, jobs, migrate, tables  # noqa: F401 - they fill the metadata
from engine.store.columns import metadata
from engine.store.database import Database


def _differences(connection: Connection) -> list[object]:
    def ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or not str(name).startswith(("pgqueuer", "alembic_version"))

    options = {"compare_type": True, "compare_server_default": True, "include_name": ours}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _constraints(connection: Connection) -> list[tuple[str, str, str]]:
    # Alembic compares neither checks nor partial indexes.
    rows = connection.execute(
        text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
            " UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        )
    )
    skip = ("pgqueuer", "alembic_version")
    return sorted((table, name, what) for table, name, what in rows if not table.startswith(skip))


async def test_the_migrated_schema_is_the_one_that_the_code_declares(
    database: Database, empty_database_url: str
) -> None:
    declared = Database(empty_database_url)
    async with declared.transaction() as tx:
        await tx.connection.run_sync(metadata.create_all)
        expected = await tx.connection.run_sync(_constraints)
    await declared.close()

    async with database.transaction() as tx:
        differences = await tx.connection.run_sync(_differences)
        found = await tx.connection.run_sync(_constraints)

    assert differences == []
    assert found == expected


async def test_the_frozen_queue_schema_is_the_one_that_pgqueuer_wants(database: Database) -> None:
    async with database.transaction() as tx:
        raw = (await tx.connection.get_raw_connection()).driver_connection
        plan = await jobs.queries(raw).plan_upgrade()

    assert list(plan.statements) == []


async def test_the_code_names_every_revision() -> None:
    config = Config()
    config.set_main_option("script_location", migrate.__file__.replace("migrate.py", "migrations"))
    scripts = ScriptDirectory.from_config(config)

    revisions = [script.revision for script in scripts.walk_revisions()]

    assert tuple(reversed(revisions)) == migrate.REVISIONS


async def test_ten_first_starts_together_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_database_url) for _ in range(10)))

    assert await migrate.check(empty_database_url) == migrate.REVISIONS[-1]


async def test_an_empty_database_has_no_revision(empty_database_url: str) -> None:
    assert await migrate.check(empty_database_url) is None


@pytest.mark.parametrize("act", [migrate.check, migrate.upgrade])
async def test_a_database_of_a_later_version_is_refused_untouched(act, database: Database, database_url: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DevflowError) as refusal:
        await act(database_url)

    assert refusal.value.code == "database_schema_newer"
    assert "9999" in refusal.value.message


@pytest.mark.parametrize("act", [migrate.check, migrate.upgrade])
async def test_a_database_that_is_not_there_is_unavailable(act, postgres_server) -> None:
    with pytest.raises(DevflowError) as refusal:
        await act(postgres_server.url("no_such_database"))

    assert refusal.value.code == "database_unavailable"


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    async with database.transaction() as tx:
        await tx.execute(text("CREATE TABLE pgqueuer (id integer)"))

    with pytest.raises(Exception, match="already exists"):
        await migrate.upgrade(empty_database_url)

    async with database.transaction() as tx:
        tables = (await tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))).scalars().all()
    await database.close()
    assert tables == ["pgqueuer"]
