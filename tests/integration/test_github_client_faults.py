"""What comes out of the client when GitHub fails, limits, refuses or falls silent: one of the faults, and no secret."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.github.faults import Gone, Refused, RetryLater
from engine.store.database import Database
from tests.github_double import GitHubDouble
from tests.support.clock import SteppedClock
from tests.support.github_app import ClientScene as Scene
from tests.support.github_app import client_scene, github_app, opened


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def github(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", clock=clock.now) as double:
        yield double


@pytest.fixture
async def scene(github: GitHubDouble, database: Database, clock: SteppedClock) -> AsyncIterator[Scene]:
    async with client_scene(github, database, clock) as made:
        yield made


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_page_of_html_instead_of_an_answer_is_tried_again_later(scene: Scene, status: int) -> None:
    await scene.client.issue(1)
    scene.github.down(status)

    with pytest.raises(RetryLater) as caught:
        await scene.client.create_comment(1, "x")

    assert caught.value.at is None
    assert "Unicorn" not in str(caught.value)
    scene.github.up()
    assert (await scene.client.create_comment(1, "x")).body == "x"


@pytest.mark.parametrize(
    "body", ["<html>no JSON</html>", "{broken", "[", "[]", "{}", "null", "1", '{"id": "x"}', '{"number": -1}']
)
async def test_an_answer_that_is_none_is_tried_again_later(scene: Scene, body: str) -> None:
    scene.github.plan("GET", "*/issues/1", status=200, body=body)
    scene.github.plan("GET", "*/issues/1/comments", status=200, body=body)

    with pytest.raises(RetryLater):
        await scene.client.issue(1)
    if body != "[]":
        with pytest.raises(RetryLater):
            await scene.client.comments(1)


async def test_a_server_that_cannot_be_reached_is_tried_again_later(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.github.down(refuse=True)

    with pytest.raises(RetryLater):
        await scene.client.issue(1)


async def test_an_answer_that_never_comes_is_given_up(github: GitHubDouble, database: Database) -> None:
    there = github.repository("octo/bills")
    there.open_issue(github.person("ada"), "T")
    async with github_app(github, database, timeout_seconds=1) as app:
        client = await opened(app, there)
        await client.issue(1)
        github.plan("GET", "*/issues/1", delay=3)

        with pytest.raises(RetryLater, match="in time"):
            await client.issue(1)


async def test_a_write_whose_answer_was_lost_may_have_been_done(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.github.plan("POST", "*/comments", drop="after")

    with pytest.raises(RetryLater) as caught:
        await scene.client.create_comment(1, "only once")

    assert caught.value.at is None
    assert [comment.body for comment in scene.there.issues[0].comments] == ["only once"]  # and never sent twice by us


async def test_the_primary_limit_holds_everything_back_until_its_reset(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.github.limit(remaining=0, reset_in=600)

    with pytest.raises(RetryLater) as caught:
        await scene.client.issue(1)
    asked = len(scene.github.requests)
    with pytest.raises(RetryLater) as again:
        await scene.client.create_comment(1, "x")

    at = caught.value.at
    assert at is not None
    assert timedelta(seconds=598) <= at - scene.clock.now() <= timedelta(seconds=602)
    assert again.value.at == at
    assert len(scene.github.requests) == asked  # GitHub is left alone until then
    scene.clock.step(602)
    assert (await scene.client.create_comment(1, "x")).body == "x"


async def test_the_secondary_limit_names_its_own_wait(scene: Scene) -> None:
    scene.github.limit_secondary(retry_after=37)

    with pytest.raises(RetryLater) as caught:
        await scene.client.create_comment(1, "x")

    # the token itself is asked for with a POST, and that is where the limit strikes first
    assert caught.value.at == scene.clock.now() + timedelta(seconds=37)


async def test_a_limit_of_one_installation_does_not_hold_back_another(scene: Scene) -> None:
    other = scene.github.repository("acme/other")
    other.open_issue(scene.ada, "T")
    client = await opened(scene.app, other)
    await scene.client.issue(1)
    await client.issue(1)
    refusal = {"message": "API rate limit exceeded for installation"}
    scene.github.plan("GET", "/repos/octo/*", status=403, body=refusal, headers={"Retry-After": "60"})

    with pytest.raises(RetryLater):
        await scene.client.issue(1)

    assert (await client.issue(1)).title == "T"


async def test_what_is_not_there_is_gone(scene: Scene) -> None:
    with pytest.raises(Gone):
        await scene.client.issue(404)
    scene.there.delete()
    with pytest.raises(Gone):
        await scene.client.issue(1)


async def test_an_archived_repository_refuses(scene: Scene) -> None:
    scene.there.archive()

    with pytest.raises(Refused, match="archived"):
        await scene.client.create_comment(1, "x")


async def test_a_text_that_is_too_long_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused) as caught:
        await scene.client.create_comment(1, "x" * 65_537)

    assert caught.value.status == 422


async def test_many_calls_at_once_each_get_their_own_answer(scene: Scene) -> None:
    for number in range(2, 21):
        scene.there.open_issue(scene.ada, f"Issue {number}")

    found = await asyncio.gather(*(scene.client.issue(number) for number in range(1, 21) for _ in range(3)))

    assert [issue.number for issue in found] == [number for number in range(1, 21) for _ in range(3)]


async def test_nothing_of_a_credential_is_logged_or_shown(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await scene.client.create_comment(1, "x")
    scene.github.plan("GET", "*/issues/1", status=422, body={"message": "no"})
    with pytest.raises(Refused) as caught:
        await scene.client.issue(1)
    scene.github.down()
    with pytest.raises(RetryLater) as down:
        await scene.client.issue(1)

    tokens = list(scene.github.world.tokens)
    assert tokens
    shown = [caplog.text, repr(vars(scene.app)), repr(vars(scene.client))]
    for raised in (caught.value, down.value):
        seen: BaseException | None = raised
        while seen is not None:
            shown += [repr(seen), str(seen), repr(vars(seen)), repr(seen.args)]
            seen = seen.__cause__ or seen.__context__
    for secret in (*tokens, "PRIVATE KEY"):
        assert not [text for text in shown if secret in text]
