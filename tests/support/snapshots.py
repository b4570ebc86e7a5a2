"""A snapshot made by hand: the rows of a small run, to be changed by a test and written as the engine writes them."""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.catalog import Catalog
from engine.domain.canonical import canonical_body, content_hash, input_hash, sha256_hex
from engine.domain.events import (
    ApprovalRequested,
    ApprovalResolved,
    ArtifactCommitted,
    ArtifactValidated,
    Event,
    PhaseStarted,
    RunCreated,
    RunStarted,
)
from engine.domain.ids import short_id
from engine.store.events import chain_hash
from engine.store.migrate import REVISIONS
from engine.store.snapshot_format import RUN_FORMAT, RUN_TABLES, line_of
from engine.store.tables import GENESIS_HASH

Rows = dict[str, list[dict[str, Any]]]

REPOSITORY = -5
RUN = UUID("01900000-0000-7000-8000-0000000000aa")
REQUEST = UUID("01900000-0000-7000-8000-0000000000bb")
SESSION = UUID("01900000-0000-7000-8000-0000000000cc")
CALL = UUID("01900000-0000-7000-8000-0000000000dd")
BODY = b'{"summary": "It is 42 now."}\n'
SHA = "ab" * 20
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


def made() -> Rows:
    """Return the rows of a run whose first phase was approved and whose second one is under way."""
    catalog = Catalog()
    workflow, persona = catalog.workflow("docs"), catalog.personas()[0]
    first, second = workflow.phases[0].key, workflow.phases[1].key
    hashes = {"template_hash": content_hash(workflow), "input_hash": input_hash("Do it.", "Do it", {"by": "ada"}, {})}
    version = f"{workflow.name}@{workflow.version}"
    digest = sha256_hex(BODY)
    gate = {"phase_key": first, "gate_key": "look", "request_id": str(REQUEST)}
    history: list[Event] = [
        RunCreated(workflow=version, base_sha=SHA, by="ada", **hashes),
        RunStarted(sandbox="bwrap"),
        PhaseStarted(phase_key=first, round=1, role="author", persona=persona.name),
        ArtifactValidated(phase_key=first, round=1, attempt=1, schema_id="dev/spec@1", digest=digest),
        ArtifactCommitted(phase_key=first, round=1, commit=SHA, tree=SHA, digest=digest),
        ApprovalRequested(**gate, round=1, required_approvals=1, digest=digest, commit=SHA),
        ApprovalResolved(**gate, action="approve", by="ada"),
        PhaseStarted(phase_key=second, round=1, role="author", persona=persona.name),
    ]
    mine = {"repository_id": REPOSITORY, "run_id": RUN}
    attempt = {"phase_key": first, "round": 1, "attempt": 1}
    rows: dict[str, list[dict[str, Any]]] = {
        "repositories": [{"repository_id": REPOSITORY, "location": "/srv/answer.git"}],
        "templates": [_stored(workflow)],
        "personas": [_stored(persona)],
        "runs": [mine | {"number": 1, "issue_number": 1, "title": "Do it", "workflow": version}],
        "run_inputs": [mine | {"requirements_md": "Do it.", "objective": "Do it", "metadata": {"by": "ada"}}],
        "bindings": [
            mine
            | {"role": role.id, "persona_name": persona.name, "persona_version": persona.version}
            | {"persona_hash": content_hash(persona), "backend": "openai", "model": "m", "binding_hash": "0" * 64}
            for role in sorted(workflow.roles, key=lambda role: role.id)
        ],
        "phases": [
            mine | {"phase_key": phase.key, "position": position, "state": "pending", "attempts": 0, "round": 1}
            for position, phase in enumerate(workflow.phases)
        ],
        "events": [mine | {"type": event.type, "key": event.key, "payload": event.payload} for event in history],
        "artifacts": [
            mine | attempt | {"path": "out/spec.json", "schema": "dev/spec@1", "body": BODY, "digest": digest}
        ],
        "checks": [mine | attempt | {"name": "tests", "command": "true", "exit_code": 0, "expected": "pass"}],
        "approval_requests": [
            mine
            | {"request_id": REQUEST, "key": f"{RUN}:{first}:look:1", "phase_key": first, "gate_key": "look"}
            | {"round": 1, "state": "approved", "required_approvals": 1}
            | {"bound_digest": digest, "bound_tree": SHA, "commit_sha": SHA}
        ],
        "decisions": [
            {"repository_id": REPOSITORY, "decision_id": CALL, "request_id": REQUEST, "token": "comment:1:0"}
            | {"action": "approve", "by": "ada", "by_id": 7}
        ],
        "agent_sessions": [
            mine
            | {"session_id": SESSION, "phase_key": second, "round": 1, "role": "author", "worktree_token": "t"}
            | {"persona_hash": content_hash(persona), "state": "BUSY", "message_count": 2, "turn_count": 1}
        ],
        "session_messages": [
            {"repository_id": REPOSITORY, "session_id": SESSION, "seq": seq, "message": {"role": role, "content": "…"}}
            for seq, role in enumerate(("user", "assistant"))
        ],
        "prompts": [mine | {"prompt_id": CALL, "session_id": SESSION, "dedup_key": "second:1:envelope"}],
        "ledger": [
            mine
            | {"call_id": CALL, "phase_key": second, "session_id": SESSION, "epoch": 2, "persona_name": "p"}
            | {"persona_version": 1, "backend": "openai", "model": "m", "role": "author", "turn_index": 0}
            | {"status": "settled", "reserved_usd": Decimal("0.5"), "cost_usd": Decimal("0.25")}
        ],
        "tool_calls": [
            mine
            | {"tool_call_id": CALL, "session_id": SESSION, "turn_index": 0, "call_key": "c", "tool": "read_file"}
            | {"arguments": '{"path": "answer.py"}', "status": "ok", "result_excerpt": "def answer():"}
        ],
        "commands": [mine | {"token": "comment:1:0", "command": "approve", "by": "ada"}],
    }
    rows["runs"][0] |= {
        "template_hash": hashes["template_hash"],
        "state": "executing",
        "queue": "advance_run",
        "branch": f"devflow/1-do-it-{short_id(RUN)}",
        "base_branch": "main",
        "base_sha": SHA,
        "head_sha": SHA,
        "epoch": 2,
        "options": {"sandbox": "bwrap"},
        "spent_usd": Decimal("0.25"),
        "llm_call_count": 1,
        "last_ai_message": "…",
        "held": True,
    }
    rows["run_inputs"][0] |= {"extra": {}, "input_hash": hashes["input_hash"]}
    rows["phases"][0] |= {"state": "completed", "attempts": 1, "artifact_digest": digest, "commit_sha": SHA}
    rows["phases"][1] |= {"state": "running", "attempts": 1}
    for table in RUN_TABLES:
        rows[table.name] = [_filled(table.columns, row) for row in rows.get(table.name, [])]
    chain(rows)
    return rows


def chain(rows: Rows) -> None:
    """Number and hash the events as they are now, and have the run end where they end, as a forger would."""
    previous = GENESIS_HASH
    for seq, row in enumerate(rows["events"], start=1):
        row |= {"seq": seq, "prev_hash": previous, "at": AT + timedelta(seconds=seq)}
        row |= {"phase_key": row["payload"].get("phase_key"), "attempt": row["payload"].get("attempt")}
        previous = row["hash"] = chain_hash(row)
    rows["runs"][0] |= {"event_seq": len(rows["events"]), "event_hash": previous}


def packed(rows: Rows, **header: Any) -> bytes:
    """Return the snapshot of these rows, with a digest that fits."""
    known = {"snapshot": RUN_FORMAT, "revision": REVISIONS[-1], "repository_id": REPOSITORY, "run_id": str(RUN)}
    lines = []
    for table in RUN_TABLES:
        ordered = sorted(rows[table.name], key=lambda row, names=table.key: [row[name] for name in names])
        lines += [table.encode(row) for row in ordered]
    return sealed([line_of(known | {"conversations": True} | header), *lines])


def sealed(lines: list[bytes]) -> bytes:
    """Return lines with an end that fits."""
    content = b"".join(lines)
    return content + line_of({"end": {"rows": len(lines) - 1, "digest": hashlib.sha256(content).hexdigest()}})


def _stored(model: Any) -> dict[str, Any]:
    body = canonical_body(model)
    mine = {"repository_id": REPOSITORY, "hash": content_hash(model)}
    return mine | {"name": model.name, "version": model.version, "body": body}


_DEFAULTS: dict[str, Any] = {"Integer": 0, "BigInteger": 0, "Boolean": True, "Text": "", "JSONB": [], "DateTime": AT}


def _filled(columns: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Give every column that is missing NULL where it may be, else nothing, zero or the same time."""
    filled = {}
    for name, column in columns.items():
        kind = type(column.type).__name__
        filled[name] = None if column.nullable else Decimal(0) if kind == "Numeric" else _DEFAULTS.get(kind)
    for name, value in (filled | row).items():
        scale = getattr(columns[name].type, "scale", None)
        filled[name] = value.quantize(Decimal(1).scaleb(-scale)) if isinstance(value, Decimal) else value
    return filled
