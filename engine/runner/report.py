"""The final report: every run that ends gets one, as JSON (`devflow/report@1`) and as Markdown for people."""

import json
from typing import Any
from uuid import UUID

from engine import views
from engine.domain.artifact import artifact_bytes
from engine.domain.safe_text import neutralise, strip_hidden
from engine.domain.states import PhaseState
from engine.store import events, phases
from engine.store.database import Transaction
from engine.store.runs import get_inputs, get_run
from engine.workspace.secrets import redact_json

REPORT_SCHEMA = "devflow/report@1"
_LAST_EVENTS = 20

Json = dict[str, Any]


async def build_report(tx: Transaction, run_id: UUID) -> Json:
    """Return the report of a run as it stands, from the store alone."""
    run = await get_run(tx, run_id)
    details = await views.run_details(tx, run_id)
    report = {
        "run_id": str(run_id),
        "number": run["number"],
        "repository_id": run["repository_id"],
        "issue_number": run["issue_number"],
        "title": run["title"],
        "workflow": run["workflow"],
        "template_hash": run["template_hash"],
        "status": run["state"],
        "branch": run["branch"],
        "base_sha": run["base_sha"],
        "phases": details["phases"],
        "artifacts": [
            {name: row[name] for name in ("phase_key", "path", "schema", "digest", "commit", "valid")}
            for row in details["artifacts"]
        ],
        "approvals": details["approvals"],
        "checks": [_check(row) for row in await phases.list_checks(tx, run_id)],
        "bindings": details["bindings"],
        "cost": details["ledger"] | {"budget_usd": details["budget_usd"]},
        "sandbox": run["sandbox"],
        "events": [
            {name: row[name] for name in ("seq", "type", "at", "phase_key", "attempt", "payload")}
            for row in map(views.event_row, await events.latest(tx, run_id, _LAST_EVENTS))
        ],
        "unresolved": await _unresolved(tx, run_id),
        "error": details["error"],
        "ended_at": views.iso(run["ended_at"]),
    }
    # what an error, a note or an output may have taken along
    redacted: Json = redact_json(report)
    return redacted


def report_bytes(report: Json) -> bytes:
    """Return the report as it is published: like an artifact."""
    return artifact_bytes(report)


def report_markdown(report: Json) -> bytes:
    """Return the report for people; whatever an agent or an issue wrote is neutralised."""
    lines = [f"# Run {report['number']}: {neutralise(report['title'])}", ""]
    lines += [f"**{report['status']}**, workflow {report['workflow']}, branch `{report['branch']}`", ""]
    if report["error"]:
        error = report["error"]
        lines += [f"**{error['code']}**: {neutralise(error['message'])}", ""]
        if report["repository_id"] < 0:  # the hints name commands of the terminal; a host says what fits there
            lines += [f"Next: {neutralise(error['recovery_hint'])}", ""]
    lines += ["## Phases", "", "| phase | state | round | attempts | started | ended |", "|---|---|---|---|---|---|"]
    for phase in report["phases"]:
        lines.append(
            f"| {phase['key']} | {phase['state']} | {phase['round']} | {phase['attempts']} "
            f"| {_minute(phase['started_at'])} | {_minute(phase['ended_at'])} |"
        )
    lines += ["", "## Checks", ""]
    if report["checks"]:
        lines += ["| phase | check | command | exit code | expected | seconds |", "|---|---|---|---|---|---|"]
        for check in report["checks"]:
            code = "timeout" if check["exit_code"] is None else check["exit_code"]
            lines.append(
                f"| {check['phase_key']} | {check['name']} | {_cell(check['command'])} | {code} "
                f"| {check['expected']} | {check['seconds']} |"
            )
        failing = [check for check in report["checks"] if not check["met"]]
        for check in failing[-2:]:
            lines += ["", f"Output of {check['name']} in {check['phase_key']}:", ""]
            lines += ["    " + line for line in strip_hidden(check["output_tail"]).splitlines()[-40:]]
    else:
        lines.append("No checks were run.")
    lines += ["", "## Decisions", ""]
    decided = [(request, item) for request in report["approvals"] for item in request["decisions"]]
    for request, item in decided:
        note = f": {neutralise(item['note'])}" if item["note"] else ""
        lines.append(
            f"- {request['phase_key']} / {request['gate_key']}: {item['action']} by {neutralise(item['by'])}{note}"
        )
    if not decided:
        lines.append("Nobody was asked.")
    cost = report["cost"]
    amount = "unknown" if cost["cost_usd"] is None else f"{cost['cost_usd']:.4f} USD"
    lines += ["", "## Cost", "", f"{amount} in {cost['calls']} model calls."]
    lines += ["", "## Personas", ""]
    for item in report["bindings"]:
        model = (
            "replay (recorded)" if item["backend"] == "replay" else f"{item['backend']}, {neutralise(item['model'])}"
        )
        lines.append(f"- {item['role']}: {item['persona']}, {model}")
    lines += ["", "## Confinement", "", _confinement(report["sandbox"])]
    if report["unresolved"]:
        lines += ["", "## Unresolved", ""]
        lines += [f"- {neutralise(str(item))}" for item in report["unresolved"]]
    return ("\n".join(lines) + "\n").encode()


async def _unresolved(tx: Transaction, run_id: UUID) -> list[str]:
    run = await get_run(tx, run_id)
    inputs = await get_inputs(tx, run_id)
    found = []
    for row in await phases.approved_artifacts(tx, run_id):
        found += _artifact_unresolved(row["body"])
    options = run["options"]
    if not options["checks"]:
        found.append("no checks")
    elif options["checks_detected"]:
        found.append(f"checks were detected, not configured: {', '.join(options['checks'])}")
    if run["sandbox"] == "none":
        found.append("commands ran without a sandbox, because the operator said so")
    if run["unpriced_calls"]:
        found.append(f"the cost is unknown: {run['unpriced_calls']} model calls have no known price")
    for phase in await phases.list_phases(tx, run_id):
        if phase["state"] in (PhaseState.SKIPPED, PhaseState.FAILED):
            found.append(f"phase {phase['phase_key']} was not completed")
    if inputs["metadata"].get("identity") == "local":
        found.append("the people in this report are not authenticated: the run was local")
    return list(dict.fromkeys(found))


def _artifact_unresolved(body: bytes) -> list[str]:
    items = json.loads(body).get("unresolved", [])
    return [str(item) for item in items] if isinstance(items, list) else []


def _check(row: Any) -> Json:
    names = ("phase_key", "name", "command", "exit_code", "expected", "met", "output_tail", "round", "attempt")
    return {name: row[name] for name in names} | {"seconds": float(row["seconds"])}


def _minute(at: str | None) -> str:
    return "" if at is None else at[:16].replace("T", " ")


def _cell(text: str) -> str:
    return neutralise(" ".join(text.split()))


def _confinement(sandbox: str | None) -> str:
    if sandbox == "none":
        return "**None.** Commands ran with this machine's files and network in reach."
    return f"Commands ran in a sandbox ({sandbox})." if sandbox else "No command was run."
