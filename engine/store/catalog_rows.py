"""Workflow templates and personas as rows addressed by their content, so that a run keeps what it was started with.

`body` is canonical JSON and `hash` the SHA-256 of its UTF-8 bytes. A row is written once and never changed; it is
checked against its hash each time it is read.
"""

from hashlib import sha256

from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.store.database import Transaction
from engine.store.tables import personas, templates


async def put_template(tx: Transaction, repository_id: int, digest: str, name: str, version: int, body: str) -> None:
    """Store a workflow template unless it is there already."""
    await _put(tx, templates, repository_id, digest, name, version, body)


async def put_persona(tx: Transaction, repository_id: int, digest: str, name: str, version: int, body: str) -> None:
    """Store a persona unless it is there already."""
    await _put(tx, personas, repository_id, digest, name, version, body)


async def load_template(tx: Transaction, repository_id: int, digest: str) -> str:
    """Return a template's canonical JSON; raises `template_load_failed` where it is missing or not what it was."""
    body = await _load(tx, templates, repository_id, digest)
    if body is None:
        raise DevflowError("template_load_failed", f"the stored workflow {digest[:12]} is missing or was changed")
    return body


async def load_persona(tx: Transaction, repository_id: int, digest: str) -> str:
    """Return a persona's canonical JSON; raises `run_metadata_missing` where it is missing or not what it was."""
    body = await _load(tx, personas, repository_id, digest)
    if body is None:
        raise DevflowError("run_metadata_missing", f"the stored persona {digest[:12]} is missing or was changed")
    return body


async def _put(
    tx: Transaction, table: Table, repository_id: int, digest: str, name: str, version: int, body: str
) -> None:
    if digest != _digest(body):
        raise ValueError(f"{table.name}: the hash is not that of the body")
    values = {"repository_id": repository_id, "hash": digest, "name": name, "version": version, "body": body}
    await tx.execute(insert(table).values(values).on_conflict_do_nothing(index_elements=["repository_id", "hash"]))


async def _load(tx: Transaction, table: Table, repository_id: int, digest: str) -> str | None:
    statement = select(table.c.body).where(table.c.repository_id == repository_id, table.c.hash == digest)
    row = await tx.maybe(statement)
    return row["body"] if row is not None and _digest(row["body"]) == digest else None


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()
