"""A run that goes from one database to another as a snapshot: the same run there, or a clear refusal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import RowMapping, func, select, update

from app.local.remotes import LocalRemotes
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.facade import Engine
from engine.store import deliveries, snapshot, surfaces
from engine.store.agent_tables import agent_sessions, ledger, session_messages, tool_calls
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries as delivery_rows
from engine.store.host_tables import surfaces as surface_rows
from engine.store.snapshot_format import RUN_TABLES
from engine.store.snapshot_reading import Snapshot, read_snapshot
from engine.store.tables import runs
from tests.model_server import Script, calls, serving
from tests.support.cassettes import APPROVED, CHANGE, SPEC, call, submit
from tests.support.engines import House, phase, poll, small_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
BAD_SPEC = {"requirements": [], "acceptance_criteria": ["one"], "approach": 7, "risks": []}
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PHASES = (
    phase("think", "thinker", "dev/spec@1", gates=["look"]),
    phase("build", checks=[{"use": "right"}], gates=["look"]),
    phase("review", "reviewer", "dev/review@1"),
)
TURNS = {
    "think/1/1": [submit(BAD_SPEC)],
    "think/1/2": [submit(SPEC)],
    "think/2/1": [submit(SPEC)],
    "build/1/1": [EDIT, submit(CHANGE)],
    "review/1/1": [submit(APPROVED)],
}
CHECKS = {"right": {"run": "grep -q 42 answer.py"}}


def house_of(folder: Path, database: Database) -> House:
    return small_house(folder, database, *PHASES, checks=CHECKS)


def elsewhere(house: House, database: Database, folder: Path) -> House:
    """Return the same repository with another database and another data folder, as on another machine."""
    settings = replace(house.engine.settings, database_url=str(database.url), data_dir=folder)
    return House(Engine(settings, database, LocalRemotes()), house.repository)


async def far_run(house: House) -> tuple[UUID, RowMapping]:
    """Drive a run through a repair, a revision, a check and a first approval; it waits at its second gate."""
    run_id, _ = await house.run(TURNS)
    await house.answer(run_id, Action.REVISE, note="say more")
    await house.drive(run_id)
    await house.answer(run_id)
    return run_id, await house.drive(run_id)


async def all_rows(database: Database, run_id: UUID) -> dict[str, Any]:
    async with database.read(consistent=True) as tx:
        return rows_of(read_snapshot(await snapshot.export_run(tx, run_id)))


def rows_of(read: Snapshot) -> dict[str, Any]:
    return {layout.name: list(read.rows(layout.name)) for layout in RUN_TABLES}


async def test_a_run_is_the_same_in_another_database(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, run = await far_run(house)
    await house.answer(run_id)
    run = await house.drive(run_id)
    assert run["state"] == "completed", run["error_message"]

    data = await house.engine.export_run(run_id)
    imported = await other.engine.import_run(data)

    assert imported == run_id
    assert await other.engine.export_run(run_id) == data
    assert await other.engine.details(run_id) == await house.engine.details(run_id)
    assert await other.engine.events(run_id) == await house.engine.events(run_id)
    assert await other.engine.report(run_id) == await house.engine.report(run_id)
    assert await other.engine.broken_link(run_id) == (run["event_seq"], None)
    filled = {name for name, rows in rows_of(read_snapshot(data)).items() if rows}
    assert filled >= {"artifacts", "checks", "decisions", "session_messages", "prompts", "ledger", "tool_calls"}


async def test_a_run_at_its_gate_goes_on_in_another_database(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await far_run(house)

    await other.engine.import_run(await house.engine.export_run(run_id))
    await other.answer(run_id)
    run = await other.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    assert git(house.repository, "show", f"{run['branch']}:answer.py") == "def answer():\n    return 42"
    assert await other.engine.broken_link(run_id) == (run["event_seq"], None)


async def test_the_same_run_again_changes_nothing(tmp_path: Path, database: Database, other_database: Database) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await far_run(house)
    data = await house.engine.export_run(run_id)
    silent = await house.engine.export_run(run_id, conversations=False)

    await other.engine.import_run(data)
    await other.engine.import_run(data)
    await other.engine.import_run(silent)

    assert await other.engine.export_run(run_id) == data
    await house.engine.import_run(data)
    assert await house.engine.export_run(run_id) == data


async def test_a_run_that_went_on_is_not_overwritten(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await far_run(house)
    old = await house.engine.export_run(run_id)
    await other.engine.import_run(old)
    await other.answer(run_id, Action.ABORT)
    before = await all_rows(other_database, run_id)

    with pytest.raises(DevflowError, match="another content") as refused:
        await other.engine.import_run(old)

    assert refused.value.code == "snapshot_conflict"
    assert await all_rows(other_database, run_id) == before


async def test_a_run_whose_number_is_taken_is_refused(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id = await house.start(TURNS)
    taken = await other.start(TURNS)

    with pytest.raises(DevflowError, match=f"another run with number 1: {taken}") as refused:
        await other.engine.import_run(await house.engine.export_run(run_id))

    assert refused.value.code == "snapshot_conflict"
    assert [row["run_id"] for row in await other.rows(runs)] == [taken]


async def test_the_next_run_gets_a_number_above_the_imported_one(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    await house.start(TURNS)
    second = await house.start(TURNS)

    await other.engine.import_run(await house.engine.export_run(second))
    third = await other.start(TURNS)

    assert (await other.engine.row(third))["number"] == 3


async def test_an_imported_run_that_another_one_of_its_issue_forbids_is_refused(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    await house.start(TURNS)
    run_id, _ = await house.run(TURNS)
    taken, _ = await other.run(TURNS)
    async with other_database.transaction() as tx:
        issue = (await house.engine.row(run_id))["issue_number"]
        await tx.execute(update(runs).where(runs.c.run_id == taken).values(issue_number=issue))

    with pytest.raises(DevflowError, match="has another run that has not ended"):
        await other.engine.import_run(await house.engine.export_run(run_id))


SCRIPT = Script(
    rules=[
        {"when": "# Phase: Phase think", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]},
        {
            "when": "# Phase: Phase build",
            "turns": [
                calls(("edit_file", {"path": "answer.py", "old": "41", "new": "42"})),
                calls(("submit_artifact", {"artifact": CHANGE})),
            ],
        },
    ],
    faults=[None, None, {"kind": "hang"}],
)


@asynccontextmanager
async def working(house: House, run_id: UUID) -> AsyncIterator[None]:
    """Let a worker work on the run meanwhile."""
    stop = asyncio.Event()
    worker = asyncio.create_task(house.engine.worker(run_id).run(stop))
    try:
        yield
    finally:
        stop.set()
        await worker


async def mid_phase(house: House, run_id: UUID, *, conversations: bool) -> bytes:
    """Return the snapshot of a run whose second phase has done something and waits for its model."""

    async def waits() -> bool | None:
        rows = await house.rows(ledger, ledger.c.phase_key == "build")
        return sorted(row["status"] for row in rows) == ["reserved", "settled"] or None

    async with working(house, run_id):
        await poll(waits)
        return await house.engine.export_run(run_id, conversations=conversations)


@pytest.mark.parametrize("conversations", [True, False])
async def test_a_run_in_mid_phase_is_taken_over_and_completes_elsewhere(
    tmp_path: Path, database: Database, other_database: Database, conversations: bool
) -> None:
    with serving(deepcopy(SCRIPT)) as server:
        house = small_house(tmp_path, database, PHASES[0] | {"gates": []}, phase("build")).served_by(server)
        other = elsewhere(house, other_database, tmp_path / "elsewhere")
        run_id = await house.start()
        data = await mid_phase(house, run_id, conversations=conversations)

        await other.engine.import_run(data)
        assert await other.engine.export_run(run_id, conversations=conversations) == data
        run = await other.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    (resumed,) = await other.events(run_id, "run.resumed")
    assert resumed["payload"]["reason"] == "its worker was lost"
    (lost,) = await other.rows(ledger, ledger.c.status == "unknown")
    assert (lost["cost_usd"], lost["error_code"]) == (lost["reserved_usd"], "fenced")
    assert run["reserved_usd"] == 0
    assert await other.engine.broken_link(run_id) == (run["event_seq"], None)
    assert await other.rows(agent_sessions, agent_sessions.c.state != "CLOSED") == []


async def test_what_a_later_step_did_and_nobody_kept_is_dropped_from_the_branch(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    turns = {"think/1/1": [submit(SPEC)], "build/1/1": [EDIT, submit(CHANGE)]}
    house = small_house(tmp_path, database, PHASES[0], phase("build"))
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await house.run(turns)
    await house.answer(run_id)
    kept = await house.engine.export_run(run_id)
    lost = await house.drive(run_id)

    await other.engine.import_run(kept)
    run = await other.drive(run_id)

    assert (lost["state"], run["state"], run["error_message"]) == ("completed", "completed", None)
    (resumed,) = await other.events(run_id, "run.resumed")
    assert lost["head_sha"] in resumed["payload"]["dropped_commits"]
    assert git(house.repository, "rev-parse", run["branch"]) == run["head_sha"]
    assert not git(house.repository, "branch", "--contains", lost["head_sha"]).strip()


async def test_without_conversations_nothing_that_was_said_is_in_it(tmp_path: Path, database: Database) -> None:
    with serving(deepcopy(SCRIPT)) as server:
        house = small_house(tmp_path, database, PHASES[0] | {"gates": []}, phase("build")).served_by(server)
        run_id = await house.start()
        data = (await mid_phase(house, run_id, conversations=False)).decode()
        said = await house.rows(session_messages)
        done = await house.rows(tool_calls)

    texts = [row["message"].get("content") for row in said] + [row["result_excerpt"] for row in done]
    texts += [row["arguments"] for row in done]
    assert [text for text in texts if text and json.dumps(text)[1:-1] in data] == []
    read = read_snapshot(data.encode())
    assert (list(read.rows("session_messages")), read.run["last_ai_message"]) == ([], None)
    assert list(read.rows("agent_sessions")) == []  # none has ended, and the next step opens a new one
    assert len(list(read.rows("tool_calls"))) == len(done)


async def test_a_run_between_two_steps_is_not_said_to_have_lost_its_worker(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    house = house_of(tmp_path, database)
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await far_run(house)
    await house.answer(run_id)

    await other.engine.import_run(await house.engine.export_run(run_id))
    run = await other.drive(run_id)

    assert run["state"] == "completed"
    assert await other.events(run_id, "run.resumed") == []


async def test_credentials_that_an_agent_came_by_are_not_in_a_snapshot(
    tmp_path: Path, database: Database, other_database: Database
) -> None:
    leak = [call("write_file", path="leak.txt", content=f"token = {TOKEN}\n")]
    look = [call("read_file", path="leak.txt")]
    bad = {"summary": f"See {TOKEN}.", "changes": 7}
    turns = {"build/1/1": [leak, look, submit(bad)], "build/1/2": [EDIT, submit(CHANGE)]}
    house = small_house(tmp_path, database, phase("build"))
    other = elsewhere(house, other_database, tmp_path / "elsewhere")
    run_id, _ = await house.run(turns)
    stored = await house.rows(session_messages)

    data = await house.engine.export_run(run_id)
    await other.engine.import_run(data)

    assert TOKEN in str(stored)
    spoken = [line for line in data.splitlines() if b'"table":"run_inputs"' not in line]
    assert TOKEN.encode() not in b"".join(spoken)
    assert await other.engine.export_run(run_id) == data


async def test_rows_of_a_host_that_belong_to_no_run_travel_by_themselves(
    database: Database, other_database: Database
) -> None:
    new = [NewDelivery(name, "issue_comment", {"x-github-event": "issue_comment"}, b'{"a": 1}') for name in ("b", "a")]
    async with database.transaction() as tx:
        await deliveries.store_many(tx, new)
        for repository_id, key in ((7, "reply/1"), (8, "reply/2")):
            target = {"issue": 3}
            at = (await tx.one(select(func.clock_timestamp().label("at"))))["at"]
            await surfaces.begin(tx, repository_id, key, run_id=None, kind="comment", target=target, at=at)
    async with database.read(consistent=True) as tx:
        data = await snapshot.export_host_rows(tx, 7)

    for _ in range(2):
        async with other_database.transaction() as tx:
            await snapshot.import_host_rows(tx, snapshot.read_host_rows(data, 7))

    async with other_database.read() as tx:
        assert await snapshot.export_host_rows(tx, 7) == data
        assert [row["surface_key"] for row in await tx.all(select(surface_rows))] == ["reply/1"]
        assert {row["delivery_id"] for row in await tx.all(select(delivery_rows))} == {"a", "b"}
    with pytest.raises(DevflowError, match="another repository"):
        snapshot.read_host_rows(data, 8)
