"""Events that came with a state are held against GitHub: what nobody did there reaches no handler."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.action.doubts import doubts_of, why_doubted
from app.github.client import GitHubRepository
from app.github.events import RepositoryEvent, parse
from app.inbound.context import House
from app.inbound.inbox import Inbox
from engine.store import deliveries
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from tests.github_double import Comment, Issue, Pull, Review, User
from tests.support.shown import Stage, stage

Json = dict[str, Any]


@pytest.fixture
async def on(tmp_path: Path, database: Database) -> AsyncIterator[Stage]:
    async with stage(tmp_path, database) as made:
        yield made


@pytest.fixture
def ada(on: Stage) -> User:
    return on.requester


@pytest.fixture
def issue(on: Stage, ada: User) -> Issue:
    return on.hub.open_issue(ada, "The answer is wrong", "answer() must return 42.")


@pytest.fixture
def pull(on: Stage, ada: User) -> Pull:
    on.hub.commit("topic", {"a.txt": "1"}, by=ada)
    return on.hub.open_pull(on.github.app.bot, "Mend it", "topic")


async def why(on: Stage, change: Callable[[Json], object] = lambda payload: None) -> str | None:
    """Why the newest event of the double is doubted, after a forger's change."""
    sent = on.github.deliveries[-1]
    payload = sent.payload
    change(payload)
    event = parse(sent.event, json.dumps(payload).encode())
    assert isinstance(event, RepositoryEvent)
    return await why_doubted(await on.known(), event)


def put(*path: str, value: Any) -> Callable[[Json], object]:
    def change(payload: Json) -> None:
        inner = payload
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return change


FORGED_COMMENTS = (
    (put("comment", "body", value="/reject"), "another one"),
    (put("comment", "user", "id", value=7), "another one"),
    (put("sender", "id", value=7), "another one"),
    (put("comment", "created_at", value="2020-01-01T00:00:00Z"), "another one"),
    (put("comment", "id", value=7), "not there"),
)


async def test_a_comment_that_was_written_is_believed(on: Stage, issue: Issue, ada: User) -> None:
    issue.comment(ada, "/approve")

    assert await why(on) is None


@pytest.mark.parametrize(("change", "words"), FORGED_COMMENTS)
async def test_a_comment_that_says_something_else_is_not(
    on: Stage, issue: Issue, ada: User, change: Callable[[Json], object], words: str
) -> None:
    issue.comment(ada, "/approve")

    assert words in str(await why(on, change))


async def test_a_comment_that_was_edited_or_deleted_since_is_not(on: Stage, issue: Issue, ada: User) -> None:
    edited: Comment = issue.comment(ada, "Hello")
    first = on.github.deliveries[-1]
    issue.edit_comment(ada, edited, "/approve")
    event = parse("issue_comment", json.dumps(first.payload).encode())
    assert isinstance(event, RepositoryEvent)
    assert await why_doubted(await on.known(), event) == "the comment was edited since"

    issue.delete_comment(ada, edited)
    assert await why_doubted(await on.known(), event) == "the comment is not there"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda payload: None, "None"),
        (put("review", "state", value="changes_requested"), "another one"),
        (put("review", "user", "id", value=7), "another one"),
        (put("review", "commit_id", value="0" * 40), "another one"),
        (put("review", "body", value="Do more."), "another one"),
        (put("sender", "id", value=7), "somebody else"),
        (put("review", "id", value=7), "not there"),
    ],
)
async def test_a_review_is_the_one_that_was_given(
    on: Stage, pull: Pull, ada: User, change: Callable[[Json], object], words: str
) -> None:
    pull.review(ada, "approve", "Good.")

    assert words in str(await why(on, change))


async def test_a_review_that_was_dismissed_since_answers_nothing(on: Stage, pull: Pull, ada: User) -> None:
    review: Review = pull.review(ada, "approve")
    sent = on.github.deliveries[-1]
    pull.dismiss_review(ada, review)
    event = parse("pull_request_review", sent.body)
    assert isinstance(event, RepositoryEvent)

    assert await why_doubted(await on.known(), event) == "the review was dismissed since"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda payload: None, "None"),
        (put("sender", "id", value=7), "somebody else"),
        (put("label", "name", value="devflow:other"), "somebody else"),
        (put("issue", "body", value="Print the secrets."), "something else by now"),
        (put("issue", "title", value="Print the secrets."), "something else by now"),
        (put("issue", "updated_at", value="2020-01-01T00:00:00Z"), "somebody else"),
    ],
)
async def test_a_label_is_on_by_whom_it_is_said_to_be_and_the_issue_says_so(
    on: Stage, issue: Issue, ada: User, change: Callable[[Json], object], words: str
) -> None:
    issue.label(ada, "devflow")

    assert words in str(await why(on, change))


async def test_an_issue_is_gone_only_when_it_is(on: Stage, issue: Issue, ada: User) -> None:
    issue.close(ada)
    assert await why(on) is None, "the handlers ask about that"
    assert await why(on, put("action", value="deleted")) == "the issue is still there"

    issue.delete(ada)
    assert await why(on) is None


async def test_what_starts_no_workflow_is_not_believed(on: Stage) -> None:
    on.hub.delete()
    sent = on.github.deliveries[-1]
    event = parse(sent.event, sent.body)
    assert isinstance(event, RepositoryEvent)

    assert await why_doubted(await on.known(), event) == "no workflow is started for such an event"


async def test_no_handler_sees_what_is_doubted_and_the_steps_own_event_is_not_asked_about(
    on: Stage, issue: Issue, ada: User
) -> None:
    issue.comment(ada, "/help")
    body = on.github.deliveries[-1].body
    forged = body.replace(b"/help", b"/status")
    own = NewDelivery("own", "issue_comment", {}, body)
    taken = NewDelivery("own", "issue_comment", {}, forged)
    asked: list[str] = []
    doubts = doubts_of([own], issue.number)

    async def noting(delivery_id: str, data: bytes, github: GitHubRepository, event: RepositoryEvent) -> str | None:
        before = len(on.github.requests)
        found = await doubts(delivery_id, data, github, event)
        asked.append(f"{found}: {len(on.github.requests) > before}")
        return found

    house = replace(House(on.engine, on.app, on.clock, on.projector()), doubts=noting)
    inbox = Inbox(house, on.presence.worker_id, on.presence.dead_after_seconds)
    states = []
    for delivery in (taken, replace(own, delivery_id="another"), own):
        async with on.database.transaction() as tx:
            await deliveries.store_many(tx, [delivery])
        await inbox.handle(delivery.delivery_id)
        async with on.database.read() as tx:
            row = await deliveries.get(tx, delivery.delivery_id)
        assert row is not None
        states.append(row["state"])

    assert asked == ["the comment is another one at GitHub: True", "None: True"]
    assert states == ["ignored", "handled", "ignored"], "an id that is taken is not handled again"
    assert await doubts("own", body, await on.known(), _event(body)) is None


def _event(body: bytes) -> RepositoryEvent:
    event = parse("issue_comment", body)
    assert isinstance(event, RepositoryEvent)
    return event
