"""What a gate asks about, as Markdown for the person who answers it."""

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
from engine.store.runs import get_run

Json = dict[str, Any]


async def pending_document(database: Database, run_id: UUID) -> Json | None:
    """Return the run's pending request with its `markdown`, or None where the run asks nothing."""
    async with database.read() as tx:
        request = await approvals.pending_request(tx, run_id)
        if request is None:
            return None
        run = await get_run(tx, run_id)
        if request["phase_key"] == approvals.OUTSIDE_PHASE:
            markdown = _question(run, request)
        else:
            markdown = await _phase_document(tx, run, request)
        names = ("gate_key", "phase_key", "round", "required_approvals")
        shown = {name: request[name] for name in names}
        return shown | {
            "request_id": str(request["request_id"]),
            "commit": request["commit_sha"],
            "digest": request["bound_digest"],
            "markdown": markdown,
        }


async def _phase_document(tx: Transaction, run: RowMapping, request: RowMapping) -> str:
    phase = await phases.get_phase(tx, run["run_id"], request["phase_key"])
    stored = await phases.current_artifact(tx, run["run_id"], phase)
    lines = []
    if stored is not None and stored["valid"]:
        schema = stored_schema(run["options"], stored["schema"])
        lines += [render_markdown(json.loads(stored["body"]), schema).rstrip(), ""]
    else:
        lines += [f"# Phase {request['phase_key']}", "", "This phase has no artifact; look at the commit.", ""]
    lines.append(f"Commit `{request['commit_sha']}` on branch `{run['branch']}`.")
    if request["bound_digest"]:
        lines += ["", f"Artifact SHA-256 `{request['bound_digest']}`."]
    return "\n".join(lines) + "\n"


def _question(run: RowMapping, request: RowMapping) -> str:
    lines = [f"# {request['gate_key'].replace('_', ' ').capitalize()}", "", neutralise(run["error_message"] or "")]
    if request["gate_key"] == "budget_exceeded":
        spent, cap = views.usd(run["spent_usd"]), views.usd(run["budget_usd"])
        lines += ["", f"Spent: {spent} USD of at most {cap} USD. The work so far is kept.", ""]
        lines += ["Approve with the amount by which the cap may rise, such as `+2.00`, or reject or abort the run."]
    else:
        lines += ["", "Approve to let the phase start a new session; reject or abort ends the run."]
    return "\n".join(lines) + "\n"
