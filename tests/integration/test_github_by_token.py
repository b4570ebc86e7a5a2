"""GitHub by a token that was given: who we are, what is ours, and that nothing goes on after it was refused."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.github.by_token import GitHubByToken
from app.github.client import GitHubRepository
from app.github.events import parse
from app.github.faults import Refused
from app.github.refusals import Refusals, named
from app.github.remotes import GitHubRemotes
from app.github.shapes import Person
from app.surface.applier import Applier
from engine.domain.errors import DevflowError
from engine.store.database import Database
from engine.workspace.mirror import Mirror
from tests.github_double import GitHubDouble, Repository, User
from tests.support.clock import SteppedClock
from tests.support.github_app import github_by_token, opened


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as double:
        yield double


@pytest.fixture
def there(github: GitHubDouble) -> Repository:
    made = github.repository("octo/bills", {"README.md": "# Bills\n"}, private=True, install=False)
    made.permit(github.person("ada"), "write")
    made.open_issue(github.person("ada"), "Round the shares")
    return made


@pytest.fixture
def ada(github: GitHubDouble) -> User:
    return github.person("ada")


@pytest.fixture
async def reach(github: GitHubDouble, there: Repository, database: Database) -> AsyncIterator[GitHubByToken]:
    async with github_by_token(github, database, github.actions_token(there)) as made:
        yield made


@pytest.fixture
async def client(reach: GitHubByToken, there: Repository) -> GitHubRepository:
    return await opened(reach, there)


# Who we are


async def test_who_we_are_is_asked_once(github: GitHubDouble, reach: GitHubByToken) -> None:
    assert await reach.viewer() == Person(41_898_282, "github-actions[bot]", is_bot=True)
    assert await reach.bot_login() == "github-actions[bot]"
    assert await reach.is_ours(Person(41_898_282, "github-actions[bot]", is_bot=True))
    assert not await reach.is_ours(Person(5, "github-actions"))
    assert await reach.person() is None
    assert len(github.calls("POST", "/graphql")) == 1


async def test_by_a_persons_token_we_are_that_person(github: GitHubDouble, ada: User, database: Database) -> None:
    async with github_by_token(github, database, github.personal_token(ada)) as reach:
        assert await reach.viewer() == Person(ada.id, "ada")
        assert await reach.person() == "ada"
        assert await reach.is_ours(Person(ada.id, "Ada"))


async def test_an_event_of_a_workflow_needs_no_installation(
    github: GitHubDouble, there: Repository, ada: User, reach: GitHubByToken
) -> None:
    github.install(there)
    there.issues[0].label(ada, "devflow")
    event = parse("issues", github.deliveries[-1].body)

    assert event is not None
    assert event.installation_id == there.installation_id
    assert reach.installation_of(event) == 0


async def test_comments_in_our_name_are_ours(there: Repository, ada: User, client: GitHubRepository) -> None:
    there.issues[0].comment(ada, "Hello")
    made = await client.create_comment(1, "Here I am")

    assert [comment.id for comment in await client.our_comments(1)] == [made.id]


async def test_what_the_person_wrote_by_hand_is_not_taken_for_an_answer_of_ours(
    github: GitHubDouble, there: Repository, ada: User, database: Database
) -> None:
    there.issues[0].comment(ada, "I said so before.")
    async with github_by_token(github, database, github.personal_token(ada)) as reach:
        client = await opened(reach, there)
        lost = github.plan("POST", "*/issues/1/comments", drop="after")
        applier = Applier(database, client, SteppedClock())
        with pytest.raises(Exception, match="cannot be reached"):
            await applier.reply("comment/1", 1, "It was answered.")
        await applier.reply("comment/1", 1, "It was answered.")

    assert lost.hits == 1
    assert [comment.body.splitlines()[-1] for comment in there.issues[0].comments] == [
        "I said so before.",
        "It was answered.",
    ]


async def test_a_persons_token_sets_statuses_and_a_jobs_token_makes_check_runs(
    github: GitHubDouble, there: Repository, ada: User, client: GitHubRepository, database: Database
) -> None:
    sha = there.head("main")
    values = {"external_id": "run/1", "title": "Working", "summary": "It works."}
    check_id = await client.create_check(sha, status="in_progress", conclusion=None, **values)
    async with github_by_token(github, database, github.personal_token(ada)) as reach:
        with pytest.raises(Refused, match="You must authenticate via a GitHub App") as refused:
            await (await opened(reach, there)).create_check(sha, status="in_progress", conclusion=None, **values)

    assert [(check.id, check.ours) for check in await client.checks_of(sha)] == [(check_id, True)]
    assert named(refused.value) is None, "it is no right that somebody could grant"


# A token that is refused


async def test_a_refused_token_is_final_and_nothing_more_is_sent(
    github: GitHubDouble, there: Repository, reach: GitHubByToken, client: GitHubRepository
) -> None:
    github.revoke_tokens()
    before = len(github.requests)

    for _ in range(3):
        with pytest.raises(DevflowError, match="token_refused") as caught:
            await client.issue(1)
    with pytest.raises(DevflowError, match="token_refused"):
        await reach.viewer()
    with pytest.raises(DevflowError, match="token_refused"):
        await GitHubRemotes(reach).remote(there.id, "")

    assert len(github.requests) - before == 1
    assert "ghs_" not in str(caught.value) + str(caught.value.details)


async def test_a_token_that_git_is_refused_with_is_final_too(
    tmp_path: Path, github: GitHubDouble, there: Repository, reach: GitHubByToken, client: GitHubRepository
) -> None:
    remotes = GitHubRemotes(reach)
    mirror = await Mirror.open(tmp_path / "mirrors", there.id, await remotes.remote(there.id, ""))
    assert await mirror.head_of_remote("main") == there.head("main")
    github.revoke_tokens()

    with pytest.raises(DevflowError, match="github_unavailable"):
        await mirror.head_of_remote("main")

    with pytest.raises(DevflowError, match="token_refused"):
        await remotes.remote(there.id, "")


async def test_no_token_shows_in_what_is_printed(github: GitHubDouble, there: Repository, database: Database) -> None:
    token = github.actions_token(there)
    async with github_by_token(github, database, token) as reach:
        shown = [repr(reach), str(vars(reach)), repr(await reach._given.get(0, there.id, "api"))]

    assert not [text for text in shown if token.text in text]


# Rights that are missing


@pytest.mark.parametrize(
    ("method", "path", "needed", "permission"),
    [
        ("POST", "*/issues/1/comments", "issues=write; pull_requests=write", "issues: write"),
        ("POST", "*/issues/1/comments", None, "issues: write"),
        ("GET", "*/issues/1", None, "issues: read"),
        ("POST", "*/pulls", "pull_requests=write,contents=read", "pull-requests: write"),
        ("POST", "*/pulls", None, "pull-requests: write"),
        ("POST", "*/check-runs", "checks=write", "checks: write"),
        ("POST", "*/statuses/*", None, "statuses: write"),
        ("GET", "*/contents/*", "metadata=read,contents=read", "contents: read"),
    ],
)
async def test_a_missing_permission_is_named_as_a_workflow_has_it(
    github: GitHubDouble, there: Repository, client: GitHubRepository, method: str, path: str, needed: str | None,
    permission: str,
) -> None:  # fmt: skip
    headers = {} if needed is None else {"X-Accepted-GitHub-Permissions": needed}
    body = {"message": "Resource not accessible by integration"}
    github.plan(method, path, status=403, times=None, headers=headers, body=body)
    sha = there.head("main")
    calls = {
        "*/issues/1/comments": lambda: client.create_comment(1, "Hello"),
        "*/issues/1": lambda: client.issue(1),
        "*/pulls": lambda: client.create_pull("Round", "", "topic", "main", draft=False),
        "*/check-runs": lambda: client.create_check(
            sha, external_id="1", status="queued", conclusion=None, title="t", summary="s"
        ),
        "*/statuses/*": lambda: client.set_status(sha, "pending", "Working"),
        "*/contents/*": lambda: client.file("README.md"),
    }

    with pytest.raises(Refused) as refused:
        await calls[path]()
    error = named(refused.value)

    assert error is not None
    assert (error.code, error.details) == ("permission_missing", {"permission": permission})
    assert f"`{permission}`" in error.message
    assert f"`{permission}`" in error.recovery_hint


async def test_the_double_refuses_as_it_is_read(
    github: GitHubDouble, there: Repository, ada: User, database: Database
) -> None:
    there.commit("topic", {"a.txt": "1"}, by=ada)
    there.actions_may_open_pulls = False
    token = github.actions_token(there, {"contents": "write", "pull-requests": "write"})
    noted = Refusals()
    async with github_by_token(github, database, token) as reach:
        client = await opened(reach, there)
        with pytest.raises(Refused) as pull:
            await client.create_pull("Round", "", "topic", "main", draft=True)
        with pytest.raises(Refused) as check:
            await client.create_check(
                there.head("main"), external_id="1", status="queued", conclusion=None, title="t", summary="s"
            )
    for number in range(2):
        noted.note(f"pull/{number}", pull.value)
        noted.note(f"check/{number}", check.value)

    assert [error.code for error in noted.errors] == ["pull_request_forbidden", "permission_missing"]
    assert "Allow GitHub Actions to create and approve pull requests" in noted.errors[0].recovery_hint
    noted.over("pull/0")
    noted.over("pull/1")
    assert [error.code for error in noted.errors] == ["permission_missing"]


def test_other_refusals_are_nobodys_to_grant() -> None:
    noted = Refusals()

    assert noted.note("comment", Refused(403, "Unable to create comment because issue is locked.")) is None
    assert noted.note("pull", Refused(422, "Validation Failed")) is None
    assert noted.errors == []
