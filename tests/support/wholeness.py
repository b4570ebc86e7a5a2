"""What must hold of a run that has completed, however often its process was killed on the way."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator
from sqlalchemy import select

import engine
from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.settings import Settings
from engine.store import agent_tables, tables
from engine.store.database import Database
from tests.support.repositories import git

Json = dict[str, Any]

_REPORT_SCHEMA = Path(engine.__file__).parent / "builtin/schemas/devflow/report.json"
_ONCE_A_RUN = ("run.created", "run.started", "run.completed", "report.written")
_ONCE_A_ROUND = ("phase.started", "phase.completed", "artifact.validated", "artifact.committed")


async def only_run(database: Database) -> UUID | None:
    """Return the id of the one run that the database has, or None where it has none."""
    async with database.transaction() as tx:
        rows = await tx.all(select(tables.runs.c.run_id))
    assert len(rows) <= 1
    return rows[0]["run_id"] if rows else None


async def rows_of(database: Database, table: Any, run_id: UUID) -> list[Any]:
    """Return all rows of one run."""
    async with database.transaction() as tx:
        return await tx.all(select(table).where(table.c.run_id == run_id))


def snapshot(repository: Path) -> dict[str, str]:
    """Return what a person sees of their own checkout."""
    return {
        "head": git(repository, "symbolic-ref", "HEAD"),
        "commit": git(repository, "rev-parse", "HEAD"),
        "status": git(repository, "status", "--porcelain", "--ignored"),
        "worktrees": git(repository, "worktree", "list", "--porcelain"),
        "config": (repository / ".git/config").read_text(),
    }


async def assert_whole(
    database: Database,
    data_dir: Path,
    repository: Path,
    run_id: UUID,
    rounds: list[tuple[str, int]],
    before: dict[str, str],
) -> None:
    """Assert that the run is completed with one commit for each of `rounds` (phase, round) and nothing left over."""
    settings = Settings(data_dir=data_dir, database_url=database.url)
    opened = Engine(settings, database, LocalRemotes())
    details = await opened.details(run_id)
    assert (details["state"], details["error"]) == ("completed", None)
    row = await opened.row(run_id)
    assert row["lease_worker"] is None
    assert row["requested_action"] is None
    _assert_events(await opened.events(run_id), rounds)
    assert (await opened.broken_link(run_id))[1] is None
    await _assert_rows(database, run_id, row)
    _assert_branch(repository, details, run_id, [key for key, _ in rounds])
    assert snapshot(repository) == before
    _assert_report(details, run_id, repository)
    assert {phase["state"] for phase in details["phases"]} == {"completed"}
    assert not [request for request in details["approvals"] if request["state"] == "pending"]
    assert not (data_dir / "workspaces" / str(run_id)).exists()
    mirror = data_dir / "mirrors" / f"{row['repository_id']}.git"
    assert not (mirror / "worktrees" / str(run_id)).exists()
    assert not [path for path in mirror.iterdir() if path.name.startswith("index") or path.suffix == ".lock"]


def _assert_events(events: list[Json], rounds: list[tuple[str, int]]) -> None:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    times = Counter(event["type"] for event in events)
    assert {name: times[name] for name in _ONCE_A_RUN} == dict.fromkeys(_ONCE_A_RUN, 1)
    for name in _ONCE_A_ROUND:
        if name == "phase.completed":
            continue
        found = [(event["phase_key"], event["payload"]["round"]) for event in events if event["type"] == name]
        assert found == rounds, name
    completed = [(e["phase_key"], e["payload"]["round"]) for e in events if e["type"] == "phase.completed"]
    assert len(completed) == len(set(completed))
    assert {key for key, _ in completed} == {key for key, _ in rounds}
    checks = [
        (event["phase_key"], event["payload"]["round"], event["attempt"], event["payload"]["name"])
        for event in events
        if event["type"] == "check.finished"
    ]
    assert len(checks) == len(set(checks))
    requested = [event["payload"]["request_id"] for event in events if event["type"] == "approval.requested"]
    resolved = [event["payload"]["request_id"] for event in events if event["type"] == "approval.resolved"]
    assert requested == resolved
    assert len(requested) == len(set(requested))


async def _assert_rows(database: Database, run_id: UUID, row: Any) -> None:
    calls = await rows_of(database, agent_tables.ledger, run_id)
    assert {call["status"] for call in calls} <= {"settled", "unknown", "failed"}
    assert row["reserved_usd"] == 0
    ran = [call for call in calls if call["status"] != "failed"]
    assert row["llm_call_count"] == len(ran)
    assert row["spent_usd"] == sum(call["cost_usd"] or 0 for call in ran)
    tool_calls = await rows_of(database, agent_tables.tool_calls, run_id)
    keys = [(call["session_id"], call["turn_index"], call["call_key"]) for call in tool_calls]
    assert len(keys) == len(set(keys))


def _assert_branch(repository: Path, details: Json, run_id: UUID, phases: list[str]) -> None:
    branches = git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == sorted(["main", details["branch"]])
    assert git(repository, "rev-parse", details["branch"]) == details["head_sha"]
    trailers = [f"%(trailers:key=Devflow-{name},valueonly,separator=%x2C)" for name in ("Run", "Phase", "Epoch")]
    line_format = "%x09".join(["%H", "%P", *trailers])
    span = f"{details['base_sha']}..{details['branch']}"
    commits = [
        line.split("\t") for line in git(repository, "log", "--reverse", f"--format={line_format}", span).split("\n")
    ]
    previous = details["base_sha"]
    epoch = 0
    for sha, parents, run, _, its_epoch in commits:
        assert parents == previous
        assert run == str(run_id)
        assert int(its_epoch) >= epoch
        previous, epoch = sha, int(its_epoch)
    assert [commit[3] for commit in commits] == [*phases, "report"]
    recorded = {artifact["commit"] for artifact in details["artifacts"] if artifact["valid"]}
    assert recorded == {commit[0] for commit in commits[:-1]}


def _assert_report(details: Json, run_id: UUID, repository: Path) -> None:
    path = Path(details["report_path"])
    assert path.is_file()
    report = json.loads(path.with_name("report.json").read_bytes())
    Draft202012Validator(json.loads(_REPORT_SCHEMA.read_bytes())).validate(report)
    on_branch = json.loads(git(repository, "show", f"{details['head_sha']}:.devflow/runs/{run_id}/report.json"))
    assert on_branch == report
    assert (report["status"], report["error"]) == ("completed", None)
    shown = {name: details["ledger"][name] for name in ("calls", "cost_usd")}
    assert {name: report["cost"][name] for name in shown} == shown
    assert [(phase["key"], phase["state"]) for phase in report["phases"]] == [
        (phase["key"], phase["state"]) for phase in details["phases"]
    ]
