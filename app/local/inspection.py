"""What the commands do that only look: list, show, events, validate, doctor."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from app.local import console, timeline
from app.local.remotes import LocalRemotes
from engine.domain.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED
from engine.domain.ids import short_id
from engine.domain.states import RunState
from engine.facade import Engine
from engine.health import examine
from engine.settings import Settings
from engine.validate import read_tree, validate_files

_POLL_SECONDS = 0.5


async def runs(settings: Settings, state: RunState | None, as_json: bool) -> int:
    """List runs."""
    async with Engine.open(settings, LocalRemotes()) as engine:
        rows = await engine.list_runs(state)
    if as_json:
        console.emit_json({"runs": rows})
        return EXIT_OK
    if not rows:
        console.tell("No runs yet. Start one: devflow run --repo PATH --issue FILE")
        return EXIT_OK
    table = _table("run", "number", "workflow", "state", "cost", "started", "title")
    for row in rows:
        cost = "unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.4f}"
        started = datetime.fromisoformat(row["created_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
        title = console.plain(row["title"])
        table.add_row(row["run_id"][-8:], str(row["number"]), row["workflow"], row["state"], cost, started, title)
    console.out.print(table)
    return EXIT_OK


async def show(settings: Settings, reference: str, as_json: bool) -> int:
    """Show one run."""
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        details = await engine.details(run_id)
        asked = await engine.pending_document(run_id)
    if as_json:
        console.emit_json(details)
        return EXIT_OK
    for name in ("title", "workflow", "state", "branch", "base_sha", "head_sha", "sandbox", "report_path"):
        if details[name]:
            console.tell(f"{name.replace('_', ' ') + ':':<12} {details[name]}")
    ledger = details["ledger"]
    cost = "unknown" if ledger["cost_usd"] is None else f"{ledger['cost_usd']:.4f} USD"
    cap = "" if details["budget_usd"] is None else f" of at most {details['budget_usd']:.2f}"
    tokens = f"{ledger['input_tokens']} + {ledger['output_tokens']} tokens"
    console.tell(f"{'cost:':<12} {cost}{cap}, {tokens} in {console.count(ledger['calls'], 'call')}")
    _show_phases(details)
    for request in details["approvals"]:
        answers = ", ".join(f"{item['action']} by {item['by']}" for item in request["decisions"]) or "no answer yet"
        where = "" if request["phase_key"] == "-" else f" of {request['phase_key']}"
        console.tell(f"gate {request['gate_key']}{where} ({request['state']}): {answers}")
    if details["error"]:
        console.tell(f"error: {details['error']['code']}: {details['error']['message']}")
        console.tell(f"next:  {details['error']['recovery_hint'].replace('RUN', short_id(run_id))}")
    if asked is not None:
        console.show_markdown(asked["markdown"], to=console.out)
        words = "approve|reject|abort" if asked["phase_key"] == "-" else "approve|revise|reject|abort"
        console.tell(f"answer: devflow {words} {short_id(run_id)}")
    return EXIT_OK


def _show_phases(details: dict[str, Any]) -> None:
    table = _table("phase", "state", "round", "attempts", "checks")
    for phase in details["phases"]:
        checks = [
            f"{item['name']}: {'timeout' if item['exit_code'] is None else item['exit_code']}"
            for item in details["checks"]
            if item["phase_key"] == phase["key"]
        ]
        table.add_row(phase["key"], phase["state"], str(phase["round"]), str(phase["attempts"]), ", ".join(checks))
    console.out.print(table)
    for item in details["bindings"]:
        console.tell(
            f"{item['role'] + ':':<12} {item['persona']}@{item['version']}, {item['backend']}, {item['model']}"
        )


async def events(settings: Settings, reference: str, follow: bool, as_json: bool) -> int:
    """Print a run's events, and with `follow` those that are still to come."""
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        if not follow and as_json:
            console.emit_json({"events": await engine.events(run_id)})
            return EXIT_OK
        seen = 0
        while True:
            run = await engine.row(run_id)
            for event in await engine.events(run_id, seen):
                seen = event["seq"]
                if as_json:
                    console.emit_json_line(event)
                else:
                    text = timeline.line(event, run["created_at"])
                    if text is not None:
                        console.tell(text)
            ended = RunState(run["state"]).terminal and run["final_report_path"] and seen >= run["event_seq"]
            if ended or not follow:
                return EXIT_OK
            await asyncio.sleep(_POLL_SECONDS)


async def validate(path: Path, as_json: bool) -> int:
    """Check the files of a repository that Devflow reads."""
    files = read_tree(path)
    problems = validate_files(files)
    if as_json:
        rows = [
            {"file": p.file, "line": p.line, "where": p.where, "found": p.found, "allowed": p.allowed} for p in problems
        ]
        console.emit_json({"files": sorted(files), "problems": rows})
    elif problems:
        for problem in problems:
            console.tell(str(problem))
    else:
        console.tell(
            f"{len(files)} file(s) checked, no problems."
            if files
            else "No Devflow files here; the built-in ones apply."
        )
    return EXIT_REFUSED if problems else EXIT_OK


async def doctor(settings: Settings, as_json: bool) -> int:
    """Examine this machine."""
    findings = await examine(settings)
    if as_json:
        console.emit_json({"findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            console.tell(f"{'ok  ' if finding.ok else 'LACK'}  {finding.name}: {finding.text}")
    return EXIT_OK if all(finding.ok for finding in findings if finding.needed) else EXIT_FAILED


async def consent_list(settings: Settings, as_json: bool) -> int:
    """List all consents."""
    async with Engine.open(settings, LocalRemotes()) as engine:
        rows = await engine.consents.list()
    if as_json:
        console.emit_json({"consents": rows})
        return EXIT_OK
    if not rows:
        console.tell("Nobody has consented to a persona yet.")
    for row in rows:
        state = f"revoked {row['revoked_at']}" if row["revoked_at"] else "in force"
        where = row["repository"] or row["repository_id"]
        console.tell(f"{row['persona']} ({row['persona_hash'][:12]}) for {where}: by {row['by']}, {state}")
    return EXIT_OK


async def db_upgrade(settings: Settings, as_json: bool) -> int:
    """Bring the database up to this version; opening the engine does it."""
    async with Engine.open(settings, LocalRemotes()):
        pass
    if as_json:
        console.emit_json({"upgraded": True})
    else:
        console.tell("The database is up to date.")
    return EXIT_OK


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
