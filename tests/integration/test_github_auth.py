"""Installation tokens: the least they need, kept until shortly before their end, minted anew when they are refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.github.app import GitHubApp
from app.github.auth import AppCredentials
from app.github.client import GitHubRepository
from app.github.faults import Gone, RetryLater, Unauthorised
from engine.domain.errors import DevflowError
from engine.store import hosted
from engine.store.database import Database
from tests.github_double import GitHubDouble, Repository
from tests.support.clock import SteppedClock
from tests.support.github_app import github_app, opened


@dataclass
class Scene:
    """One repository with an issue, and the client for it."""

    github: GitHubDouble
    there: Repository
    app: GitHubApp
    client: GitHubRepository
    clock: SteppedClock

    def mintings(self) -> list[dict[str, object]]:
        """What was asked for each time that a token was."""
        return [call.body for call in self.github.calls("POST", "access_tokens")]


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def github(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", clock=clock.now) as double:
        yield double


@pytest.fixture
async def scene(github: GitHubDouble, database: Database, clock: SteppedClock) -> AsyncIterator[Scene]:
    there = github.repository("octo/bills", private=True)
    there.open_issue(github.person("ada"), "T")
    async with github_app(github, database, clock) as app:
        yield Scene(github, there, app, await opened(app, there), clock)


async def test_a_token_is_for_one_repository_and_what_the_calls_need(scene: Scene) -> None:
    await scene.client.issue(1)
    await scene.app.git_access(scene.there.id)

    for_calls, for_git = scene.mintings()
    assert for_calls == {
        "repository_ids": [scene.there.id],
        "permissions": {
            "checks": "write",
            "contents": "read",
            "issues": "write",
            "metadata": "read",
            "pull_requests": "write",
            "statuses": "write",
        },
    }
    assert for_git == {
        "repository_ids": [scene.there.id],
        "permissions": {"contents": "write", "metadata": "read"},
    }


async def test_a_token_is_minted_once_however_many_ask_at_once(scene: Scene) -> None:
    await asyncio.gather(*(scene.client.issue(1) for _ in range(20)))

    assert len(scene.mintings()) == 1


async def test_a_token_is_used_until_five_minutes_before_its_end(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.clock.step(54 * 60)
    await scene.client.issue(1)
    assert len(scene.mintings()) == 1

    scene.clock.step(2 * 60)
    await scene.client.issue(1)
    assert len(scene.mintings()) == 2


async def test_a_token_that_is_refused_in_mid_run_is_minted_anew_once(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.github.revoke_tokens()

    assert (await scene.client.create_comment(1, "x")).body == "x"

    assert len(scene.mintings()) == 2
    assert len(scene.there.issues[0].comments) == 1


async def test_where_a_new_token_is_refused_too_it_is_tried_again_later(scene: Scene) -> None:
    refusal = {"message": "Bad credentials"}
    scene.github.plan("GET", "*/issues/1", times=None, status=401, body=refusal)

    with pytest.raises(Unauthorised) as caught:
        await scene.client.issue(1)

    assert isinstance(caught.value, RetryLater)
    assert caught.value.at is None
    assert len(scene.mintings()) == 2


async def test_a_grant_without_statuses_gives_the_rest(scene: Scene) -> None:
    del scene.github.app.permissions["statuses"]

    await scene.client.create_comment(1, "x")

    asked, less = scene.mintings()
    assert "statuses" in asked["permissions"]  # type: ignore[operator]
    assert less["permissions"] == {
        "checks": "write",
        "contents": "read",
        "issues": "write",
        "metadata": "read",
        "pull_requests": "write",
    }


async def test_a_token_tells_what_the_repository_is_called_now(scene: Scene, database: Database) -> None:
    scene.there.rename("octo/invoices")

    url, _ = await scene.app.git_access(scene.there.id)

    assert url == f"{scene.github.server_url}/octo/invoices.git"
    async with database.read() as tx:
        row = await hosted.get(tx, scene.there.id)
    assert row is not None
    assert row["full_name"] == "octo/invoices"


async def test_without_installation_the_repository_is_gone(scene: Scene) -> None:
    other = scene.github.repository("octo/other")
    scene.github.uninstall(scene.there)

    with pytest.raises(Gone):
        await scene.client.issue(1)

    scene.github.uninstall(other)
    with pytest.raises(Gone):
        await scene.client.issue(1)


async def test_a_suspended_installation_is_gone_until_it_is_not(scene: Scene) -> None:
    await scene.client.issue(1)
    scene.github.suspend(scene.there)

    with pytest.raises(Gone):
        await scene.client.issue(1)
    scene.clock.step(3600)
    with pytest.raises(Gone):
        await scene.client.issue(1)

    scene.github.unsuspend(scene.there)
    assert (await scene.client.issue(1)).number == 1


@pytest.mark.parametrize(
    "answer", ["<html>", "{}", '{"token": 1}', '{"token": "ghs_secretsecret", "expires_at": "soon"}']
)
async def test_a_minting_that_makes_no_sense_is_tried_again_later(scene: Scene, answer: str) -> None:
    scene.github.plan("POST", "*/access_tokens", status=201, body=answer)

    with pytest.raises(RetryLater) as caught:
        await scene.client.issue(1)

    assert "ghs_" not in str(caught.value)
    assert (await scene.client.issue(1)).number == 1


async def test_a_minting_that_github_does_not_answer_is_tried_again_later(scene: Scene) -> None:
    scene.github.down()

    with pytest.raises(RetryLater):
        await scene.client.issue(1)

    scene.github.up()
    assert (await scene.client.issue(1)).number == 1


# Who we are


async def test_the_app_knows_its_own_name_and_asks_for_it_once(scene: Scene) -> None:
    names = await asyncio.gather(*(scene.app.bot_login() for _ in range(5)))

    assert set(names) == {"devflow[bot]"}
    assert len([call for call in scene.github.calls("GET") if call.path == "/app"]) == 1


async def test_a_key_of_another_app_is_not_taken(github: GitHubDouble, database: Database, clock: SteppedClock) -> None:
    github.plan("GET", "/app", times=None, status=401, body={"message": "A JSON web token could not be decoded"})
    async with github_app(github, database, clock) as app:
        with pytest.raises(Unauthorised):
            await app.slug()


def test_a_key_that_is_none_is_told_without_being_shown(database: Database) -> None:
    with pytest.raises(DevflowError) as caught:
        GitHubApp(AppCredentials(1, "-----BEGIN secret"), database, SteppedClock())

    assert caught.value.code == "config_invalid"
    assert "secret" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    assert "secret" not in repr(AppCredentials(1, "secret"))
