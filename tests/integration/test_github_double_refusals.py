"""What the double refuses, in GitHub's words: bad tokens, missing rights, what a token may not see, broken rules."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import github as pygithub
import jwt
import pytest
from github import GithubException

from tests.github_double import GitHubDouble, Refused, Repository
from tests.github_double.clients import SteppedClock, app_client, client

Remote = pygithub.Repository.Repository


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def double(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path, clock=clock) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    made = double.repository("octo/billsplit", private=True)
    ada = double.person("ada")
    made.permit(ada, "write")
    made.open_issue(ada, "Round", "")
    made.commit("topic", {"x.txt": "1"}, by=ada)
    return made


@pytest.fixture
def remote(double: GitHubDouble, repository: Repository) -> Iterator[Remote]:
    with client(double, double.token(repository).text) as connected:
        yield connected.get_repo("octo/billsplit")


def refusal(act: Callable[[], Any]) -> GithubException:
    """Do something that GitHub refuses and return what it says."""
    with pytest.raises(GithubException) as caught:
        act()
    return caught.value


def test_unknown_token_is_bad_credentials(double: GitHubDouble, repository: Repository) -> None:
    with client(double, "ghs_unknown") as connected:
        said = refusal(lambda: connected.get_repo("octo/billsplit"))

    assert (said.status, said.data["message"]) == (401, "Bad credentials")


def test_installation_token_ends_after_an_hour(
    double: GitHubDouble, repository: Repository, remote: Remote, clock: SteppedClock
) -> None:
    clock.step(3599)
    assert remote.get_issue(1).number == 1

    clock.step(1)

    assert refusal(lambda: remote.get_issue(1)).status == 401


def test_revoked_tokens_are_bad_credentials(double: GitHubDouble, remote: Remote) -> None:
    double.revoke_tokens()

    assert refusal(lambda: remote.get_issue(1)).status == 401


def _signed(double: GitHubDouble, **claims: Any) -> str:
    now = int(time.time())
    usual = {"iat": now - 60, "exp": now + 300, "iss": str(double.app.id)}
    return jwt.encode(usual | claims, double.app.private_key_pem, algorithm="RS256")


@pytest.mark.parametrize(
    ("claims", "status", "says"),
    [
        ({"exp": int(time.time()) - 5}, 401, "'Expiration time' claim ('exp') must be a numeric value"),
        ({"exp": int(time.time()) + 3600}, 401, "too far in the future"),
        ({"iat": int(time.time()) + 600}, 401, "'Issued at' claim"),
        ({"iss": "4711"}, 404, "Integration not found"),
    ],
)
def test_app_token_that_is_not_valid_is_refused(
    double: GitHubDouble, claims: dict[str, Any], status: int, says: str
) -> None:
    with client(double, None) as connected:
        headers = {"Authorization": f"Bearer {_signed(double, **claims)}"}
        said = refusal(lambda: connected.requester.requestJsonAndCheck("GET", "/app", headers=headers))

    assert said.status == status
    assert says in said.data["message"]


def test_app_token_of_another_key_cannot_be_decoded(double: GitHubDouble) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with app_client(double, key=other.decode()) as app:
        said = refusal(app.get_app)

    assert (said.status, said.data["message"]) == (401, "A JSON web token could not be decoded")


def test_installation_token_is_no_app_token(double: GitHubDouble, repository: Repository) -> None:
    with client(double, double.token(repository).text) as connected:
        assert refusal(lambda: connected.requester.requestJsonAndCheck("GET", "/app")).status == 401


def test_token_with_more_than_the_app_has_is_refused(double: GitHubDouble, repository: Repository) -> None:
    del double.app.permissions["checks"]
    with app_client(double) as app:
        said = refusal(lambda: app.get_access_token(repository.installation_id, {"checks": "write"}))

    assert (said.status, said.data["message"]) == (
        422,
        "The permissions requested are not granted to this installation.",
    )


def test_token_for_a_repository_of_another_account_is_refused(double: GitHubDouble, repository: Repository) -> None:
    foreign = double.repository("mallory/other")
    with app_client(double) as app:
        path = f"/app/installations/{repository.installation_id}/access_tokens"
        body = {"repository_ids": [foreign.id]}
        said = refusal(lambda: app.requester.requestJsonAndCheck("POST", path, input=body))

    assert said.status == 422


def test_suspended_and_removed_installations_give_nothing(
    double: GitHubDouble, repository: Repository, remote: Remote
) -> None:
    number = repository.installation_id
    double.suspend(repository)
    assert refusal(lambda: remote.get_issue(1)).status == 403
    with app_client(double) as app:
        assert refusal(lambda: app.get_access_token(number)).status == 403
        double.unsuspend(repository)
        assert app.get_access_token(number).token

        double.uninstall(repository)

        assert refusal(lambda: app.get_access_token(number)).status == 404
        assert refusal(lambda: app.get_repo_installation("octo", "billsplit")).status == 404
    assert refusal(lambda: remote.get_issue(1)).status == 401


def test_token_does_not_see_a_repository_it_was_not_given(double: GitHubDouble, repository: Repository) -> None:
    other = double.repository("octo/other")
    with client(double, double.token(other).text) as connected:
        said = refusal(lambda: connected.get_repo("octo/billsplit"))

    assert (said.status, said.data["message"]) == (404, "Not Found")


@pytest.mark.parametrize(
    ("missing", "act"),
    [
        ("issues", lambda remote: remote.get_issue(1)),
        ("pull_requests", lambda remote: remote.create_pull(base="main", head="topic", title="x")),
        ("pull_requests", lambda remote: list(remote.get_pulls())),
        ("contents", lambda remote: remote.get_contents("README.md")),
        ("contents", lambda remote: remote.get_git_ref("heads/topic")),
        ("checks", lambda remote: remote.create_check_run("devflow", "0" * 40)),
        ("statuses", lambda remote: remote.get_commit("topic").create_status("success")),
    ],
)
def test_missing_permission_is_not_accessible(
    double: GitHubDouble, repository: Repository, missing: str, act: Callable[[Remote], Any]
) -> None:
    permissions = {name: level for name, level in double.app.permissions.items() if name != missing}
    if missing == "issues":
        del permissions["pull_requests"]

    with client(double, double.token(repository, **permissions).text) as connected:
        remote = connected.get_repo("octo/billsplit")
        said = refusal(lambda: act(remote))

    assert (said.status, said.data["message"]) == (403, "Resource not accessible by integration")
    assert missing in (said.headers or {})["x-accepted-github-permissions"]


def test_reading_permission_does_not_write(double: GitHubDouble, repository: Repository) -> None:
    with client(double, double.token(repository, issues="read").text) as connected:
        issue = connected.get_repo("octo/billsplit").get_issue(1)

        assert refusal(lambda: issue.create_comment("x")).status == 403


def test_check_run_needs_an_app_and_a_status_does_not(double: GitHubDouble, repository: Repository) -> None:
    sha = repository.head("topic")
    with client(double, double.pat(double.person("ada"))) as connected:
        remote = connected.get_repo("octo/billsplit")
        said = refusal(lambda: remote.create_check_run("devflow", sha))
        remote.get_commit(sha).create_status("success", context="devflow")
        assert connected.get_user().login == "ada"

    assert (said.status, said.data["message"]) == (403, "You must authenticate via a GitHub App.")
    assert repository.statuses(sha)[0].creator is double.person("ada")


def test_person_without_a_role_sees_no_private_repository(double: GitHubDouble, repository: Repository) -> None:
    with client(double, double.pat(double.person("bob"))) as connected:
        assert refusal(lambda: connected.get_repo("octo/billsplit")).status == 404


def test_nobody_reads_public_things_only(double: GitHubDouble, repository: Repository) -> None:
    double.repository("octo/open")
    with client(double, None) as connected:
        assert connected.get_repo("octo/open").name == "open"
        assert refusal(lambda: connected.get_repo("octo/billsplit")).status == 404
        assert refusal(lambda: connected.get_repo("octo/open").create_issue("x")).status == 401


def test_second_pull_request_of_a_branch_is_refused(repository: Repository, remote: Remote) -> None:
    remote.create_pull(base="main", head="topic", title="x")

    said = refusal(lambda: remote.create_pull(base="main", head="topic", title="x"))

    assert said.status == 422
    assert said.data["errors"][0]["message"] == "A pull request already exists for octo:topic."


def test_pull_request_without_commits_or_branch_is_refused(repository: Repository, remote: Remote) -> None:
    repository.git.set_ref("refs/heads/same", repository.head("main"))

    empty = refusal(lambda: remote.create_pull(base="main", head="same", title="x"))
    unknown = refusal(lambda: remote.create_pull(base="main", head="nowhere", title="x"))

    assert empty.data["errors"][0]["message"] == "No commits between main and same"
    assert unknown.data["errors"] == [{"resource": "PullRequest", "field": "head", "code": "invalid"}]


def test_drafts_are_refused_where_the_plan_has_none(repository: Repository, remote: Remote) -> None:
    repository.drafts = False

    said = refusal(lambda: remote.create_pull(base="main", head="topic", title="x", draft=True))

    assert (said.status, said.data["message"]) == (
        422,
        "Draft pull requests are not supported in this repository.",
    )
    assert remote.create_pull(base="main", head="topic", title="x").number == 2


def test_nobody_approves_their_own_pull_request(double: GitHubDouble, repository: Repository, remote: Remote) -> None:
    ada = double.person("ada")
    made = remote.create_pull(base="main", head="topic", title="x")
    repository.commit("other", {"y.txt": "1"}, by=ada)
    own = repository.open_pull(ada, "mine", "other")

    said = refusal(lambda: made.create_review(event="APPROVE"))
    with pytest.raises(Refused) as caught:
        own.review(ada, "approve")

    assert said.status == caught.value.status == 422
    assert said.data["errors"] == caught.value.errors == ["Review Can not approve your own pull request"]


def test_check_run_and_status_of_an_unknown_commit_are_refused(repository: Repository, remote: Remote) -> None:
    path = f"{remote.url}/statuses/{'1' * 40}"
    run = refusal(lambda: remote.create_check_run("devflow", "1" * 40))
    status = refusal(lambda: remote._requester.requestJsonAndCheck("POST", path, input={"state": "success"}))

    assert (run.status, run.data["message"]) == (422, f"No commit found for SHA: {'1' * 40}")
    assert status.status == 422


def test_texts_over_the_limits_are_refused(repository: Repository, remote: Remote) -> None:
    issue, sha = remote.get_issue(1), repository.head("topic")
    issue.create_comment("x" * 65_536)

    comment = refusal(lambda: issue.create_comment("x" * 65_537))
    pull = refusal(lambda: remote.create_pull(base="main", head="topic", title="x", body="x" * 65_537))
    run = refusal(lambda: remote.create_check_run("d", sha, output={"title": "t", "summary": "x" * 65_536}))
    description = refusal(lambda: remote.get_commit(sha).create_status("success", description="x" * 141))

    assert [each.status for each in (comment, pull, run, description)] == [422] * 4
    assert comment.data["errors"][0]["message"] == "Body is too long (maximum is 65536 characters)"


def test_what_is_gone_is_not_found(double: GitHubDouble, repository: Repository, remote: Remote) -> None:
    comment = repository.issues[0].comment(double.person("ada"), "x")
    repository.issues[0].delete_comment(double.person("ada"), comment)

    assert refusal(lambda: remote.get_issue(99)).status == 404
    assert refusal(lambda: remote.get_issue(1).get_comment(comment.id)).status == 404
    assert refusal(lambda: remote.get_contents("none.txt")).status == 404
    assert refusal(lambda: remote.get_contents("README.md", ref="nowhere")).status == 404
    assert refusal(lambda: remote.get_collaborator_permission("nobody")).status == 404
    assert refusal(lambda: remote.get_branch("nowhere")).status == 404
    issue = remote.get_issue(1)
    repository.delete()
    assert refusal(lambda: issue.create_comment("x")).status == 404


def test_archived_repository_takes_no_writes(repository: Repository, remote: Remote) -> None:
    repository.archive()

    assert remote.get_issue(1).number == 1
    assert refusal(lambda: remote.get_issue(1).create_comment("x")).status == 403


def test_merged_pull_request_is_not_opened_again(double: GitHubDouble, repository: Repository, remote: Remote) -> None:
    made = remote.create_pull(base="main", head="topic", title="x")
    repository.pulls[0].merge(double.person("ada"))

    assert refusal(lambda: made.edit(state="open")).status == 422


def test_deleting_a_branch_twice_is_refused(repository: Repository, remote: Remote) -> None:
    ref = remote.get_git_ref("heads/topic")
    ref.delete()

    said = refusal(ref.delete)

    assert (said.status, said.data["message"]) == (422, "Reference does not exist")


def test_unknown_api_version_is_refused(double: GitHubDouble) -> None:
    with client(double, None) as connected:
        headers = {"X-GitHub-Api-Version": "2020-01-01"}
        requester = connected.requester.withApiVersion(None)
        said = refusal(lambda: requester.requestJsonAndCheck("GET", "/users/ada", headers=headers))
        requester.close()

    assert said.status == 400
