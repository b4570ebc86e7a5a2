"""What a gate asks about and what a phase has left, as Markdown for the people who read and answer it."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine import views
from engine.domain.artifact_markdown import render_markdown
from engine.domain.safe_text import neutralise
from engine.runner.plan import stored_schema
from engine.store import approvals, phases
from engine.store.database import Database, Transaction
from engine.store.runs import get_inputs, get_run

Json = dict[str, Any]


async def pending_document(database: Database, run_id: UUID) -> Json | None:
    """Return the run's pending request with its `markdown`, or None where the run asks nothing."""
    async with database.read() as tx:
        request = await approvals.pending_request(tx, run_id)
        return None if request is None else await _document(tx, request)


async def request_document(database: Database, request_id: UUID) -> Json | None:
    """Return any request with its `markdown`, or None where there is no such request."""
    async with database.read() as tx:
        request = await approvals.get_request(tx, request_id)
        return None if request is None else await _document(tx, request)


async def artifact_document(database: Database, run_id: UUID, phase_key: str) -> Json | None:
    """Return the artifact of a phase's current round with its `markdown`, or None where there is no valid one."""
    async with database.read() as tx:
        run = await get_run(tx, run_id)
        rows = [row for row in await phases.list_phases(tx, run_id) if row["phase_key"] == phase_key]
        stored = await phases.current_artifact(tx, run_id, rows[0]) if rows else None
        if stored is None or not stored["valid"]:
            return None
        return {
            "phase_key": phase_key,
            "path": f".devflow/runs/{run_id}/{phase_key}.json",
            "schema": stored["schema"],
            "digest": stored["digest"],
            "commit": stored["commit_sha"],
            "markdown": _rendered(run, stored),
        }


async def _document(tx: Transaction, request: RowMapping) -> Json:
    run = await get_run(tx, request["run_id"])
    metadata = (await get_inputs(tx, request["run_id"]))["metadata"]
    outside = request["phase_key"] == approvals.OUTSIDE_PHASE
    names = ("gate_key", "phase_key", "round", "required_approvals")
    shown = {name: request[name] for name in names}
    return shown | {
        "request_id": str(request["request_id"]),
        "commit": request["commit_sha"],
        "digest": request["bound_digest"],
        "requested_by": metadata.get("requested_by"),
        "markdown": _question(run, request) if outside else await _phase_document(tx, run, request),
    }


async def _phase_document(tx: Transaction, run: RowMapping, request: RowMapping) -> str:
    stored = None
    if request["bound_digest"] is not None:
        stored = await phases.artifact_by_digest(tx, run["run_id"], request["phase_key"], request["bound_digest"])
    lines = []
    if stored is not None:
        lines += [_rendered(run, stored).rstrip(), ""]
    elif request["bound_digest"] is not None:
        lines += [f"# Phase {request['phase_key']}", "", "The artifact has been changed since this was asked.", ""]
    else:
        lines += [f"# Phase {request['phase_key']}", "", "This phase has no artifact; look at the commit.", ""]
    lines.append(f"Commit `{request['commit_sha']}` on branch `{run['branch']}`.")
    if request["bound_digest"]:
        lines += ["", f"Artifact SHA-256 `{request['bound_digest']}`."]
    return "\n".join(lines) + "\n"


def _rendered(run: RowMapping, stored: RowMapping) -> str:
    return render_markdown(json.loads(stored["body"]), stored_schema(run["options"], stored["schema"]))


def _question(run: RowMapping, request: RowMapping) -> str:
    lines = [f"# {request['gate_key'].replace('_', ' ').capitalize()}", "", neutralise(run["error_message"] or "")]
    if request["gate_key"] == "budget_exceeded":
        spent, cap = views.usd(run["spent_usd"]), views.usd(run["budget_usd"])
        lines += ["", f"Spent: {spent} USD of at most {cap} USD. The work so far is kept.", ""]
        lines += ["Approve with the amount by which the cap may rise, such as `+2.00`, or reject or abort the run."]
    else:
        lines += ["", "Approve to let the phase start a new session; reject or abort ends the run."]
    return "\n".join(lines) + "\n"
