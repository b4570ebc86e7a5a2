"""What a run costs the database does not grow with all the other runs that were there before it."""

import json
from uuid import UUID

import pytest
from sqlalchemy import text

from engine.store.database import Database

RUN = UUID(int=1)
# What the engine and the projector ask for by the run, or by the request, alone.
ASKED = {
    "events": "run_id",
    "phases": "run_id",
    "artifacts": "run_id",
    "checks": "run_id",
    "bindings": "run_id",
    "run_inputs": "run_id",
    "agent_sessions": "run_id",
    "approval_requests": "run_id",
    "projections": "run_id",
    "surfaces": "run_id",
    "decisions": "request_id",
}


@pytest.mark.parametrize("table", ASKED)
async def test_what_is_asked_by_a_run_is_found_by_an_index_that_begins_with_it(database: Database, table: str) -> None:
    column = ASKED[table]
    async with database.transaction() as tx:
        await tx.execute(text("SET LOCAL enable_seqscan = off"))
        asked = text(f"EXPLAIN (FORMAT JSON) SELECT * FROM {table} WHERE {column} = '{RUN}'")
        (plan,) = (await tx.execute(asked)).one()
        indexes = await tx.all(text(f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{table}'"))
    fitting = {
        row["indexname"] for row in indexes if f"({column}" in row["indexdef"] and "WHERE" not in row["indexdef"]
    }

    assert any(name in json.dumps(plan) for name in fitting), (fitting, plan)
