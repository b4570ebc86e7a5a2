"""An inbox that dies anywhere in a delivery: the next one goes on with it, and then there is one of everything.

Each write to GitHub has a point before and one after it, and so has each commit: all of them are tried, one by one.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from app.inbound.context import House
from app.inbound.inbox import Inbox
from engine.store import deliveries
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries as table
from engine.store.tables import approval_requests, runs
from engine.store.tables import decisions as taken
from tests.support.cassettes import cassette
from tests.support.fate import Death, fate
from tests.support.shown import TURNS, Stage, stage
from tests.support.turned_back import remember

Act = Callable[[Stage, UUID], Awaitable[object]]


async def label(on: Stage, run_id: UUID) -> None:
    on.hub.open_issue(on.requester, "It is wrong again", "answer() must return 43.").label(on.requester, "devflow")


async def review(on: Stage, run_id: UUID) -> None:
    on.pull().review(on.github.person("bob"), "approve", "That is what we want.")


async def comment(on: Stage, run_id: UUID) -> None:
    on.pull().comment(on.github.person("bob"), "/revise Say it better.\n/status")


async def refusal(on: Stage, run_id: UUID) -> None:
    on.pull().comment(on.github.person("mallory"), "/approve")


async def push(on: Stage, run_id: UUID) -> None:
    branch = (await on.engine.row(run_id))["branch"]
    path = f".devflow/runs/{run_id}/spec.json"
    artifact = json.loads(on.hub.read(branch, path) or "")
    on.hub.commit(branch, {path: json.dumps(artifact | {"approach": "Change it by hand."})}, on.requester)


# What each brings about: runs, questions by their states, decisions, replies.
ACTS: dict[Act, tuple[int, list[str], int, int]] = {
    label: (2, ["pending"], 0, 0),
    review: (1, ["approved"], 1, 0),
    comment: (1, ["revised"], 1, 1),
    refusal: (1, ["pending"], 0, 1),
    push: (1, ["superseded", "pending"], 0, 0),
}


async def handle(on: Stage, act: Act) -> None:
    """Handle the delivery as an inbox of a process that has just been started."""
    house = House(on.engine, on.app, on.clock, on.projector(), cassette=("test.yaml", cassette(TURNS)))
    await Inbox(house, on.presence.worker_id, on.presence.dead_after_seconds).handle(act.__name__)


async def deliver(on: Stage, act: Act, run_id: UUID) -> None:
    """Let somebody act, and store the webhook that tells of it as the door does."""
    await act(on, run_id)
    events = ("issues", "pull_request_review", "issue_comment", "push")
    told = [one for one in on.github.deliveries if one.event in events][-1]
    async with on.database.transaction() as tx:
        await deliveries.store_many(tx, [NewDelivery(act.__name__, told.event, {}, told.body)])


async def look(on: Stage, act: Act) -> dict[str, Any]:
    """Return all that came of the delivery, in the store and for people."""
    async with on.database.read() as tx:
        delivery = await tx.one(select(table).where(table.c.delivery_id == act.__name__))
        made = await tx.all(select(runs).order_by(runs.c.number))
        asked = await tx.all(select(approval_requests).order_by(approval_requests.c.created_at))
        decided = await tx.all(select(taken))
    pages = list(on.hub.numbered.values())
    things = [*pages, *(one for page in pages for one in page.comments), *on.pull().reviews]
    return {
        # whoever finds all done calls the delivery ignored
        "done": (delivery["state"] in ("handled", "ignored"), delivery["claimed_by"]),
        "runs": [(row["number"], row["state"], row["issue_number"]) for row in made],
        "questions": [row["state"] for row in asked],
        "decisions": [(row["action"], row["by"]) for row in decided],
        "replies": sorted(one.body for one in on.comments("reply/")),
        "emoji": [[one.content for one in thing.reactions] for thing in things],
    }


async def test_a_death_at_any_point_of_a_delivery_leaves_one_of_everything(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        bob = on.github.person("bob")
        for who in (bob, on.requester):
            on.hub.permit(who, "maintain")
        run_id = await on.at_gate()
        await on.show(run_id)
        seen = set()
        for act, (made, questions, decisions, replies) in ACTS.items():
            await deliver(on, act, run_id)
            before = await remember(on)
            with fate() as alive:
                await handle(on, act)
            wanted = await look(on, act)
            assert wanted["done"] == (True, None)
            counted = (len(wanted["runs"]), wanted["questions"], len(wanted["decisions"]), len(wanted["replies"]))
            assert counted == (made, questions, decisions, replies), wanted
            seen |= set(alive.passed)

            for point, name in enumerate(alive.passed):
                await before.again()
                with fate(point), pytest.raises(Death):
                    await handle(on, act)
                await handle(on, act)

                assert await look(on, act) == wanted, f"{act.__name__}: after a death at point {point}, {name}"
            await before.again()
        assert {"host_call.before", "host_call.after", "sql_commit.before", "sql_commit.after"} <= seen
