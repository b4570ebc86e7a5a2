"""What the double tells by webhook: signed, in order, held and released, delivered again, all as GitHub writes it."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.github_double import GitHubDouble, Repository
from tests.github_double.administration import change_default_branch, delete_label, transfer, unarchive
from tests.github_double.clients import Receiver, SteppedClock, app_client, client, git

EVERY_EVENT = ["check_run", "status"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def double(tmp_path: Path, receiver: Receiver) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", webhook_secret="s3cret", clock=SteppedClock()) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble, receiver: Receiver) -> Repository:
    made = double.repository("octo/billsplit")
    double.webhook_url = receiver.url
    return made


def test_delivery_is_signed_and_names_the_app(double: GitHubDouble, repository: Repository, receiver: Receiver) -> None:
    repository.open_issue(double.person("ada"), "Round", "Ünïcode")
    double.wait_deliveries()

    headers, body = receiver.received[0]
    wanted = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == wanted
    assert headers["X-GitHub-Event"] == "issues"
    assert headers["X-GitHub-Delivery"] == double.deliveries[-1].guid
    assert headers["X-GitHub-Hook-Installation-Target-ID"] == str(double.app.id)
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "integration"
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert headers["Content-Type"] == "application/json"
    payload = double.deliveries[-1].payload
    assert payload["installation"]["id"] == repository.installation_id
    assert (payload["action"], payload["sender"]["login"]) == ("opened", "ada")
    assert payload["repository"]["id"] == repository.id
    assert (double.deliveries[-1].status_code, double.deliveries[-1].answer) == (202, "ok")


def test_everything_that_happens_is_told_and_fits_the_schemas(
    double: GitHubDouble, repository: Repository, tmp_path: Path
) -> None:
    double.webhook_url = None
    double.app.events += EVERY_EVENT
    ada, bob, begin = double.person("ada"), double.person("bob"), len(double.deliveries)
    issue = repository.open_issue(ada, "Round", "")
    issue.label(ada, "devflow")
    issue.unlabel(ada, "devflow")
    issue.edit(ada, title="Round up", body="please")
    comment = issue.comment(bob, "/approve")
    issue.edit_comment(bob, comment, "/reject")
    issue.delete_comment(bob, comment)
    issue.close(ada)
    issue.reopen(ada)
    first = repository.commit("topic", {"a.txt": "1\n", "b.txt": "2\n"}, by=ada)
    with client(double, double.token(repository).text) as connected:
        remote = connected.get_repo("octo/billsplit")
        remote.create_pull(base="main", head="topic", title="P", body="Closes #1", draft=True)
        remote.get_issue(1).create_comment("Working on it.")
        run = remote.create_check_run("devflow", first, status="in_progress", output={"title": "t", "summary": "s"})
        run.edit(status="completed", conclusion="success")
        remote.get_commit(first).create_status("success", context="devflow")
    pull = repository.pulls[0]
    pull.ready_for_review(double.app.bot)
    pull.convert_to_draft(ada)
    pull.ready_for_review(ada)
    review = pull.review(bob, "request_changes", "no", comments=[("a.txt", 1, "why")])
    pull.edit_review(bob, review, "no, really")
    pull.dismiss_review(ada, review)
    pull.review(bob, "approve")
    pull.review(bob, "comment", "by the way")
    pull.comment(bob, "/approve")
    pull.label(ada, "big")
    pull.unlabel(ada, "big")
    pull.edit(ada, title="Q")
    repository.commit("topic", {"b.txt": None}, by=ada)
    pull.close(ada)
    pull.reopen(ada)
    pull.merge(ada)
    repository.delete_branch("topic", by=ada)
    repository.rename("octo/bills")
    other = double.repository("octo/other")
    double.uninstall(other)
    double.suspend(repository)
    double.unsuspend(repository)
    repository.archive()
    repository.delete()

    told = [f"{each.event}.{each.action}" for each in double.deliveries[begin:]]
    assert told == [
        "issues.opened", "issues.labeled", "issues.unlabeled", "issues.edited",
        "issue_comment.created", "issue_comment.edited", "issue_comment.deleted", "issues.closed", "issues.reopened",
        "create.None", "push.None", "pull_request.opened", "issue_comment.created",
        "check_run.created", "check_run.completed", "status.None",
        "pull_request.ready_for_review", "pull_request.converted_to_draft", "pull_request.ready_for_review",
        "pull_request_review.submitted", "pull_request_review_comment.created", "pull_request_review.edited",
        "pull_request_review.dismissed", "pull_request_review.submitted", "pull_request_review.submitted",
        "issue_comment.created", "pull_request.labeled", "pull_request.unlabeled", "pull_request.edited",
        "push.None", "pull_request.synchronize", "pull_request.closed", "pull_request.reopened",
        "pull_request.closed", "push.None", "issues.closed", "delete.None", "push.None", "repository.renamed",
        "installation_repositories.added", "installation_repositories.removed",
        "installation.suspend", "installation.unsuspend", "repository.archived", "repository.deleted",
    ]  # fmt: skip


def test_what_an_owner_does_to_the_whole_is_told_and_a_transfer_may_cost_the_app_the_repository(
    double: GitHubDouble, repository: Repository
) -> None:
    double.webhook_url = None
    ada = double.person("ada")
    issue = repository.open_issue(ada, "Round", "", labels=("big",))
    repository.commit("topic", {"a.txt": "1"}, by=ada)
    pull = repository.open_pull(ada, "P", "topic")
    heir = double.repository("heirs/theirs").owner
    begin = len(double.deliveries)

    delete_label(repository, "big", ada)
    change_default_branch(repository, "topic", ada)
    pull.change_base(ada, "topic")
    repository.archive(ada)
    unarchive(repository, ada)
    transfer(repository, heir, ada)
    transfer(repository, double.person("nobody"), heir)

    told = double.deliveries[begin:]
    assert [f"{each.event}.{each.action}" for each in told] == [
        "issues.unlabeled", "repository.edited", "pull_request.edited", "repository.archived", "repository.unarchived",
        "repository.transferred", "installation_repositories.removed",
    ]  # fmt: skip
    assert (issue.labels, "label" in told[0].payload) == ([], False)
    assert (told[5].payload["repository"]["full_name"], repository.installation) == ("heirs/billsplit", None)
    assert told[5].installation_id == told[6].installation_id


def test_review_states_are_in_lower_case(double: GitHubDouble, repository: Repository) -> None:
    bob = double.person("bob")
    repository.commit("topic", {"a.txt": "1"}, by=bob)
    pull = repository.open_pull(double.app.bot, "P", "topic")

    pull.review(bob, "approve")
    pull.review(bob, "request_changes", "no")
    review = pull.review(bob, "comment", "hm")

    states = [each.payload["review"]["state"] for each in double.deliveries if each.event == "pull_request_review"]
    assert states == ["approved", "changes_requested", "commented"]
    assert review.state == "COMMENTED"


def test_comment_on_a_pull_request_says_so_and_the_bot_is_marked(double: GitHubDouble, repository: Repository) -> None:
    repository.commit("topic", {"a.txt": "1"}, by=double.person("ada"))
    pull = repository.open_pull(double.app.bot, "P", "topic")

    pull.comment(double.app.bot, "status")

    told = double.deliveries[-1].payload
    assert told["issue"]["pull_request"]["url"].endswith("/pulls/1")
    assert (told["sender"]["login"], told["sender"]["type"]) == ("devflow[bot]", "Bot")
    assert told["comment"]["performed_via_github_app"]["id"] == double.app.id


def test_acting_does_not_wait_for_a_slow_server(
    double: GitHubDouble, repository: Repository, receiver: Receiver
) -> None:
    receiver.open.clear()
    issue = repository.open_issue(double.person("ada"), "Round", "")

    issue.label(double.person("ada"), "devflow")

    with pytest.raises(TimeoutError):
        double.wait_deliveries(timeout=0.05)
    receiver.open.set()
    double.wait_deliveries()
    assert [each.action for each in double.deliveries[-2:]] == ["opened", "labeled"]
    assert len(receiver.received) == 2


def test_held_deliveries_are_released_in_any_order(
    double: GitHubDouble, repository: Repository, receiver: Receiver
) -> None:
    double.hold()
    issue = repository.open_issue(double.person("ada"), "Round", "")
    issue.label(double.person("ada"), "devflow")
    issue.close(double.person("ada"))
    assert [each.action for each in double.held] == ["opened", "labeled", "closed"]

    double.release([2, 0])
    double.wait_deliveries()
    assert [each.action for each in double.held] == ["labeled"]
    issue.reopen(double.person("ada"))
    double.release()
    issue.comment(double.person("ada"), "hello")
    double.wait_deliveries()

    guids = [headers["X-GitHub-Delivery"] for headers, _ in receiver.received]
    actions = [next(each.action for each in double.deliveries if each.guid == guid) for guid in guids]
    assert actions == ["closed", "opened", "labeled", "reopened", "created"]


def test_redelivery_has_the_same_bytes_and_guid_or_a_new_one(
    double: GitHubDouble, repository: Repository, receiver: Receiver
) -> None:
    repository.open_issue(double.person("ada"), "Round", "")
    first = double.deliveries[-1]

    double.redeliver(first)
    double.redeliver(first, new_guid=True)
    double.wait_deliveries()

    guids = [headers["X-GitHub-Delivery"] for headers, _ in receiver.received]
    assert guids[0] == guids[1] != guids[2]
    assert len({body for _, body in receiver.received}) == 1


def test_app_lists_what_failed_and_asks_for_it_again(
    double: GitHubDouble, repository: Repository, receiver: Receiver
) -> None:
    receiver.statuses = [503]
    issue = repository.open_issue(double.person("ada"), "Round", "")
    for number in range(4):
        issue.comment(double.person("ada"), str(number))
    double.wait_deliveries()

    with app_client(double) as app:
        deliveries = list(_deliveries(app, per_page=2))
        failed = next(each for each in deliveries if each["status_code"] == 503)
        whole = app.requester.requestJsonAndCheck("GET", f"/app/hook/deliveries/{failed['id']}")[1]
        app.requester.requestJsonAndCheck("POST", f"/app/hook/deliveries/{failed['id']}/attempts")
        double.wait_deliveries()
        newest = app.requester.requestJsonAndCheck("GET", "/app/hook/deliveries")[1][0]

    assert [each["event"] for each in deliveries] == ["issue_comment"] * 4 + ["issues"]
    assert whole["request"]["payload"]["action"] == "opened"
    assert whole["request"]["headers"]["X-GitHub-Event"] == "issues"
    assert (newest["guid"], newest["redelivery"], newest["status"]) == (failed["guid"], True, "OK")
    assert receiver.received[-1][1] == receiver.received[0][1]


def _deliveries(app, per_page):
    address = f"/app/hook/deliveries?per_page={per_page}"
    while address:
        headers, rows = app.requester.requestJsonAndCheck("GET", address)
        yield from rows
        address = headers.get("link", "").partition("<")[2].partition(">")[0]


def test_delivery_that_nobody_took_is_kept_with_its_failure(double: GitHubDouble, repository: Repository) -> None:
    double.webhook_url = "http://127.0.0.1:9/webhooks/github"
    repository.open_issue(double.person("ada"), "Round", "")
    double.wait_deliveries()

    assert double.deliveries[-1].status_code == 502
    assert double.deliveries[-1].status == "failed to connect to host"


def test_without_an_address_deliveries_are_kept_unsent(double: GitHubDouble, repository: Repository) -> None:
    double.webhook_url = None
    repository.open_issue(double.person("ada"), "Round", "")
    double.wait_deliveries()

    assert double.deliveries[-1].action == "opened"
    assert double.deliveries[-1].status_code is None


def test_events_without_subscription_or_installation_are_not_told(double: GitHubDouble, repository: Repository) -> None:
    double.webhook_url = None
    double.app.events.remove("issues")
    before = len(double.deliveries)
    issue = repository.open_issue(double.person("ada"), "Round", "")
    assert len(double.deliveries) == before

    double.uninstall(repository)
    issue.comment(double.person("ada"), "x")

    assert double.deliveries[-1].event == "installation"


def test_hand_made_delivery_is_sent_as_it_is(double: GitHubDouble, repository: Repository, receiver: Receiver) -> None:
    double.send("issues", {}, body=b"no json", guid="g-1", headers={"X-Hub-Signature-256": "sha256=0"})
    double.wait_deliveries()

    headers, body = receiver.received[-1]
    assert (body, headers["X-GitHub-Delivery"], headers["X-Hub-Signature-256"]) == (b"no json", "g-1", "sha256=0")


def test_push_by_git_is_told_before_the_push_is_answered(
    double: GitHubDouble, repository: Repository, receiver: Receiver, tmp_path: Path
) -> None:
    token = double.token(repository).text
    git(tmp_path, "clone", "-q", f"{double.server_url}/octo/billsplit.git", "work", token=token)

    git(tmp_path / "work", "push", "-q", "origin", "HEAD:refs/heads/x", token=token)

    assert [each.event for each in double.deliveries[-2:]] == ["create", "push"]
    double.wait_deliveries()
    assert receiver.events == ["create", "push"]
