"""What can go wrong on the double: planned answers, delays and drops, outages, rate limits; and its start and stop."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import github as pygithub
import pytest
import requests
from github import GithubException, RateLimitExceededException

from tests.github_double import GitHubDouble, Repository
from tests.github_double.clients import Receiver, SteppedClock, client, git

Remote = pygithub.Repository.Repository


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def double(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", clock=clock) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    made = double.repository("octo/billsplit")
    made.open_issue(double.person("ada"), "Round", "")
    return made


@pytest.fixture
def remote(double: GitHubDouble, repository: Repository) -> Iterator[Remote]:
    with client(double, double.token(repository).text) as connected:
        yield connected.get_repo(repository.id)


def test_planned_status_is_answered_so_often_and_nothing_is_done(
    double: GitHubDouble, repository: Repository, remote: Remote
) -> None:
    issue = remote.get_issue(1)
    plan = double.plan("POST", "/repos/*/issues/*/comments", times=2, status=502, headers={"X-Seen": "1"})

    for _ in range(2):
        with pytest.raises(GithubException) as caught:
            issue.create_comment("x")
        assert caught.value.status == 502
        assert (caught.value.headers or {})["x-seen"] == "1"
    issue.create_comment("y")

    assert plan.hits == 2
    assert [each.body for each in repository.issues[0].comments] == ["y"]
    assert [each.status for each in double.calls("POST", "/comments")] == [502, 502, 201]


def test_plan_holds_for_a_repository_by_name_and_by_id(double: GitHubDouble, repository: Repository) -> None:
    token = double.token(repository).text
    headers = {"Authorization": f"token {token}"}
    double.plan("GET", f"/repositories/{repository.id}/issues/1", status=500)
    double.plan("GET", "/repos/octo/billsplit/labels", status=501)

    by_name = requests.get(f"{double.api_url}/repos/octo/billsplit/issues/1", headers=headers, timeout=60)
    by_id = requests.get(f"{double.api_url}/repositories/{repository.id}/labels", headers=headers, timeout=60)

    assert (by_name.status_code, by_id.status_code) == (500, 501)


def test_plan_may_choose_by_body_and_let_some_through(
    double: GitHubDouble, repository: Repository, remote: Remote
) -> None:
    double.plan("POST", "*/comments", status=422, body={"message": "no"}, contains="second", skip=1)
    issue = remote.get_issue(1)

    issue.create_comment("first")
    issue.create_comment("second")
    with pytest.raises(GithubException) as caught:
        issue.create_comment("second")

    assert (caught.value.status, caught.value.data) == (422, {"message": "no"})


def test_answer_dropped_before_leaves_nothing_and_after_leaves_it_done(
    double: GitHubDouble, repository: Repository, remote: Remote
) -> None:
    issue = remote.get_issue(1)
    double.plan("POST", "*/comments", drop="before")
    double.plan("POST", "*/comments", drop="after")

    for text in ("before", "after"):
        with pytest.raises(requests.ConnectionError):
            issue.create_comment(text)

    assert [each.body for each in repository.issues[0].comments] == ["after"]
    assert [each.status for each in double.calls("POST", "/comments")] == [0, 0]
    assert remote.get_issue(1).comments == 1


def test_push_dropped_after_it_was_done_has_moved_the_branch(
    double: GitHubDouble, repository: Repository, tmp_path: Path
) -> None:
    token = double.token(repository).text
    git(tmp_path, "clone", "-q", f"{double.server_url}/octo/billsplit.git", "work", token=token)
    double.plan("POST", "/octo/billsplit.git/git-receive-pack", drop="after")

    done = git(tmp_path / "work", "push", "-q", "origin", "HEAD:refs/heads/x", token=token, check=False)

    assert done.returncode != 0
    assert "x" in repository.branches()


def test_delay_keeps_one_answer_and_no_other(double: GitHubDouble, repository: Repository) -> None:
    double.plan("GET", "*/issues/1", delay=0.4)
    headers = {"Authorization": f"token {double.token(repository).text}"}
    url = f"{double.api_url}/repos/octo/billsplit"
    slow = threading.Thread(target=lambda: requests.get(f"{url}/issues/1", headers=headers, timeout=60))
    began = time.monotonic()
    slow.start()

    assert requests.get(f"{url}/labels", headers=headers, timeout=60).status_code == 200
    quick = time.monotonic() - began
    slow.join()

    assert quick < 0.4 <= time.monotonic() - began


def test_unserved_endpoint_is_not_found_and_the_check_at_the_end_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="the double does not serve /gists"),
        GitHubDouble(tmp_path) as double,
    ):
        assert requests.get(f"{double.api_url}/gists", timeout=60).status_code == 404


def test_outage_answers_everything_alike_until_it_ends(
    double: GitHubDouble, repository: Repository, remote: Remote, tmp_path: Path
) -> None:
    double.down(503)
    with pytest.raises(GithubException) as caught:
        remote.get_issue(1)
    assert caught.value.status == 503
    assert "503" in git(tmp_path, "ls-remote", f"{double.server_url}/octo/billsplit.git", check=False).stderr

    double.down(refuse=True)
    with pytest.raises(requests.ConnectionError):
        remote.get_issue(1)

    double.up()
    assert remote.get_issue(1).number == 1


def test_primary_limit_refuses_until_it_is_reset(
    double: GitHubDouble, repository: Repository, remote: Remote, clock: SteppedClock
) -> None:
    double.limit(remaining=1, reset_in=600)
    remote.get_issue(1)

    with pytest.raises(RateLimitExceededException) as caught:
        remote.get_issue(1)

    headers = caught.value.headers or {}
    assert caught.value.status == 403
    assert headers["x-ratelimit-remaining"] == "0"
    assert int(headers["x-ratelimit-reset"]) == int(double.world.now().timestamp()) + 600
    clock.step(600)
    assert remote.get_issue(1).number == 1
    assert remote._requester.rate_limiting == (4999, 5000)


@pytest.mark.parametrize("status", [403, 429])
def test_secondary_limit_says_how_long_to_wait(
    double: GitHubDouble, repository: Repository, remote: Remote, clock: SteppedClock, status: int
) -> None:
    issue = remote.get_issue(1)
    double.limit_secondary(retry_after=30, status=status)

    with pytest.raises(GithubException) as caught:
        issue.create_comment("x")

    assert caught.value.status == status
    assert caught.value.data["message"].startswith("You have exceeded a secondary rate limit")
    assert (caught.value.headers or {})["retry-after"] == "30"
    assert remote.get_issue(1).comments == 0
    clock.step(30)
    issue.create_comment("x")


def test_too_many_writes_a_minute_meet_the_secondary_limit(
    double: GitHubDouble, repository: Repository, remote: Remote, clock: SteppedClock
) -> None:
    double.limit_writes(2)
    issue = remote.get_issue(1)
    issue.create_comment("1")
    clock.step(20)
    issue.create_comment("2")

    with pytest.raises(RateLimitExceededException) as caught:
        issue.create_comment("3")

    assert (caught.value.headers or {})["retry-after"] == "40"
    clock.step(40)
    issue.create_comment("3")


def test_two_doubles_run_beside_each_other(tmp_path: Path) -> None:
    with GitHubDouble(tmp_path / "a") as first, GitHubDouble(tmp_path / "b") as second:
        assert first.api_url != second.api_url
        assert requests.get(f"{first.api_url}/users/ada", timeout=60).status_code == 404


def test_stopping_leaves_no_thread_and_no_listener_though_an_answer_hangs(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    double = GitHubDouble(tmp_path).start()
    double.plan(delay=60)
    port = int(double.server_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as hanging:
        hanging.sendall(b"GET /api/v3/app HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n")
        while not double.requests:
            time.sleep(0.005)

        double.stop()
        double.stop()

    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_stopping_does_not_wait_for_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with Receiver() as receiver, GitHubDouble(tmp_path, receiver.url) as double:
        receiver.open.clear()
        double.repository("octo/billsplit")
        while not receiver.received:
            time.sleep(0.005)
        began = time.monotonic()

        double.stop()

        assert time.monotonic() - began < 5


def test_double_starts_quickly(tmp_path: Path) -> None:
    GitHubDouble(tmp_path / "warm").stop()
    began = time.process_time()  # the machine may be busy with other tests

    with GitHubDouble(tmp_path / "cold"):
        assert time.process_time() - began < 0.15
