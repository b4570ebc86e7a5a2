"""Templates and personas are stored once, by content, and a row that was tampered with is refused."""

import asyncio
from hashlib import sha256

import pytest
from sqlalchemy import select, text

from engine.domain.errors import DevflowError
from engine.store import catalog_rows
from engine.store.database import Database
from engine.store.tables import templates

BODY = '{"name":"development","version":1}'
HASH = sha256(BODY.encode()).hexdigest()
KINDS = [
    (catalog_rows.put_template, catalog_rows.load_template, "templates", "template_load_failed"),
    (catalog_rows.put_persona, catalog_rows.load_persona, "personas", "run_metadata_missing"),
]


async def test_ten_first_starts_together_store_one_template(database: Database) -> None:
    async def start() -> None:
        async with database.transaction() as tx:
            await catalog_rows.put_template(tx, 1, HASH, "development", 1, BODY)

    await asyncio.gather(*(start() for _ in range(10)))

    async with database.transaction() as tx:
        assert len(await tx.all(select(templates))) == 1


@pytest.mark.parametrize(("put", "load", "table", "code"), KINDS)
async def test_a_stored_body_comes_back(put, load, table: str, code: str, database: Database) -> None:
    async with database.transaction() as tx:
        await put(tx, 1, HASH, "name", 1, BODY)

    async with database.transaction() as tx:
        assert await load(tx, 1, HASH) == BODY


@pytest.mark.parametrize(("put", "load", "table", "code"), KINDS)
async def test_a_tampered_or_missing_row_is_refused(put, load, table: str, code: str, database: Database) -> None:
    async with database.transaction() as tx:
        await put(tx, 1, HASH, "name", 1, BODY)
        await tx.execute(text(f"UPDATE {table} SET body = replace(body, '1', '2')"))

    for repository_id in (1, 2):
        with pytest.raises(DevflowError) as refusal:
            async with database.transaction() as tx:
                await load(tx, repository_id, HASH)
        assert refusal.value.code == code


async def test_a_new_version_leaves_the_old_one_as_it_was(database: Database) -> None:
    edited = BODY.replace("}", ',"description":"edited"}')
    async with database.transaction() as tx:
        await catalog_rows.put_template(tx, 1, HASH, "development", 1, BODY)
        await catalog_rows.put_template(tx, 1, sha256(edited.encode()).hexdigest(), "development", 1, edited)

    async with database.transaction() as tx:
        assert await catalog_rows.load_template(tx, 1, HASH) == BODY


async def test_a_hash_that_is_not_the_bodys_is_never_stored(database: Database) -> None:
    with pytest.raises(ValueError, match="hash"):
        async with database.transaction() as tx:
            await catalog_rows.put_template(tx, 1, "0" * 64, "development", 1, BODY)
