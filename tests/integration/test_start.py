"""Starting a run: what is wrong is found before a row exists, and what is right is frozen with it."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, text, update
from sqlalchemy.exc import DBAPIError

from engine.domain.errors import DevflowError
from engine.start import title_of
from engine.store.database import Database
from engine.store.tables import events, personas, run_inputs, runs, templates
from tests.model_server import Script, calls, serving
from tests.rows import queued
from tests.support.cassettes import SPEC, submit
from tests.support.engines import ISSUE, House, phase, small_house
from tests.support.repositories import git

TURNS: dict[str, Any] = {"think/1/1": [submit(SPEC)]}


def think(**more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", **more)


async def nothing_is_there(house: House) -> bool:
    rows = [await house.rows(table) for table in (runs, events, templates, personas)]
    return (
        not any(rows)
        and not await queued(house.database)
        and git(house.repository, "branch", "--list", "devflow*") == ""
    )


@pytest.mark.parametrize(
    "path", ["../x.json", "/etc/x.json", ".git/x.json", ".github/x.json", ".devflow/runs/x.json", "a/../../x.json"]
)
async def test_an_artifact_path_that_leaves_the_worktree_is_refused_before_a_run_exists(
    tmp_path: Path, database: Database, path: str
) -> None:
    house = small_house(tmp_path, database, think(expected_artifact={"path": path, "schema": "dev/spec@1"}))

    with pytest.raises(DevflowError) as caught:
        await house.start(TURNS)

    assert caught.value.code == "config_invalid"
    assert await nothing_is_there(house)


async def test_a_schema_that_is_missing_is_refused_before_the_first_call(tmp_path: Path, database: Database) -> None:
    missing = {"path": "out/think.json", "schema": "dev/nothing@1"}
    with serving(Script()) as server:
        house = small_house(tmp_path, database, think(expected_artifact=missing)).served_by(server)
        with pytest.raises(DevflowError) as caught:
            await house.start()

    assert caught.value.code in ("schema_not_found", "config_invalid")
    assert "dev/nothing@1" in caught.value.message
    assert server.requests == []
    assert await nothing_is_there(house)


async def test_a_cap_with_an_unknown_price_is_refused_before_the_first_call(tmp_path: Path, database: Database) -> None:
    with serving(Script()) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        with pytest.raises(DevflowError) as caught:
            await house.start(budget_usd=Decimal(1))

    assert caught.value.code == "price_unknown"
    assert server.requests == []
    assert await nothing_is_there(house)


async def test_an_unknown_price_without_a_cap_is_shown_as_unknown(tmp_path: Path, database: Database) -> None:
    script = Script(rules=[{"when": "# Phase", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]}])
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    shown = await house.engine.details(run_id)
    report = await house.report(run_id)
    assert [shown["cost_usd"], shown["ledger"]["cost_usd"], report["cost"]["cost_usd"]] == [None, None, None]
    assert "the cost is unknown: 1 model calls have no known price" in report["unresolved"]


async def test_everything_that_a_run_goes_by_is_stored_with_it(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), checks={"unit": {"run": "true"}})

    run_id = await house.start(TURNS)

    (run,) = await house.rows(runs)
    (inputs,) = await house.rows(run_inputs)
    (template,) = await house.rows(templates)
    assert (run["state"], run["number"], run["issue_number"]) == ("created", 1, 1)
    assert run["repository_id"] < 0
    assert run["title"] == "The answer is wrong"
    assert run["branch"] == f"devflow/1-the-answer-is-wrong-{run_id.hex[-8:]}"
    assert run["base_sha"] == git(house.repository, "rev-parse", "main")
    assert inputs["requirements_md"] == ISSUE
    assert inputs["objective"] == "The answer is wrong"
    frozen = {name: inputs[name] for name in ("requirements_md", "objective", "metadata", "extra")}
    text = json.dumps(frozen, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert inputs["input_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert template["hash"] == run["template_hash"] == hashlib.sha256(template["body"].encode()).hexdigest()
    assert run["options"]["checks"]["unit"]["run"] == "true"
    assert list(run["options"]["schemas"]) == ["dev/spec@1"]
    (created,) = await house.events(run_id, "run.created")
    assert (created["seq"], created["payload"]["by"]) == (1, "ada")
    assert len(await queued(database)) == 1


async def test_runs_are_numbered_by_repository_and_listed_newest_first(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    ids = [await house.start(TURNS) for _ in range(3)]

    listed = await house.engine.list_runs()

    assert [row["run_id"] for row in listed] == [str(run_id) for run_id in reversed(ids)]
    assert [row["number"] for row in listed] == [3, 2, 1]
    assert len(await house.rows(templates)) == 1


async def test_runs_of_the_same_moment_are_listed_by_their_number(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    for _ in range(3):
        await house.start(TURNS)
    async with database.transaction() as tx:
        await tx.execute(update(runs).values(created_at=func.now()))

    assert [row["number"] for row in await house.engine.list_runs()] == [3, 2, 1]


async def test_a_start_that_fails_at_its_last_step_leaves_nothing(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE phases ADD CONSTRAINT refuse CHECK (phase_key <> 'think')"))

    with pytest.raises(DBAPIError, match="refuse"):
        await house.start(TURNS)

    assert await nothing_is_there(house)


@pytest.mark.parametrize(
    ("issue", "title"),
    [
        ("# A title\n\nbody", "A title"),
        ("first line\n\n## A heading further down ##\n", "A heading further down"),
        ("\n\n  just   text \n more", "just text"),
        ("<!-- hidden -->\n# Shown\u202e", "Shown"),
        ("# " + "x" * 500, "x" * 200),
    ],
)
def test_the_title_is_the_first_heading_or_the_first_line(issue: str, title: str) -> None:
    assert title_of(issue) == title


@pytest.mark.parametrize("issue", ["", " \n\t", "<!-- nothing that shows -->", "\u200b\u200b"])
def test_an_issue_that_nobody_can_see_is_refused(issue: str) -> None:
    with pytest.raises(DevflowError) as caught:
        title_of(issue)

    assert caught.value.code == "issue_invalid"
