"""The double's REST API through PyGithub: what the App may do is done, as GitHub does it and in GitHub's forms."""

from collections.abc import Iterator
from pathlib import Path

import github as pygithub
import pytest

from tests.github_double import GitHubDouble, Repository
from tests.github_double.clients import SteppedClock, app_client, client


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path, clock=SteppedClock()) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    made = double.repository("octo/billsplit", files={"README.md": "# Bills\n", "src/split.py": "print(1)\n"})
    made.permit(double.person("ada"), "maintain")
    return made


@pytest.fixture
def remote(double: GitHubDouble, repository: Repository) -> Iterator[pygithub.Repository.Repository]:
    with client(double, double.token(repository).text) as connected:
        yield connected.get_repo(repository.id)


@pytest.fixture
def pull(double: GitHubDouble, repository: Repository) -> int:
    repository.commit("devflow/1", {"spec.json": "{}"}, by=double.person("ada"))
    return repository.open_pull(double.app.bot, "Round", "devflow/1", body="Closes #1", draft=True).number


def test_app_finds_its_installation_and_gets_a_token_of_what_it_asked_for(
    double: GitHubDouble, repository: Repository
) -> None:
    with app_client(double) as app:
        installation = app.get_repo_installation("octo", "billsplit")
        _, token = app.requester.requestJsonAndCheck(
            "POST",
            f"/app/installations/{installation.id}/access_tokens",
            input={"repository_ids": [repository.id], "permissions": {"issues": "write"}},
        )
        assert app.get_app().slug == "devflow"
        assert app.get_app_installation(repository.installation_id).id == installation.id
        assert [each.id for each in app.get_installations()] == [installation.id]

    assert token["token"].startswith("ghs_")
    assert token["permissions"] == {"metadata": "read", "issues": "write"}
    with client(double, token["token"]) as connected:
        assert connected.get_repo("octo/billsplit").default_branch == "main"


def test_issue_is_read_commented_and_reacted_to(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    ada = double.person("ada")
    issue = repository.open_issue(ada, "Round the shares", "They lose a cent.")
    issue.label(ada, "devflow")
    comment = issue.comment(ada, "Please.")

    seen = remote.get_issue(1)
    posted = seen.create_comment("On it.")
    posted.edit("Working on it.")
    first, second = remote.get_issue(1).create_reaction("eyes"), remote.get_issue(1).create_reaction("eyes")
    seen.get_comment(comment.id).create_reaction("+1")

    assert [label.name for label in seen.labels] == ["devflow"]
    assert [each.body for each in seen.get_comments()] == ["Please.", "Working on it."]
    assert issue.comments[1].author is double.app.bot
    assert first.id == second.id == issue.reactions[0].id
    assert [each.status for each in double.calls("POST", "/issues/1/reactions")] == [201, 200]
    assert [each.content for each in comment.reactions] == ["+1"]
    assert [each.content for each in seen.get_comment(comment.id).get_reactions()] == ["+1"]
    posted.delete()
    assert [each.body for each in issue.comments] == ["Please."]


def test_labels_are_made_put_on_taken_off_and_their_events_told(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    repository.open_issue(double.person("ada"), "Round", "")

    remote.create_label("devflow:running", "1d76db", "A run is at work")
    seen = remote.get_issue(1)
    seen.add_to_labels("devflow:running", "devflow")
    seen.remove_from_labels("devflow")
    seen.set_labels("devflow:running", "done")
    label = remote.get_label("devflow:running")
    label.edit("devflow:working", "ededed", "Renamed")

    assert repository.issues[0].labels == ["devflow:working", "done"]
    assert [each.event for each in seen.get_events()] == ["labeled", "labeled", "unlabeled", "labeled"]
    assert [each.event for each in seen.get_timeline()][:2] == ["labeled", "labeled"]
    assert {each.name for each in remote.get_labels()} == {"devflow:working", "devflow", "done"}
    remote.get_label("done").delete()
    assert repository.issues[0].labels == ["devflow:working"]


def test_pull_request_is_opened_changed_listed_and_closed(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    repository.commit("devflow/1", {"spec.json": "{}"}, by=double.person("ada"))

    made = remote.create_pull(base="main", head="devflow/1", title="Round", body="Closes #1", draft=True)
    made.edit(body="Closes #1\n\nstate")
    found = list(remote.get_pulls(state="open", head="octo:devflow/1"))
    made.mark_ready_for_review()

    assert [each.number for each in found] == [made.number]
    assert (made.draft, made.commits, made.changed_files, made.additions) == (False, 1, 1, 1)
    assert repository.pulls[0].body == "Closes #1\n\nstate"
    assert repository.pulls[0].author is double.app.bot
    made.convert_to_draft()
    assert repository.pulls[0].draft
    made.edit(state="closed")
    assert repository.pulls[0].state == "closed"
    made.edit(state="open")
    assert repository.pulls[0].state == "open"


def test_reviews_come_in_upper_case_with_their_line_comments(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository, pull: int
) -> None:
    ada, on = double.person("ada"), repository.pulls[0]
    first = on.review(
        ada, "request_changes", "Not yet", comments=[("spec.json", 1, "Say why"), ("spec.json", 1, "And")]
    )
    old = on.head_sha
    repository.commit("devflow/1", {"spec.json": "{1}"}, by=ada)
    on.review(ada, "approve", commit_id=old)

    reviews = list(remote.get_pull(pull).get_reviews())

    assert [each.state for each in reviews] == ["CHANGES_REQUESTED", "APPROVED"]
    assert [each.commit_id for each in reviews] == [old, old] != [on.head_sha] * 2
    assert [each.body for each in remote.get_pull(pull).get_single_review_comments(first.id)] == ["Say why", "And"]
    assert remote.get_pull(pull).get_review(first.id).body == "Not yet"
    assert [each.path for each in remote.get_pull(pull).get_review_comments()] == ["spec.json", "spec.json"]
    reviewed = remote.get_pull(pull).create_review(body="Seen", event="COMMENT")
    assert on.reviews[-1].id == reviewed.id


def test_check_run_and_status_are_set_and_read(
    repository: Repository, remote: pygithub.Repository.Repository, pull: int
) -> None:
    sha = repository.pulls[0].head_sha

    run = remote.create_check_run(
        "devflow", sha, status="in_progress", external_id="run-1", output={"title": "Plan", "summary": "- spec: done"}
    )
    run.edit(status="completed", conclusion="success", output={"title": "Done", "summary": "all"})
    remote.get_commit(sha).create_status("pending", description="plan", context="devflow")
    remote.get_commit(sha).create_status("success", description="done", context="devflow")

    (kept,) = repository.checks(sha)
    assert (kept.status, kept.conclusion, kept.title, kept.external_id) == ("completed", "success", "Done", "run-1")
    assert [each.id for each in remote.get_commit("devflow/1").get_check_runs(check_name="devflow")] == [run.id]
    assert remote.get_check_run(run.id).pull_requests[0].number == pull
    assert remote.get_commit(sha).get_combined_status().state == "success"
    assert [each.state for each in remote.get_commit(sha).get_statuses()] == ["success", "pending"]


def test_files_branches_and_refs_are_read_and_a_branch_deleted(
    repository: Repository, remote: pygithub.Repository.Repository, pull: int
) -> None:
    assert remote.get_contents("src/split.py").decoded_content == b"print(1)\n"
    assert remote.get_contents("spec.json", ref="devflow/1").decoded_content == b"{}"
    assert [each.path for each in remote.get_contents("src")] == ["src/split.py"]
    assert {each.path for each in remote.get_contents("")} == {"README.md", "src"}
    assert remote.get_branch("devflow/1").commit.sha == repository.head("devflow/1")
    remote.get_git_ref("heads/devflow/1").delete()

    assert repository.branches().keys() == {"main"}
    assert repository.pulls[0].state == "closed"


@pytest.mark.parametrize(
    ("role", "permission"),
    [("none", "read"), ("triage", "read"), ("write", "write"), ("maintain", "write"), ("admin", "admin")],
)
def test_permission_has_its_old_name_beside_the_role(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository, role: str, permission: str
) -> None:
    bob = double.person("bob")
    if role != "none":
        repository.permit(bob, role)

    answer = remote._requester.requestJsonAndCheck("GET", f"{remote.url}/collaborators/bob/permission")[1]

    assert answer["permission"] == permission
    assert answer["role_name"] == ("read" if role == "none" else role)
    assert answer["user"]["id"] == bob.id
    assert answer["user"]["permissions"]["push"] == (role in ("write", "maintain", "admin"))


def test_stranger_has_no_permission_in_a_private_repository(double: GitHubDouble) -> None:
    hidden = double.repository("octo/hidden", private=True)
    double.person("bob")

    with client(double, double.token(hidden).text) as connected:
        assert connected.get_repo("octo/hidden").get_collaborator_permission("bob") == "none"


def test_lists_come_in_pages_that_links_lead_through(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    ada = double.person("ada")
    issue = repository.open_issue(ada, "Round", "")
    written = [issue.comment(ada, f"comment {number}").id for number in range(65)]

    seen = [each.id for each in remote.get_issue(1).get_comments()]

    assert seen == written == sorted(written)
    pages = double.calls("GET", "/issues/1/comments")
    assert [each.path for each in pages] == ["/repos/octo/billsplit/issues/1/comments"] + [
        f"/repositories/{repository.id}/issues/1/comments"
    ] * 2


def test_comments_since_a_time_are_those_changed_since_then(double: GitHubDouble, repository: Repository) -> None:
    clock, ada = double.world.clock, double.person("ada")
    assert isinstance(clock, SteppedClock)
    issue = repository.open_issue(ada, "Round", "")
    issue.comment(ada, "old")
    clock.step(60)
    since = clock.at
    issue.comment(ada, "new")

    with client(double, double.token(repository).text) as connected:
        remote = connected.get_repo("octo/billsplit")
        assert [each.body for each in remote.get_issue(1).get_comments(since=since)] == ["new"]
        assert [each.number for each in remote.get_issues(since=since, labels=[])] == [1]
        assert [each.body for each in remote.get_issues_comments()] == ["old", "new"]


def test_renamed_repository_is_found_under_its_old_name_and_its_id(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    repository.rename("octo/bills")

    with client(double, double.token(repository).text) as connected:
        assert connected.get_repo("octo/billsplit").full_name == "octo/bills"
        assert connected.get_repo(repository.id).name == "bills"


def test_merging_closes_the_issue_that_the_body_names(double: GitHubDouble, repository: Repository) -> None:
    ada = double.person("ada")
    issue = repository.open_issue(ada, "Round", "")
    repository.commit("topic", {"x.txt": "1"}, by=ada)
    pull = repository.open_pull(double.app.bot, "Round", "topic", body="Closes #1")

    pull.merge(ada)

    assert (pull.merged, pull.state, issue.state) == (True, "closed", "closed")
    assert repository.read("main", "x.txt") == "1"


def test_every_answer_carries_the_rate_limit_and_the_version(
    double: GitHubDouble, repository: Repository, remote: pygithub.Repository.Repository
) -> None:
    before = remote._requester.rate_limiting[0]
    headers, _ = remote._requester.requestJsonAndCheck("GET", remote.url)

    assert int(headers["x-ratelimit-remaining"]) == before - 1
    assert int(headers["x-ratelimit-reset"]) == int(double.world.now().timestamp()) + 3600
    assert headers["x-github-api-version-selected"] == "2026-03-10"
    assert headers["x-github-request-id"]
