"""Runs as the JSON that people and scripts read: pinned shapes, shared by the command line, the API and the report."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine.domain.errors import ERRORS, DevflowError
from engine.store import approvals, ledger, phases
from engine.store.database import Transaction
from engine.store.runs import get_bindings, get_run

Json = dict[str, Any]


def usd(amount: Decimal | None) -> float | None:
    """Return an amount of US dollars as a JSON number; unknown stays null."""
    return None if amount is None else float(round(amount, 6))


def iso(at: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def run_cost(run: RowMapping) -> float | None:
    """Return what the run has cost so far, or null where one of its calls has no known price."""
    return None if run["unpriced_calls"] else usd(run["spent_usd"])


def run_error(run: RowMapping) -> Json | None:
    """Return the error that stopped the run, as the pinned error object."""
    code = run["error_code"]
    if code is None:
        return None
    if code not in ERRORS:  # a person's own pause is no error
        return None
    return DevflowError(code, run["error_message"] or "").to_json()


def run_row(run: RowMapping) -> Json:
    """Return a row of `runs`."""
    return {
        "run_id": str(run["run_id"]),
        "number": run["number"],
        "repository_id": run["repository_id"],
        "issue_number": run["issue_number"],
        "title": run["title"],
        "workflow": run["workflow"],
        "state": run["state"],
        "branch": run["branch"],
        "created_at": iso(run["created_at"]),
        "updated_at": iso(run["updated_at"]),
        "cost_usd": run_cost(run),
    }


async def run_summary(tx: Transaction, run_id: UUID) -> Json:
    """Return the answer of `run` and `resume`."""
    run = await get_run(tx, run_id)
    pending = await approvals.pending_request(tx, run_id)
    return {
        "run_id": str(run_id),
        "number": run["number"],
        "state": run["state"],
        "branch": run["branch"],
        "base_sha": run["base_sha"],
        "head_sha": run["head_sha"],
        "report_path": run["final_report_path"],
        "cost_usd": run_cost(run),
        "total_tokens": run["total_tokens"],
        "llm_call_count": run["llm_call_count"],
        "pending_request": None if pending is None else await _request(tx, pending),
        "error": run_error(run),
    }


async def run_details(tx: Transaction, run_id: UUID) -> Json:
    """Return the answer of `show`."""
    run = await get_run(tx, run_id)
    totals = await ledger.totals(tx, run["repository_id"], run_id)
    return run_row(run) | {
        "paused_from_state": run["paused_from_state"],
        "base_branch": run["base_branch"],
        "base_sha": run["base_sha"],
        "head_sha": run["head_sha"],
        "budget_usd": usd(run["budget_usd"]),
        "phases": [_phase(row) for row in await phases.list_phases(tx, run_id)],
        "artifacts": [_artifact(row) for row in await phases.list_artifacts(tx, run_id)],
        "approvals": [await _request(tx, row) for row in await approvals.list_requests(tx, run_id)],
        "checks": [_check(row) for row in await phases.list_checks(tx, run_id)],
        "bindings": [
            {
                "role": row["role"],
                "persona": row["persona_name"],
                "version": row["persona_version"],
                "backend": row["backend"],
                "model": row["model"],
            }
            for row in await get_bindings(tx, run_id)
        ],
        "ledger": totals | {"cost_usd": usd(totals["cost_usd"])},
        "sandbox": run["sandbox"],
        "report_path": run["final_report_path"],
        "last_ai_message": run["last_ai_message"],
        "error": run_error(run),
    }


def event_row(row: RowMapping) -> Json:
    """Return one event."""
    return {
        "seq": row["seq"],
        "type": row["type"],
        "at": iso(row["at"]),
        "phase_key": row["phase_key"],
        "attempt": row["attempt"],
        "payload": row["payload"],
        "prev_hash": row["prev_hash"],
        "hash": row["hash"],
    }


def _phase(row: RowMapping) -> Json:
    return {
        "key": row["phase_key"],
        "state": row["state"],
        "attempts": row["attempts"],
        "round": row["round"],
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
    }


def _artifact(row: RowMapping) -> Json:
    return {
        "phase_key": row["phase_key"],
        "path": row["path"],
        "schema": row["schema"],
        "digest": row["digest"],
        "commit": row["commit_sha"],
        "valid": row["valid"],
        "errors": row["errors"],
    }


def _check(row: RowMapping) -> Json:
    return {
        "phase_key": row["phase_key"],
        "name": row["name"],
        "command": row["command"],
        "exit_code": row["exit_code"],
        "expected": row["expected"],
        "seconds": float(row["seconds"]),
    }


async def _request(tx: Transaction, row: RowMapping) -> Json:
    return {
        "id": str(row["request_id"]),
        "gate_key": row["gate_key"],
        "phase_key": row["phase_key"],
        "state": row["state"],
        "round": row["round"],
        "required_approvals": row["required_approvals"],
        "bound_digest": row["bound_digest"],
        "bound_tree": row["bound_tree"],
        "commit": row["commit_sha"],
        "decisions": [
            {
                "by": item["by"],
                "by_id": item["by_id"],
                "action": item["action"],
                "note": item["note"],
                "at": iso(item["at"]),
            }
            for item in await approvals.list_decisions(tx, row["request_id"])
        ],
    }
