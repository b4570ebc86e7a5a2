"""Events and orders that a forged state brings along: of other issues, of bots, about runs that nobody looked at."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.action.doubts import doubts_of, why_doubted
from app.github.events import CommentCreated, RepositoryEvent, parse
from app.inbound.context import House
from app.inbound.inbox import Inbox
from engine.domain.errors import DevflowError
from engine.store import deliveries
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.snapshot_reading import read_snapshot
from tests.github_double import Issue
from tests.support.shown import Stage, stage
from tests.support.snapshots import made, packed


@pytest.fixture
async def on(tmp_path: Path, database: Database) -> AsyncIterator[Stage]:
    async with stage(tmp_path, database) as made_stage:
        yield made_stage


def newest(on: Stage) -> RepositoryEvent:
    """The newest event of the double."""
    sent = on.github.deliveries[-1]
    event = parse(sent.event, sent.body)
    assert isinstance(event, RepositoryEvent)
    return event


async def test_an_event_of_another_issue_is_answered_by_nobody_here(on: Stage) -> None:
    issue, other = (on.hub.open_issue(on.requester, title, "Please.") for title in ("One", "Another"))
    other.comment(on.requester, "/help")
    body = on.github.deliveries[-1].body

    for number, words in ((issue.number, "it is about another issue"), (other.number, None)):
        doubts = doubts_of([], number)
        assert await doubts("comment:1", body, await on.known(), newest(on)) == words


async def test_what_a_bot_wrote_is_told_as_a_persons_in_vain(on: Stage) -> None:
    issue = on.hub.open_issue(on.requester, "One", "Please.")
    issue.comment(on.github.app.bot, "/approve")
    sent = on.github.deliveries[-1]
    payload = sent.payload
    person = payload["sender"] | {"type": "User", "login": "somebody"}
    payload["sender"] = payload["comment"]["user"] = person
    payload["comment"]["performed_via_github_app"] = None
    event = parse(sent.event, json.dumps(payload).encode())
    assert isinstance(event, CommentCreated)
    assert not (event.comment.author.is_bot or event.comment.via_app)

    assert await why_doubted(await on.known(), event) == "no person wrote the comment"


async def test_no_run_goes_on_from_one_that_cannot_be_trusted(on: Stage) -> None:
    issue: Issue = on.hub.open_issue(on.requester, "The answer is wrong", "answer() must return 42.")
    run_id = await on.begin(issue)
    await on.engine.abort(run_id, on.requester.login, token="abort")
    issue.comment(on.requester, "/retry")
    asked: list[UUID] = []

    async def check(about: UUID) -> None:
        asked.append(about)
        if len(asked) == 1:
            raise DevflowError("state_untrusted", "run 1 cannot be trusted: its branch is not the one")

    house = replace(House(on.engine, on.app, on.clock, on.projector()), check_run=check)
    inbox = Inbox(house, on.presence.worker_id, on.presence.dead_after_seconds)
    outcomes = []
    for delivery_id in ("first", "second"):
        async with on.database.transaction() as tx:
            sent = NewDelivery(delivery_id, "issue_comment", {}, on.github.deliveries[-1].body)
            await deliveries.store_many(tx, [sent])
        await inbox.handle(delivery_id)
        rows = await on.engine.runs_of_issue(on.hub.id, issue.number)
        async with on.database.read() as tx:
            row = await deliveries.get(tx, delivery_id)
        assert row is not None
        outcomes.append((row["outcome"], len(rows)))
        issue.comment(on.requester, "/retry")

    assert outcomes == [("retry: state_untrusted", 1), ("retry", 2)]
    assert asked == [run_id, run_id]


@pytest.mark.parametrize("change", [{"number": 2**31 - 1}, {"number": 0}, {"retry_of": "self"}])
def test_a_run_has_a_place_among_others_that_it_can_have(change: dict[str, Any]) -> None:
    rows = made()
    run = rows["runs"][0]
    run |= {name: run["run_id"] if value == "self" else value for name, value in change.items()}

    with pytest.raises(DevflowError, match="a place among others that none can have"):
        read_snapshot(packed(rows))
