"""One run with all its rows as a file, and such a file as a run: a support bundle, or state that travels.

What belongs to a database and not to the run stays behind: leases, claims, workers, counters that runs share. The form
is in `snapshot_format`; whoever imports reads with `read_snapshot` first, which is where a file is mistrusted.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import DBAPIError

from engine.domain.canonical import sha256_hex
from engine.domain.errors import DevflowError
from engine.domain.states import RunState
from engine.store import agent_tables, host_tables
from engine.store.database import Transaction
from engine.store.migrate import REVISIONS
from engine.store.runs import ENDED as RUN_ENDED
from engine.store.runs import get_run
from engine.store.sessions import ENDED as SESSION_ENDED
from engine.store.snapshot_format import (
    HELD,
    HOST_FORMAT,
    HOST_TABLES,
    RUN_FORMAT,
    RUN_TABLES,
    SHARED,
    Layout,
    Row,
    chunks,
    invalid,
    line_of,
)
from engine.store.snapshot_reading import HostRows, Snapshot, read_frame, read_host_rows, read_snapshot
from engine.store.tables import approval_requests, bindings, personas, repositories, runs, templates
from engine.workspace.secrets import redact, redact_json

__all__ = [
    "HostRows",
    "Snapshot",
    "export_host_rows",
    "export_run",
    "import_host_rows",
    "import_run",
    "read_host_rows",
    "read_snapshot",
]

# Holds a run that was being worked on when it was exported, so that whoever takes it knows that work was cut off.
_NOBODY = UUID(int=0)
_ROWS_AT_ONCE = 200


async def export_run(tx: Transaction, run_id: UUID, *, conversations: bool = True) -> bytes:
    """Return the run with all its rows, its credentials redacted; equal rows give equal bytes. Raises `run_not_found`.

    Without `conversations`, what models and tools said is left out, and so are sessions that have not ended: the phase
    opens a new one. `tx` has to see one moment of the database: `Database.read(consistent=True)`, or the run's lock.
    """
    run = dict(await get_run(tx, run_id))
    header = {
        "repository_id": run["repository_id"],
        "run_id": str(run_id),
        "conversations": conversations,
    }
    writing = _Writing(RUN_FORMAT, header)
    for layout in RUN_TABLES:
        if layout.table is agent_tables.session_messages and not conversations:
            continue
        rows = await tx.connection.stream(_rows_of_run(layout, run, conversations))
        async for row in rows.mappings():
            writing.add(layout, _shown(layout, dict(row), conversations))
    return writing.end()


async def import_run(tx: Transaction, snapshot: Snapshot) -> None:
    """Write the run of a snapshot; where it is there already, as it is in the snapshot, nothing happens.

    Raises `snapshot_conflict` where it is there with other content, or where something that only one run of a
    repository can have is another's.
    """
    run = snapshot.run
    await _make_repository(tx, snapshot)
    if await tx.maybe(select(runs.c.run_id).where(runs.c.run_id == snapshot.run_id)) is not None:
        await _refuse_unless_equal(tx, snapshot)
        return
    await _refuse_taken(tx, run)
    for layout in RUN_TABLES:
        if layout.name not in SHARED:
            shared = layout.table in (templates, personas)
            await _insert(tx, layout, map(_stored, snapshot.rows(layout.name)), keep=shared)


async def export_host_rows(tx: Transaction, repository_id: int) -> bytes:
    """Return what a host keeps of a repository and no run owns: its deliveries, those not read yet, and its replies."""
    deliveries, surfaces = HOST_TABLES
    writing = _Writing(HOST_FORMAT, {"repository_id": repository_id})
    of_repository = deliveries.table.c.repository_id.in_([repository_id, 0])
    for row in await tx.all(select(deliveries.table).where(of_repository).order_by(*deliveries.order)):
        writing.add(deliveries, dict(row))
    of_no_run = (surfaces.table.c.repository_id == repository_id) & surfaces.table.c.run_id.is_(None)
    for row in await tx.all(select(surfaces.table).where(of_no_run).order_by(*surfaces.order)):
        writing.add(surfaces, dict(row))
    return writing.end()


async def import_host_rows(tx: Transaction, rows: HostRows) -> None:
    """Write what a host kept of a repository; what is there already stays as it is."""
    for layout in HOST_TABLES:
        await _insert(tx, layout, rows.rows(layout.name), keep=True)


class _Writing:
    """A snapshot while it is written."""

    def __init__(self, kind: str, header: Mapping[str, Any]) -> None:
        self._buffer = io.BytesIO()
        self._digest = hashlib.sha256()
        self._rows = 0
        self._put(line_of({"snapshot": kind, "revision": REVISIONS[-1], **header}))

    def add(self, layout: Layout, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._put(layout.encode(row))
        self._rows += 1

    def end(self) -> bytes:
        """Return the whole snapshot."""
        self._put(line_of({"end": {"rows": self._rows, "digest": self._digest.hexdigest()}}))
        return self._buffer.getvalue()

    def _put(self, line: bytes) -> None:
        self._digest.update(line)
        self._buffer.write(line)


def _rows_of_run(layout: Layout, run: Row, conversations: bool) -> Select[Any]:
    table = layout.table
    mine = table.c.repository_id == run["repository_id"]
    match layout.name:
        case "repositories" | "hosted_repositories":
            pass
        case "templates":
            mine &= table.c.hash == run["template_hash"]
        case "personas":
            mine &= table.c.hash.in_(select(bindings.c.persona_hash).where(bindings.c.run_id == run["run_id"]))
        case "decisions":
            asked = select(approval_requests.c.request_id).where(approval_requests.c.run_id == run["run_id"])
            mine &= table.c.request_id.in_(asked)
        case "session_messages":
            sessions = agent_tables.agent_sessions
            mine &= table.c.session_id.in_(select(sessions.c.session_id).where(sessions.c.run_id == run["run_id"]))
        case _:
            mine &= table.c.run_id == run["run_id"]
    if layout.table is agent_tables.agent_sessions and not conversations:
        mine &= table.c.state.in_(SESSION_ENDED)
    return select(table).where(mine).order_by(*layout.order)


def _shown(layout: Layout, row: Row, conversations: bool) -> Row:
    """Return a row as a snapshot has it."""
    shown = dict(row)
    match layout.name:
        case "runs":
            shown[HELD] = row["lease_worker"] is not None and row["state"] == RunState.EXECUTING
            last = row["last_ai_message"]
            shown["last_ai_message"] = redact(last) if conversations and last is not None else None
        case "artifacts" if not row["valid"]:
            # what is valid has been searched for credentials before it was published, and its digest is approved
            body = redact(row["body"].decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            shown |= {"body": body, "digest": sha256_hex(body)}
        case "session_messages":
            shown["message"] = redact_json(row["message"])
        case "tool_calls":
            excerpt = row["result_excerpt"]
            shown["arguments"] = redact(row["arguments"]) if conversations else ""
            shown["result_excerpt"] = redact(excerpt) if conversations and excerpt is not None else None
        case "projections":
            # who was about to show it has not shown it
            shown["dirty"] = row["dirty"] or row["claimed_by"] is not None
        case _:
            pass
    return shown


def _stored(row: Row) -> Row:
    """Return a row as the database has it."""
    if HELD not in row:
        return row
    return {name: value for name, value in row.items() if name != HELD} | {
        "lease_worker": _NOBODY if row[HELD] else None
    }


async def _make_repository(tx: Transaction, snapshot: Snapshot) -> None:
    """Have the repository's rows, and its row locked: runs of one repository come to be one after the other."""
    repository = next(snapshot.rows("repositories"))
    after = snapshot.run["number"] + 1
    statement = insert(repositories).values(**repository, next_run_number=after)
    higher = func.greatest(repositories.c.next_run_number, after)
    await tx.execute(
        statement.on_conflict_do_update(index_elements=["repository_id"], set_={"next_run_number": higher})
    )
    for hosted in snapshot.rows("hosted_repositories"):
        await tx.execute(insert(host_tables.hosted_repositories).values(hosted).on_conflict_do_nothing())


async def _refuse_unless_equal(tx: Transaction, snapshot: Snapshot) -> None:
    here = await export_run(tx, snapshot.run_id, conversations=snapshot.conversations)
    frame = read_frame(here, RUN_FORMAT, RUN_TABLES, ("repository_id", "run_id", "conversations"))
    for layout in RUN_TABLES:
        if layout.name in SHARED:
            continue
        for ours, theirs in zip_longest(frame.rows(layout.name), snapshot.rows(layout.name)):
            if ours is None or theirs is None or any(ours[name] != value for name, value in theirs.items()):
                raise _conflict(f"the run {snapshot.run_id} is there with another content of {layout.name}")


async def _refuse_taken(tx: Transaction, run: Row) -> None:
    here = runs.c.repository_id == run["repository_id"]
    other = await tx.maybe(select(runs.c.run_id).where(here, runs.c.number == run["number"]))
    if other is not None:
        raise _conflict(f"the repository has another run with number {run['number']}: {other['run_id']}")
    if run["trigger_key"] is not None:
        other = await tx.maybe(select(runs.c.run_id).where(here, runs.c.trigger_key == run["trigger_key"]))
        if other is not None:
            raise _conflict(f"what started the run has started another one: {other['run_id']}")
    if run["started_at"] is not None and not RunState(run["state"]).terminal:
        of_issue = here & (runs.c.issue_number == run["issue_number"])
        live = select(runs.c.run_id).where(of_issue, ~RUN_ENDED, runs.c.started_at.is_not(None))
        other = await tx.maybe(live.limit(1))
        if other is not None:
            raise _conflict(f"the issue {run['issue_number']} has another run that has not ended: {other['run_id']}")


async def _insert(tx: Transaction, layout: Layout, rows: Iterable[Row], *, keep: bool = False) -> None:
    """Insert rows that have the same columns; with `keep`, those that are there already stay."""
    for part in chunks(iter(rows), _ROWS_AT_ONCE):
        values = {name: bindparam(f"value_{name}", type_=_kind(layout, name)) for name in part[0]}
        statement = insert(layout.table).values(values)
        if keep:
            statement = statement.on_conflict_do_nothing()
        parameters = [{f"value_{name}": value for name, value in row.items()} for row in part]
        try:
            await tx.execute(statement, parameters)
        except DBAPIError as error:
            state = str(getattr(error.orig, "sqlstate", ""))
            if state == "23505":
                raise _conflict(f"something of table {layout.name} is another run's") from error
            if state.startswith(("22", "23")):
                raise invalid(f"table {layout.name}: the database does not take a row") from error
            raise


def _kind(layout: Layout, name: str) -> Any:
    kind = layout.table.c[name].type
    return JSONB(none_as_null=True) if isinstance(kind, JSONB) else kind


def _conflict(what: str) -> DevflowError:
    return DevflowError("snapshot_conflict", f"the snapshot cannot be imported here: {what}")
