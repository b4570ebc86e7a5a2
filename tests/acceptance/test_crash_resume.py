"""What `devflow resume` finds after a crash, and what it refuses without changing anything."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from engine.store import tables
from engine.store.database import Database
from tests.servers import cluster_of, crash
from tests.support import cassettes
from tests.support.cassettes import call, submit
from tests.support.forked_cli import ForkedCli, until
from tests.support.repositories import commit_files
from tests.support.short_workflow import ROUNDS, TURNS, WORKFLOW, Place
from tests.support.wholeness import assert_whole, only_run, rows_of, snapshot

Json = dict[str, Any]
_KILLED = -signal.SIGKILL


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with the short workflow."""
    return Place(tmp_path)


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Iterator[ForkedCli]:
    """The command, on a data folder and a database of this test alone."""
    opened = ForkedCli(tmp_path, database_url)
    yield opened
    opened.close()


async def _killed_run(place: Place, cli: ForkedCli, database: Database, point: str) -> UUID:
    assert cli.run(*place.run, "--approve", "always", env={"DEVFLOW_FAILPOINT": point}).code == _KILLED
    run_id = await only_run(database)
    assert run_id is not None
    return run_id


def _events(cli: ForkedCli, run_id: UUID, *types: str) -> list[Json]:
    events: list[Json] = cli.run("events", str(run_id), "--json", code=0).json["events"]
    return [event for event in events if event["type"] in types]


async def test_resume_skips_what_is_done_and_keeps_template_and_personas_though_the_files_changed(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    run_id = await _killed_run(place, cli, database, "git_commit.before#2")  # in phase 2; phase 1 is completed
    bound = [dict(row) for row in await rows_of(database, tables.bindings, run_id)]
    changed = WORKFLOW.replace("key: review", "key: other").replace("title: Review", "title: Other")
    broken_persona = "name: recorded-reviewer\nversion: 9\n"
    files = {".devflow/workflows/short.yaml": changed, ".devflow/personas/recorded-reviewer.yaml": broken_persona}
    commit_files(place.repository, files)
    place.cassette.unlink()
    before = snapshot(place.repository)

    resumed = cli.run("resume", str(run_id)[-8:], "--approve", "always", "--json", code=0)

    assert resumed.json["state"] == "completed"
    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)
    assert [dict(row) for row in await rows_of(database, tables.bindings, run_id)] == bound
    (went_on,) = _events(cli, run_id, "run.resumed")
    assert went_on["payload"]["reason"] == "its worker was lost"
    assert [(e["phase_key"], e["payload"]["reason"]) for e in _events(cli, run_id, "phase.skipped")] == [
        ("change", "completed before")
    ]


async def test_a_worktree_that_is_gone_after_a_crash_is_made_anew_with_a_new_session(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    before = snapshot(place.repository)
    run_id = await _killed_run(place, cli, database, "sql_commit.before#20")  # in the middle of phase 1
    worktree = place.data_dir / "workspaces" / str(run_id)
    assert (worktree / "main/answer.py").read_text() == "ANSWER = 43\n"
    for path in sorted(worktree.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    cli.run("resume", str(run_id), "--approve", "always", "--json", code=0)

    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)
    sessions = [event for event in _events(cli, run_id, "session.started") if event["phase_key"] == "change"]
    assert len(sessions) == 3  # two of round 1, one of round 2


async def test_a_process_killed_at_its_gate_leaves_one_request_that_can_still_be_approved(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    before = snapshot(place.repository)
    terminal = cli.terminal(*[word for word in place.run if word != "--json"], "--approve", "ask")
    terminal.expect("Gate change_approval")
    terminal.process.kill()
    run_id = await only_run(database)
    assert run_id is not None

    attached = cli.run("resume", str(run_id), "--approve", "never", "--json", code=0)
    assert attached.json["state"] == "awaiting_approval"
    request = attached.json["pending_request"]
    approved = cli.run("approve", str(run_id), "--as", "grace", "--json", code=0)
    finished = cli.run("resume", str(run_id), "--approve", "always", "--json", code=0)

    assert approved.json["pending_request"] is None
    assert finished.json["state"] == "completed"
    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)
    first, _ = _events(cli, run_id, "approval.requested")
    assert first["payload"]["request_id"] == request["id"]
    resolved = _events(cli, run_id, "approval.resolved")
    assert next(event["payload"]["by"] for event in resolved) == "grace"


async def test_of_two_resumes_at_once_one_executes_and_the_other_says_who_does(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    before = snapshot(place.repository)
    slow = TURNS | {"review/1/1": [[call("run_command", command="sleep 3")], submit(cassettes.CHANGES_REQUESTED)]}
    cassettes.write_cassette(place.cassette, slow)
    run_id = await _killed_run(place, cli, database, "git_push.before#1")
    cli.env["DEVFLOW_HEARTBEAT_SECONDS"] = "0.2"

    processes = [cli.start("resume", str(run_id), "--approve", "always", "--json") for _ in range(2)]
    first, second = sorted((process.wait() for process in processes), key=lambda ended: ended.code)

    assert (first.code, first.json["state"]) == (0, "completed")
    assert second.code == 2
    error = second.json["error"]
    assert error["code"] == "worker_already_running"
    assert str(next(process.pid for process in processes if process.code == 0)) in error["message"]
    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)


async def test_a_missing_report_is_written_by_the_next_command(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    before = snapshot(place.repository)
    run_id = await _killed_run(place, cli, database, "file_write.after#6")

    shown = cli.run("runs", "--json", code=0)

    assert [run["state"] for run in shown.json["runs"]] == ["completed"]
    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)


async def test_what_cannot_be_resumed_is_refused_with_its_code_and_nothing_changes(
    place: Place, cli: ForkedCli, database: Database
) -> None:
    at_gate = cli.run(*place.run, "--approve", "never", code=0)
    run_id = UUID(at_gate.json["run_id"])
    assert at_gate.json["state"] == "awaiting_approval"

    def refused(reference: str = str(run_id)) -> str:
        answer = cli.run("resume", reference, "--approve", "always", "--json", code=2)
        assert set(answer.json) == {"error"}
        return str(answer.json["error"]["code"])

    async def broken(statement: str, restore: str) -> str:
        await _execute(database, statement)
        before = await _everything(database, run_id)
        code = refused()
        assert await _everything(database, run_id) == before
        await _execute(database, restore)
        return code

    reviewer = "name = 'recorded-reviewer'"
    assert (
        await broken(
            f"UPDATE personas SET body = '!' || body WHERE {reviewer}",
            f"UPDATE personas SET body = substr(body, 2) WHERE {reviewer}",
        )
        == "run_metadata_missing"
    )
    assert (
        await broken(
            "UPDATE templates SET body = replace(body, 'low', 'high')",
            "UPDATE templates SET body = replace(body, 'high', 'low')",
        )
        == "template_load_failed"
    )
    assert refused("0123456789abcdef") == "run_not_found"
    cli.run("resume", str(run_id), "--approve", "always", "--json", code=0)
    before = await _everything(database, run_id)
    assert refused() == "run_already_terminal"
    assert await _everything(database, run_id) == before


async def test_a_database_that_is_down_is_never_taken_for_a_run_that_is_not_there(tmp_path: Path) -> None:
    cli = ForkedCli(tmp_path, "postgresql://nobody@127.0.0.1:1/nothing")

    for command in (["resume", "01234567"], ["show", "01234567"], ["approve", "01234567"], ["runs"]):
        answer = cli.run(*command, "--json", code=2)
        assert answer.json["error"]["code"] == "database_unavailable", command


def test_an_embedded_server_that_was_killed_between_two_commands_is_started_by_the_second(
    tmp_path: Path, data_dir: Path
) -> None:
    place = Place(tmp_path)
    cli = ForkedCli(tmp_path, None, {"DEVFLOW_DATA_DIR": str(data_dir)})
    killed = cli.run(*place.run, "--approve", "always", env={"DEVFLOW_FAILPOINT": "git_push.after#1"})
    assert killed.code == _KILLED
    cluster = cluster_of(data_dir)
    until(cluster.running)
    crash(cluster)

    (run,) = cli.run("runs", "--json", code=0).json["runs"]
    resumed = cli.run("resume", run["run_id"], "--approve", "always", "--json", code=0)

    assert resumed.json["state"] == "completed"
    assert cli.run("audit", "verify", run["run_id"], "--json", code=0).json["valid"] is True


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(text(statement))


async def _everything(database: Database, run_id: UUID) -> str:
    """Return what the database says of the run."""
    found = {}
    async with database.read() as tx:
        for table in (tables.runs, tables.phases, tables.events, tables.approval_requests, tables.artifacts):
            rows = await tx.all(select(table).where(table.c.run_id == run_id).order_by(*table.primary_key))
            found[table.name] = [dict(row) for row in rows]
    return json.dumps(found, default=str, sort_keys=True)
