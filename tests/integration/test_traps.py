"""Traps of engines like this one that no other test covers, and the table of all of them in `docs/traps.md`."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine.domain.states import Action
from engine.store.agent_tables import ledger
from engine.store.database import Database
from engine.store.tables import phases
from engine.workspace import publish
from tests.model_server import Script, calls, serving
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import at_rest, phase, small_house
from tests.support.repositories import git

ROOT = Path(__file__).parents[2]
SUBMITS = calls(("submit_artifact", {"artifact": SPEC}))


def think(**more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", **more)


@pytest.mark.parametrize(
    "constraint",
    [
        "ALTER TABLE ledger ADD CONSTRAINT refuse CHECK (model <> 'recorded')",
        "ALTER TABLE artifacts ADD CONSTRAINT refuse CHECK (phase_key <> 'think')",
        "ALTER TABLE events ADD CONSTRAINT refuse CHECK (type <> 'artifact.committed')",
        "ALTER TABLE tool_calls ADD CONSTRAINT refuse CHECK (tool <> 'submit_artifact')",
    ],
    ids=["ledger", "artifacts", "events", "tool_calls"],
)
async def test_a_row_that_cannot_be_written_fails_its_step_and_the_run(
    tmp_path: Path, database: Database, constraint: str
) -> None:
    house = small_house(tmp_path, database, think(), phase("build"))
    async with database.transaction() as tx:
        await tx.execute(text(constraint))

    run_id, run = await house.run({"think/1/1": [submit(SPEC)], "build/1/1": [submit(CHANGE)]})

    assert (run["state"], run["error_code"]) == ("failed", "internal_error")
    assert "refuse" in run["error_message"]
    states = {row["phase_key"]: row["state"] for row in await house.rows(phases, phases.c.run_id == run_id)}
    assert states == {"think": "failed", "build": "skipped"}
    assert await house.events(run_id, "phase.completed", "artifact.validated") == []


async def test_a_run_that_another_worker_drives_is_left_alone(tmp_path: Path, database: Database) -> None:
    with serving(Script(faults=[{"kind": "hang"}])) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        theirs = await house.start()
        stop = asyncio.Event()
        holder = asyncio.create_task(house.engine.worker(theirs).run(stop))
        await house.wait(theirs, lambda row: bool(server.requests))
        before = await house.engine.row(theirs)

        mine = await house.start({"think/1/1": [submit(SPEC)]})
        newcomer = asyncio.create_task(house.engine.worker().run(stop))
        await house.engine.write_missing_reports()
        await house.wait(mine, at_rest)
        during = await house.engine.row(theirs)
        await house.answer(theirs, Action.ABORT)
        await house.wait(theirs, at_rest)
        stop.set()
        await asyncio.gather(holder, newcomer)

    assert len(server.requests) == 1
    same = ("state", "epoch", "lease_worker", "event_seq")
    assert [during[name] for name in same] == [before[name] for name in same]


async def test_a_run_that_was_stopped_for_another_writes_pushes_and_spends_nothing_afterwards(
    tmp_path: Path, database: Database
) -> None:
    script = Script(delay_seconds=0.4)
    script.rules = [{"when": "# Phase", "turns": [*[calls(("list_files", {}))] * 20, SUBMITS]}]
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        old = await house.start()
        driving = asyncio.create_task(house.drive(old))
        await house.wait(old, lambda row: row["llm_call_count"] >= 1)
        await house.answer(old, Action.ABORT, note="the issue was labelled again")
        await driving
        stopped = await house.engine.row(old)
        head = git(house.repository, "rev-parse", stopped["branch"])
        asked = len(server.requests)

        script.rules = [{"when": "# Phase", "turns": [SUBMITS]}]
        new, run = await house.run()

    after = await house.engine.row(old)
    assert (stopped["state"], run["state"]) == ("aborted", "completed")
    assert dict(after) == dict(stopped)
    assert git(house.repository, "rev-parse", stopped["branch"]) == head
    assert len(server.requests) == asked + 1
    begun = next(event for event in await house.events(new, "run.created"))["at"]
    assert all(row["ended_at"].isoformat() < begun for row in await house.rows(ledger, ledger.c.run_id == old))


async def test_a_guard_that_breaks_is_told_apart_from_what_it_finds_and_neither_lets_the_work_through(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = small_house(tmp_path, database, phase("build"))
    key = "ghp_" + "a1B2" * 9
    leak = [call("write_file", path="settings.py", content=f"TOKEN = '{key}'\n")]
    turns = {"build/1/1": [leak, submit(CHANGE)], "build/1/2": [submit(CHANGE)]}

    _, found = await house.run(turns)
    monkeypatch.setattr(publish, "find_secrets", lambda new, old=b"": 1 // 0)
    broken_id, broken = await house.run(turns)

    assert (found["state"], found["error_code"]) == ("failed", "protected_path")
    assert (broken["state"], broken["error_code"]) == ("failed", "internal_error")
    assert key not in str(found["error_message"])
    assert "settings.py" not in git(house.repository, "log", "--all", "--name-only", "--format=")
    assert await house.events(broken_id, "artifact.committed") == []
    assert any("could not be put on the branch" in item for item in (await house.report(broken_id))["unresolved"])


def test_the_table_of_traps_names_a_test_for_each_that_there_is() -> None:
    tests = {
        f"{path.relative_to(ROOT / 'tests')}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    rows = re.findall(r"^\| (\d+) \|[^|]+\|([^|]+)\|$", (ROOT / "docs" / "traps.md").read_text(), re.MULTILINE)
    named = {number: re.findall(r"`([^`]+)`", cell) for number, cell in rows}

    assert list(named) == [str(number) for number in range(1, 36)]
    assert all(named.values())
    assert sorted({name for names in named.values() for name in names} - tests) == []
