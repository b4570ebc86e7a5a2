"""Several runs, starts and readers at once: nothing of a run lives on the engine, and the database is the truth."""

import asyncio
from pathlib import Path
from typing import Any

from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.store.database import Database
from engine.store.tables import personas, runs, templates
from tests.model_server import Script, calls, serving
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import House, at_rest, phase, small_house
from tests.support.repositories import git

SMALL: list[dict[str, Any]] = [phase("think", "thinker", "dev/spec@1"), phase("build")]


def turns(text: str) -> dict[str, Any]:
    edit = [call("write_file", path="answer.py", content=text)]
    return {"think/1/1": [submit(SPEC)], "build/1/1": [edit, submit(CHANGE)]}


async def test_two_runs_at_once_on_one_engine_and_one_worker_do_not_mix(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, *SMALL)
    ids = [await house.start(turns(text), issue=f"# Say {text}") for text in ("one", "two")]
    stop = asyncio.Event()
    worker = asyncio.create_task(house.engine.worker().run(stop))
    try:
        done = await asyncio.gather(*(house.wait(run_id, at_rest) for run_id in ids))
    finally:
        stop.set()
        await worker

    assert [row["state"] for row in done] == ["completed", "completed"]
    contents = [git(house.repository, "show", f"{row['branch']}:answer.py") for row in done]
    assert contents == ["one", "two"]
    for run_id in ids:
        shown = await house.engine.details(run_id)
        assert [item["phase_key"] for item in shown["artifacts"]] == ["think", "build"]
        assert shown["ledger"]["calls"] == 3
        assert (await house.engine.broken_link(run_id))[1] is None


async def test_ten_first_starts_together_all_pass_and_share_their_template(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, *SMALL)

    ids = await asyncio.gather(*(house.start(turns("x")) for _ in range(10)))

    assert len(set(ids)) == 10
    assert sorted(row["number"] for row in await house.rows(runs)) == list(range(1, 11))
    assert len(await house.rows(templates)) == 1
    names = sorted(row["name"] for row in await house.rows(personas))
    assert names == ["recorded-author", "recorded-reviewer"]


async def test_the_same_workflow_twice_on_one_database_gives_two_runs_that_are_alike(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, *SMALL)

    (first, one), (second, two) = [await house.run(turns("x")) for _ in range(2)]

    assert (one["state"], two["state"]) == ("completed", "completed")
    kinds = [[event["type"] for event in await house.events(run_id)] for run_id in (first, second)]
    assert kinds[0] == kinds[1]
    assert one["branch"] != two["branch"]


async def test_what_another_process_has_done_is_what_a_read_shows(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    house = small_house(tmp_path, database, *SMALL)
    run_id = await house.start(turns("x"))
    assert (await house.engine.summary(run_id))["state"] == "created"
    theirs = Database(database_url)
    try:
        other = House(Engine(house.engine.settings, theirs, LocalRemotes()), house.repository)
        await other.drive(run_id)
    finally:
        await theirs.close()

    assert (await house.engine.summary(run_id))["state"] == "completed"
    assert (await house.engine.list_runs())[0]["state"] == "completed"


async def test_two_workers_of_one_run_ask_each_model_turn_once(tmp_path: Path, database: Database) -> None:
    script = Script(delay_seconds=0.3)
    script.rules = [
        {"when": "Phase think", "turns": [calls(("list_files", {})), calls(("submit_artifact", {"artifact": SPEC}))]},
        {"when": "Phase build", "turns": [calls(("submit_artifact", {"artifact": CHANGE}))]},
    ]
    with serving(script) as server:
        house = small_house(tmp_path, database, *SMALL).served_by(server)
        run_id = await house.start()
        stop = asyncio.Event()
        workers = [asyncio.create_task(house.engine.worker().run(stop)) for _ in range(2)]
        try:
            run = await house.wait(run_id, at_rest)
        finally:
            stop.set()
            await asyncio.gather(*workers)

    assert run["state"] == "completed"
    assert (len(server.requests), run["llm_call_count"], run["epoch"]) == (3, 3, 1)
    assert len(await house.events(run_id, "run.started", "session.started")) == 3
