"""Databases with the current schema for one test after the other: what a test has left in one is emptied out.

To make a database and to drop it costs more than most tests do. So each process of the tests has a few, takes one that
is free, and looks at the end whether a test has changed the schema; then, or after many tests, it is dropped.
"""

import asyncio
from collections import Counter
from typing import Protocol
from uuid import uuid4

import asyncpg

from engine.store.address import connect_arguments

_MOST_USES = 50  # nothing is vacuumed here
_SCHEMA = """
SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
  SELECT format('%s %s %s', 'class', oid, xmin) AS part FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('%s %s %s', 'trigger', oid, xmin) FROM pg_trigger
  UNION ALL SELECT format('%s %s %s', 'constraint', oid, xmin) FROM pg_constraint
  UNION ALL SELECT format('%s %s %s', 'function', oid, xmin) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT format('%s %s %s %s', 'column', attrelid, attnum, a.xmin)
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace
) AS parts
"""
_TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
# Foreign keys are triggers, which this leaves out, so that the tables may be emptied in any order.
_EMPTY = "SET session_replication_role = replica; {deletes}"


class Server(Protocol):
    """The server of the tests; its role may set `session_replication_role`."""

    def url(self, database: str) -> str:
        """Give the address of one of its databases."""

    async def execute(self, sql: str) -> None:
        """Run one statement outside any transaction."""


class Databases:
    """This process's databases, each made from `template`."""

    def __init__(self, server: Server, template: str) -> None:
        self._server = server
        self._template = template
        self._free: list[str] = []
        self._schemas: dict[str, str] = {}
        self._uses: Counter[str] = Counter()

    async def take(self) -> str:
        """Return the name of an empty database that is nobody else's."""
        if self._free:
            return self._free.pop()
        name = f"test_{uuid4().hex}"
        # a copy of the files takes a third less than Postgres' default, which writes every page to its log
        await self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        connection = await self._connect(name)
        self._schemas[name] = await connection.fetchval(_SCHEMA)
        await connection.close()
        return name

    async def give_back(self, name: str) -> None:
        """Cut off who is still connected, and have the database empty for the next one."""
        self._uses[name] += 1
        if self._uses[name] < _MOST_USES and await self._emptied(name):
            self._free.append(name)
        else:
            await self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _emptied(self, name: str) -> bool:
        connection = await self._connect(name)
        try:
            while await connection.fetch(_OTHERS, name):
                await asyncio.sleep(0.005)
            if await connection.fetchval(_SCHEMA) != self._schemas[name]:
                return False
            tables = [row[0] for row in await connection.fetch(_TABLES)]
            await connection.execute(_EMPTY.format(deletes=";".join(f"DELETE FROM {table}" for table in tables)))
        finally:
            await connection.close()
        return True

    async def _connect(self, name: str) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(**connect_arguments(self._server.url(name)))
