"""The inbox: what was delivered is handled once, put off while GitHub is away, and never lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import RowMapping, select

from app.github.app import GitHubApp
from app.github.remotes import GitHubRemotes
from app.inbound.context import House
from app.inbound.inbox import MAX_ATTEMPTS, Inbox
from app.surface.projector import Projector
from engine.facade import Engine
from engine.presence import Presence
from engine.settings import Settings
from engine.store import deliveries, surfaces
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries as table
from tests.github_double import Comment, GitHubDouble, Issue, Repository, User
from tests.support.clock import SteppedClock
from tests.support.github_app import github_app

REFUSAL = {"message": "Although you appear to have the correct authorization, an IP allow list is enabled."}


@dataclass
class Desk:
    """An inbox over a GitHub double, with deliveries put in by hand."""

    github: GitHubDouble
    repository: Repository
    ada: User
    clock: SteppedClock
    database: Database
    engine: Engine
    app: GitHubApp
    presence: Presence
    inbox: Inbox

    async def put(self, event: str, body: bytes | dict[str, Any], guid: str = "guid-1") -> str:
        """Store a delivery as the door does."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.database.transaction() as tx:
            await deliveries.store_many(tx, [NewDelivery(guid, event, {}, raw)])
        return guid

    async def handle(self, guid: str) -> RowMapping:
        """Let the inbox handle a delivery and return what became of it."""
        await self.inbox.handle(guid)
        return await self.row(guid)

    async def row(self, guid: str) -> RowMapping:
        """A delivery's row."""
        async with self.database.read() as tx:
            return await tx.one(select(table).where(table.c.delivery_id == guid))

    def commented(self, body: str = "/approve") -> tuple[Issue, Comment, dict[str, Any]]:
        """An issue with a comment of ada's, and the webhook that tells of it."""
        issue = self.repository.open_issue(self.ada, "The answer is wrong", "It must be 42.")
        comment = issue.comment(self.ada, body)
        payload = self.github.deliveries[-1].payload
        assert payload["comment"]["id"] == comment.id
        return issue, comment, payload


@pytest.fixture
async def desk(tmp_path: Path, database: Database) -> AsyncIterator[Desk]:
    """A desk with a stepped clock."""
    clock = SteppedClock()
    with GitHubDouble(tmp_path / "github", clock=clock.now) as github:
        repository = github.repository("octo/answers")
        ada = github.person("ada")
        repository.permit(ada, "write")
        settings = Settings(data_dir=tmp_path / "data", database_url=database.url, sandbox="none")
        async with github_app(github, database, clock) as app, Presence(database, settings) as presence:
            engine = Engine(settings, database, GitHubRemotes(app))
            projector = Projector(engine, app, clock, worker_id=presence.worker_id, dead_after_seconds=30)
            inbox = Inbox(House(engine, app, clock, projector), presence.worker_id, 30)
            yield Desk(github, repository, ada, clock, database, engine, app, presence, inbox)


def ours(thing: Issue | Comment) -> list[str]:
    """The App's emoji."""
    return [one.content for one in thing.reactions if one.user.login.endswith("[bot]")]


def replies(issue: Issue) -> list[str]:
    """What the App wrote on an issue."""
    return [comment.body for comment in issue.comments if comment.author.login.endswith("[bot]")]


async def test_a_delivery_is_handled_once(desk: Desk) -> None:
    issue, _, payload = desk.commented()
    guid = await desk.put("issue_comment", payload)

    first = await desk.handle(guid)
    await desk.inbox.handle(guid)

    assert (first["state"], first["outcome"], first["attempts"]) == ("handled", "no run", 1)
    assert first["repository_id"] == desk.repository.id
    assert len(replies(issue)) == 1
    assert (await desk.row(guid))["attempts"] == 1


@pytest.mark.parametrize(
    ("event", "body", "state"),
    [
        ("issues", b"{", "unreadable"),
        ("issues", b"[]", "unreadable"),
        ("issues", b'{"action": "closed"}', "unreadable"),
        ("issues", b"\xff\xfe", "unreadable"),
        ("issue_comment", b'{"action": "created", "comment": 7}', "unreadable"),
        ("ping", b'{"zen": "x"}', "ignored"),
        ("star", b"not json at all", "ignored"),
        ("issues", b'{"action": "pinned"}', "ignored"),
    ],
)
async def test_what_cannot_be_read_is_kept_and_what_is_not_ours_is_dropped(
    desk: Desk, event: str, body: bytes, state: str
) -> None:
    row = await desk.handle(await desk.put(event, body))

    assert (row["state"], row["body"]) == (state, body)
    assert row["outcome"]


async def test_while_github_is_down_nothing_is_lost_and_nothing_is_stormed(desk: Desk) -> None:
    issue, comment, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.github.down(502)

    tries = 0
    for _ in range(600):  # ten minutes, a second a step
        desk.clock.step(1)
        if guid in await desk.inbox.waiting():
            tries += 1
            assert (await desk.handle(guid))["state"] == "received"
    desk.github.up()
    desk.clock.step(300)
    row = await desk.handle(guid)

    assert 5 <= tries <= 12
    assert row["state"] == "handled"
    assert len(replies(issue)) == 1
    assert [one.content for one in comment.reactions if one.user.login.endswith("[bot]")] == ["eyes", "rocket"]


async def test_a_rate_limit_is_waited_out_until_the_moment_that_github_names(desk: Desk) -> None:
    _, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.github.limit(0, reset_in=1800)

    row = await desk.handle(guid)

    assert row["state"] == "received"
    assert 1790 <= (row["not_before"] - desk.clock.now()).total_seconds() <= 1810
    desk.clock.step(1700)
    assert await desk.inbox.waiting() == []
    desk.clock.step(200)
    assert await desk.inbox.waiting() == [guid]
    assert (await desk.handle(guid))["state"] == "handled"


async def test_the_answers_to_a_stored_decision_are_given_without_deciding_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue, comment, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.github.plan("POST", f"/repos/octo/answers/issues/{issue.number}/comments", status=502)
    assert (await desk.handle(guid))["state"] == "received"
    asked = len(desk.github.calls("GET", "permission"))

    desk.clock.step(3600)
    row = await desk.handle(guid)

    assert (row["state"], row["outcome"]) == ("handled", "answered")
    assert len(desk.github.calls("GET", "permission")) == asked
    assert len(replies(issue)) == 1
    assert [one.content for one in comment.reactions if one.user.login.endswith("[bot]")] == ["eyes", "rocket"]


async def test_a_reply_whose_answer_was_lost_is_not_written_twice(desk: Desk) -> None:
    issue, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.github.plan("POST", f"/repos/octo/answers/issues/{issue.number}/comments", drop="after")
    assert (await desk.handle(guid))["state"] == "received"

    desk.clock.step(3600)
    row = await desk.handle(guid)

    assert row["state"] == "handled"
    assert len(replies(issue)) == 1


async def test_a_locked_issue_takes_no_answer_and_that_is_no_reason_to_try_for_ever(desk: Desk) -> None:
    issue, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.github.plan("POST", f"/repos/octo/answers/issues/{issue.number}/comments", status=403, times=None)

    row = await desk.handle(guid)

    assert row["state"] == "handled"
    assert replies(issue) == []


async def test_a_repository_that_is_gone_ends_the_matter(desk: Desk) -> None:
    _, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    desk.repository.delete(desk.ada)

    row = await desk.handle(guid)

    assert row["state"] in ("failed", "handled")
    assert await desk.inbox.waiting() == []


async def test_what_nobody_foresaw_is_tried_a_few_times_and_then_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(desk.engine, "runs_of_issue", broken)
    states = []
    for _ in range(MAX_ATTEMPTS):
        states.append((await desk.handle(guid))["state"])
        desk.clock.step(3600)

    assert states == ["received"] * (MAX_ATTEMPTS - 1) + ["failed"]
    row = await desk.row(guid)
    assert row["outcome"] == "RuntimeError: nobody foresaw this"
    assert row["body"]
    assert caplog.text.count("Traceback") == MAX_ATTEMPTS


async def test_whoever_was_seen_is_told_when_nothing_comes_of_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    issue, comment, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("app.inbound.handlers.asking.standing", broken)
    for _ in range(MAX_ATTEMPTS):
        await desk.handle(guid)
        desk.clock.step(3600)

    assert (await desk.row(guid))["state"] == "failed"
    assert len(replies(issue)) == 1
    assert "@ada, this could not be carried out" in replies(issue)[0]
    assert [one.content for one in comment.reactions if one.user.login.endswith("[bot]")] == ["eyes", "confused"]


@pytest.mark.parametrize("status", [403, 409, 422])
async def test_a_read_that_github_refuses_is_tried_again_and_answered_in_the_end(desk: Desk, status: int) -> None:
    issue, comment, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    plan = desk.github.plan("GET", "*/collaborators/*/permission", status=status, body=REFUSAL)

    assert (await desk.handle(guid))["state"] == "received"
    desk.clock.step(5)
    assert (await desk.handle(guid))["state"] == "handled"
    assert plan.hits == 1
    assert len(replies(issue)) == 1
    assert ours(comment) == ["eyes", "rocket"]


@pytest.mark.parametrize("read", ["permission", "contents/.github/devflow.yml", "issues/1"])
async def test_a_label_or_command_that_github_refuses_for_ever_is_answered_once(desk: Desk, read: str) -> None:
    issue, comment, payload = desk.commented("/approve")
    await desk.put("issue_comment", payload)
    issue.label(desk.ada, "devflow")
    await desk.put("issues", desk.github.deliveries[-1].payload, "guid-2")
    desk.github.plan("GET", f"*/{read}", status=403, body=REFUSAL, times=None)
    for _ in range(MAX_ATTEMPTS):
        states = [(await desk.handle(guid))["state"] for guid in ("guid-1", "guid-2")]
        desk.clock.step(3600)

    reached = ["failed", "failed"] if read == "permission" else ["handled", "failed"]
    assert states == reached
    said = [text for text in replies(issue) if "@ada, this could not be carried out: GitHub did not give" in text]
    assert len(said) == reached.count("failed")
    assert ours(issue) == ["confused"]
    assert ours(comment) == ["eyes", "confused"]


async def test_two_inboxes_do_not_handle_the_same_delivery(desk: Desk) -> None:
    issue, _, payload = desk.commented("/help")
    guid = await desk.put("issue_comment", payload)
    async with Presence(desk.database, desk.engine.settings) as other:
        second = Inbox(desk.inbox._house, other.worker_id, 30)

        await asyncio.gather(desk.inbox.handle(guid), second.handle(guid))

    assert (await desk.row(guid))["attempts"] == 1
    assert len(replies(issue)) == 1


async def test_a_delivery_that_came_through_no_installation_is_dropped(desk: Desk) -> None:
    _, _, payload = desk.commented("/help")
    del payload["installation"]

    row = await desk.handle(await desk.put("issue_comment", payload))

    assert (row["state"], row["outcome"]) == ("ignored", "it came through no installation of the App")


async def test_an_event_that_means_nothing_asks_github_nothing(desk: Desk) -> None:
    _, _, payload = desk.commented("What a nice day.")
    before = len(desk.github.requests)

    row = await desk.handle(await desk.put("issue_comment", payload))

    assert row["state"] == "ignored"
    assert len(desk.github.requests) == before


async def test_a_reply_to_a_stranger_is_given_once_an_issue_also_across_deliveries(desk: Desk) -> None:
    stranger = desk.github.person("mallory")
    issue = desk.repository.open_issue(stranger, "Help", "Please.")
    for number in range(3):
        issue.comment(stranger, "/approve")
        await desk.handle(await desk.put("issue_comment", desk.github.deliveries[-1].payload, f"guid-{number}"))

    assert len(replies(issue)) == 1
    async with desk.database.read() as tx:
        key = f"reply/issue/{issue.number}/{stranger.id}/denied"
        assert await surfaces.get(tx, desk.repository.id, key) is not None
