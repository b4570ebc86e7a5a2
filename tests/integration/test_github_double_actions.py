"""The double as GitHub Actions: the tokens of jobs, the events that start them, and what can be found out later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github as pygithub
import pytest
import requests

from tests.github_double import GitHubDouble, Repository, User
from tests.github_double.clients import client, git

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    made = double.repository("octo/billsplit", private=True, install=False)
    made.permit(double.person("ada"), "write")
    return made


@pytest.fixture
def ada(double: GitHubDouble) -> User:
    return double.person("ada")


def ask(double: GitHubDouble, token: str, query: str, **variables: Any) -> Any:
    body = {"query": query, "variables": variables}
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "tests"}
    return requests.post(double.graphql_url, json=body, headers=headers, timeout=10).json()


def test_a_jobs_token_acts_as_github_actions(double: GitHubDouble, repository: Repository, ada: User) -> None:
    issue = repository.open_issue(ada, "Round")

    with client(double, double.actions_token(repository).text) as gh:
        there = gh.get_repo("octo/billsplit")
        there.get_issue(1).create_comment("Done.")
        check = there.create_check_run("devflow", repository.head("main"), external_id="run/1")

    (comment,) = issue.comments
    assert (comment.author.login, comment.author.type) == ("github-actions[bot]", "Bot")
    assert check.app.slug == "github-actions"
    assert {each.token_kind for each in double.requests} == {"actions"}


def test_a_jobs_token_has_the_permissions_of_its_workflow_and_no_others(
    double: GitHubDouble, repository: Repository, ada: User
) -> None:
    repository.open_issue(ada, "Round")
    token = double.actions_token(repository, {"issues": "read", "pull-requests": "read"})

    with client(double, token.text) as gh:
        there = gh.get_repo("octo/billsplit")
        assert there.get_issue(1).title == "Round"
        with pytest.raises(pygithub.GithubException) as refused:
            there.get_issue(1).create_comment("Done.")

    assert refused.value.status == 403
    assert refused.value.data["message"] == "Resource not accessible by integration"
    assert (refused.value.headers or {})["x-accepted-github-permissions"] == "issues=write; pull_requests=write"


def test_a_jobs_token_reaches_its_own_repository_only(double: GitHubDouble, repository: Repository) -> None:
    double.repository("octo/other", private=True, install=False)

    with client(double, double.actions_token(repository).text) as gh, pytest.raises(pygithub.UnknownObjectException):
        gh.get_repo("octo/other")


def test_actions_open_pull_requests_only_where_the_setting_allows_it(
    double: GitHubDouble, repository: Repository, ada: User
) -> None:
    repository.commit("topic", {"a.txt": "1"}, by=ada)
    repository.actions_may_open_pulls = False

    with client(double, double.actions_token(repository).text) as gh:
        there = gh.get_repo("octo/billsplit")
        with pytest.raises(pygithub.GithubException) as refused:
            there.create_pull("main", "topic", title="Round", body="")
        repository.actions_may_open_pulls = True
        made = there.create_pull("main", "topic", title="Round", body="")

    assert (refused.value.status, refused.value.data["message"]) == (
        403,
        "GitHub Actions is not permitted to create or approve pull requests.",
    )
    assert made.user.login == "github-actions[bot]"


def test_a_check_run_is_changed_by_the_app_that_made_it_alone(double: GitHubDouble, repository: Repository) -> None:
    double.install(repository)
    with client(double, double.token(repository).text) as gh:
        made = gh.get_repo("octo/billsplit").create_check_run("devflow", repository.head("main"))

    with (
        client(double, double.actions_token(repository).text) as gh,
        pytest.raises(pygithub.GithubException, match="Invalid app_id"),
    ):
        gh.get_repo("octo/billsplit").get_check_run(made.id).edit(status="in_progress")


# What starts workflows


def test_what_people_do_starts_workflows_with_the_payload_of_the_webhook(
    double: GitHubDouble, repository: Repository, ada: User
) -> None:
    started: Events = []
    double.on_workflow_event = lambda event, payload: started.append((event, payload))
    double.install(repository)

    issue = repository.open_issue(ada, "Round")
    issue.label(ada, "devflow")
    issue.comment(ada, "/approve")
    repository.commit("topic", {"a.txt": "1"}, by=ada)
    pull = repository.open_pull(ada, "Round", "topic")
    pull.review(repository.owner, "approve")

    assert [(event, payload.get("action")) for event, payload in started] == [
        ("issues", "opened"),
        ("issues", "labeled"),
        ("issue_comment", "created"),
        ("create", None),
        ("push", None),
        ("pull_request", "opened"),
        ("pull_request_review", "submitted"),
    ]
    told = [each.payload for each in double.deliveries if each.event not in ("installation",)]
    assert [payload for _, payload in started] == [
        {name: part for name, part in payload.items() if name != "installation"} for payload in told
    ]


def test_workflows_are_started_where_no_app_is(double: GitHubDouble, repository: Repository, ada: User) -> None:
    started: Events = []
    double.on_workflow_event = lambda event, payload: started.append((event, payload))

    repository.open_issue(ada, "Round")

    assert [event for event, _ in started] == ["issues"]
    assert "installation" not in started[0][1]
    assert double.deliveries == []


def test_what_a_job_does_by_its_token_starts_no_workflow_but_is_told_to_apps(
    double: GitHubDouble, repository: Repository, ada: User, tmp_path: Path
) -> None:
    double.install(repository)
    repository.open_issue(ada, "Round")
    started: Events = []
    double.on_workflow_event = lambda event, payload: started.append((event, payload))
    token = double.actions_token(repository).text

    with client(double, token) as gh:
        gh.get_repo("octo/billsplit").get_issue(1).create_comment("/approve")
    git(tmp_path, "clone", "-q", f"{double.server_url}/octo/billsplit.git", "work", token=token)
    git(tmp_path / "work", "push", "-q", "origin", "HEAD:refs/heads/topic", token=token)

    assert started == []
    assert [each.event for each in double.deliveries][-3:] == ["issue_comment", "create", "push"]
    assert double.deliveries[-1].payload["sender"]["login"] == "github-actions[bot]"


def test_what_a_persons_token_does_starts_workflows(double: GitHubDouble, repository: Repository, ada: User) -> None:
    repository.open_issue(ada, "Round")
    started: Events = []
    double.on_workflow_event = lambda event, payload: started.append((event, payload))

    with client(double, double.personal_token(ada).text) as gh:
        gh.get_repo("octo/billsplit").get_issue(1).create_comment("Hello")

    assert [(event, payload["sender"]["login"]) for event, payload in started] == [("issue_comment", "ada")]


# People's tokens


def test_a_persons_token_may_be_for_some_permissions_and_repositories_only(
    double: GitHubDouble, repository: Repository, ada: User
) -> None:
    other = double.repository("octo/other", private=True, install=False)
    other.permit(ada, "write")
    repository.open_issue(ada, "Round")
    token = double.personal_token(ada, repository, permissions={"issues": "read"})

    with client(double, token.text) as gh:
        with pytest.raises(pygithub.UnknownObjectException):
            gh.get_repo("octo/other")
        with pytest.raises(pygithub.GithubException) as refused:
            gh.get_repo("octo/billsplit").get_issue(1).create_comment("Hello")

    assert refused.value.data["message"] == "Resource not accessible by personal access token"


# What can be found out later


@pytest.mark.parametrize("kind", ["actions", "app", "person"])
def test_whoever_asks_learns_who_they_are(double: GitHubDouble, repository: Repository, ada: User, kind: str) -> None:
    double.install(repository)
    tokens = {
        "actions": double.actions_token(repository),
        "app": double.token(repository),
        "person": double.personal_token(ada),
    }

    answer = ask(double, tokens[kind].text, "query { viewer { login databaseId } }")

    who = {"actions": double.world.actions.bot, "app": double.app.bot, "person": ada}[kind]
    assert answer == {"data": {"viewer": {"login": who.login, "databaseId": who.id}}}
    assert answer["data"]["viewer"]["login"].endswith("[bot]") is (kind != "person")


def test_a_comment_says_when_and_by_whom_it_was_edited(double: GitHubDouble, repository: Repository, ada: User) -> None:
    issue = repository.open_issue(ada, "Round")
    untouched, edited = issue.comment(ada, "/approve"), issue.comment(ada, "Hello")
    issue.edit_comment(repository.owner, edited, "/approve")
    query = """query Comments($ids: [ID!]!) {
      nodes(ids: $ids) { id ... on IssueComment { lastEditedAt editor { __typename login } } }
    }"""

    ids = [untouched.node_id, edited.node_id]
    answer = ask(double, double.actions_token(repository).text, query, ids=ids)

    assert answer["data"]["nodes"][0] == {"id": ids[0], "lastEditedAt": None, "editor": None}
    assert answer["data"]["nodes"][1]["lastEditedAt"] is not None
    assert answer["data"]["nodes"][1]["editor"] == {"__typename": "User", "login": "octo"}


def test_the_events_of_an_issue_tell_who_put_a_label_on(
    double: GitHubDouble, repository: Repository, ada: User
) -> None:
    repository.open_issue(ada, "Round").label(ada, "devflow")

    with client(double, double.actions_token(repository).text) as gh:
        (event,) = gh.get_repo("octo/billsplit").get_issue(1).get_events()

    assert (event.event, event.actor.login, event.label.name) == ("labeled", "ada", "devflow")


def test_a_dismissed_review_is_told_with_what_it_was(double: GitHubDouble, repository: Repository, ada: User) -> None:
    repository.commit("topic", {"a.txt": "1"}, by=ada)
    pull = repository.open_pull(ada, "Round", "topic")
    review = pull.review(repository.owner, "approve")

    with client(double, double.personal_token(ada).text) as gh:
        there = gh.get_repo("octo/billsplit")
        there.get_pull(pull.number).get_review(review.id).dismiss("Too early")
        (event,) = [each for each in there.get_issue(pull.number).get_events() if each.event == "review_dismissed"]

    assert review.state == "DISMISSED"
    assert event.dismissed_review == {
        "state": "approved",
        "review_id": review.id,
        "dismissal_message": "Too early",
    }


def test_refs_that_are_no_branches_are_pushed_listed_fetched_and_deleted(
    double: GitHubDouble, repository: Repository, tmp_path: Path
) -> None:
    started: Events = []
    double.on_workflow_event = lambda event, payload: started.append((event, payload))
    token = double.actions_token(repository).text
    url = f"{double.server_url}/octo/billsplit.git"
    git(tmp_path, "clone", "-q", url, "work", token=token)

    git(tmp_path / "work", "push", "-q", "origin", "HEAD:refs/devflow/state/7", token=token)
    listed = git(tmp_path / "work", "ls-remote", "origin", "refs/devflow/*", token=token).stdout.split()
    git(tmp_path / "work", "fetch", "-q", "origin", "refs/devflow/state/7:refs/here", token=token)
    with client(double, token) as gh:
        found = [each.ref for each in gh.get_repo("octo/billsplit").get_git_matching_refs("devflow/state/")]

    assert listed == [repository.head("main"), "refs/devflow/state/7"]
    assert found == ["refs/devflow/state/7"]
    assert (started, repository.branches().keys()) == ([], {"main"})
    git(tmp_path / "work", "push", "-q", "origin", ":refs/devflow/state/7", token=token)
    assert git(tmp_path / "work", "ls-remote", "origin", "refs/devflow/*", token=token).stdout == ""


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_says_who_can_see_it(double: GitHubDouble, private: bool) -> None:
    made = double.repository("octo/secret", private=private, install=False)

    with client(double, double.actions_token(made).text) as gh:
        there = gh.get_repo("octo/secret")

    assert (there.private, there.visibility) == (private, "private" if private else "public")
